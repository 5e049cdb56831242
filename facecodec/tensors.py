"""The type, shape and range of each tensor of a model, checked before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from facecodec.text import printable


@dataclass(frozen=True)
class Tensor:
    """The type, shape and range that a tensor must have.

    Each side of the shape is a number, None for any number, or a name that stands for the same
    number in all tensors.
    """

    dtype: str
    shape: tuple[int | str | None, ...]
    least: float = -np.inf
    most: float = np.inf


GRAPH = Tensor("uint8", (None,))  # the bytes of an ONNX file
REACH = Tensor("uint8", (1,), 0, 64)  # how many positions to each side a graph looks at


def graphs(tensors: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, Tensor]:
    """Returns what a model's graphs must be, and their reach where given: older models lack it."""
    return {f"{name}.onnx": GRAPH for name in names} | {
        f"{name}.reach": REACH for name in names if f"{name}.reach" in tensors
    }


def check(tensors: Mapping[str, np.ndarray], expected: Mapping[str, Tensor]) -> None:
    """Raises ValueError, with a message of one line, unless the tensors are exactly as expected."""
    for name in expected:
        if name not in tensors:
            raise ValueError(f"it has no tensor {name}")
    for name in tensors:
        if name not in expected:
            raise ValueError(f"it has a tensor that its family does not know, {printable(name)}")
    sides: dict[str, int] = {}
    for name, wanted in expected.items():
        tensor = tensors[name]
        if tensor.dtype != wanted.dtype:
            raise ValueError(f"tensor {name} is of {tensor.dtype}, not {wanted.dtype}")
        known = tuple(
            sides.setdefault(side, length)
            if isinstance(side, str)
            else length
            if side is None
            else side
            for side, length in zip(wanted.shape, tensor.shape, strict=False)
        )
        if tensor.ndim != len(wanted.shape) or known != tensor.shape or 0 in tensor.shape:
            raise ValueError(f"tensor {name} has the wrong shape, {tensor.shape}")
        # Written so that NaN is refused too.
        if not (wanted.least <= tensor.min() and tensor.max() <= wanted.most):
            raise ValueError(f"tensor {name} has a value outside {wanted.least:g}..{wanted.most:g}")
