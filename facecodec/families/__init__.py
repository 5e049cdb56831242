"""Codec families: pixels <-> latents <-> streams. Each family is a module, named by a model's tag.

The module has STREAMS, the names of its streams; `expected`, which takes a model's tensors and
returns what they must be; and `build`, which makes a Family from tensors and Transforms. Both
functions raise ValueError for a malformed model.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np

FAMILIES = ("hyperprior", "sliced", "compact-png", "spic", "lfic")


def family_module(tag: str) -> ModuleType:
    """Returns the module of a family tag.

    Raises KeyError for a tag that this version does not know.
    """
    if tag not in FAMILIES:
        raise KeyError(tag)
    return import_module(f"{__name__}.{module_name(tag)}")


def module_name(tag: str) -> str:
    """Returns the name of a family's module, here and in facecodec.networks."""
    return tag.replace("-", "_")


class Family(Protocol):
    """The methods that codec.py calls.

    `size` is the picture's (height, width); `quality_byte` is the file's, 0..224. Methods that read
    streams raise FormatError for streams that no encoder writes. `enlarges` says whether small
    pictures may be coded at twice their size.
    """

    enlarges: bool

    def analyse(self, pixels: np.ndarray, quality_byte: int) -> Any:
        """Returns the latents of uint8 (H, W, 3) for a quality byte."""

    def sees_quality(self) -> bool:
        """Returns whether these latents differ between qualities."""

    def encode(self, latents: Any, quality_byte: int) -> list[bytes]:
        """Returns one stream for each of STREAMS.

        Raises OverflowError for latents that are too large.
        """

    def decode(self, streams: list[bytes], size: tuple[int, int], quality_byte: int) -> np.ndarray:
        """Returns the picture, uint8 (*size, 3)."""

    def decode_symbols(self, streams: list[bytes], size: tuple[int, int], quality_byte: int) -> Any:
        """Returns the integers in the streams; their `escapes` counts the escapes by stream.

        No floating-point arithmetic is involved.
        """

    def count_escapes(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> dict[str, int]:
        """Returns the number of escapes by stream. Reads every symbol and keeps none."""

    def matches(
        self, streams: list[bytes], size: tuple[int, int], latents: Any, quality_byte: int
    ) -> bool:
        """Returns whether the streams decode to the integers that the latents round to."""

    def decode_latents(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> np.ndarray:
        """Returns the latents, float32 (M, h, w), from which the synthesis and a head start."""


@runtime_checkable
class Allocating(Protocol):
    """A family whose files keep more samples in some places than in others."""

    def allocation(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> np.ndarray:
        """Returns, for each pixel, the share of samples that its region keeps, 0..1 (*size)."""


@runtime_checkable
class Unrounded(Protocol):
    """A family that can give the latents of a picture without coding it."""

    def unrounded(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the latents of uint8 (H, W, 3) as from `decode_latents`, but not rounded."""


@runtime_checkable
class Illustrated(Protocol):
    """A family whose streams are, or contain, image files."""

    def images(self, streams: list[bytes]) -> dict[str, bytes]:
        """Returns the image files by name."""
