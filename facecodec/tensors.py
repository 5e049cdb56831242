"""The type, shape and range of each tensor of a model, checked before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from facecodec.text import printable


@dataclass(frozen=True)
class Tensor:
    """A type, a shape and a range.

    A side is a number, a letter that stands for the same number wherever it occurs, or None for
    any.
    """

    dtype: str
    shape: tuple[int | str | None, ...]
    least: float = -np.inf
    most: float = np.inf


GRAPH = Tensor("uint8", (None,))  # the bytes of an ONNX file
REACH = Tensor("uint8", (1,), 0, 64)  # positions to each side that a graph looks at


def graphs(tensors: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, Tensor]:
    """Returns graphs of a model, and the reach of those that have one: older models have none."""
    return {f"{name}.onnx": GRAPH for name in names} | {
        f"{name}.reach": REACH for name in names if f"{name}.reach" in tensors
    }


def check(tensors: Mapping[str, np.ndarray], expected: Mapping[str, Tensor]) -> None:
    """Raises ValueError, with one line, unless these are the expected tensors and no others."""
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
