"""Codec families: pixels <-> latents <-> streams, one module for each. A model's tag names its own.

A family's module has STREAMS, the names of its streams; `expected`, the tensors of a model that has
these tensors; and `build`, which makes a Family of tensors and Transforms. Both raise ValueError
for a malformed model.
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
    """What codec.py asks of a family.

    `size` is height and width of the picture, `quality_byte` the quality byte of the file, 0..224.
    A method that reads streams raises FormatError for streams that no encoder writes.
    """

    def analyse(self, pixels: np.ndarray) -> Any:
        """Returns the latents of uint8 (H, W, 3), for every quality."""

    def encode(self, latents: Any, quality_byte: int) -> list[bytes]:
        """Returns a stream for each of STREAMS.

        Raises OverflowError for latents that are too large.
        """

    def decode(self, streams: list[bytes], size: tuple[int, int], quality_byte: int) -> np.ndarray:
        """Returns the picture, uint8 (*size, 3)."""

    def decode_symbols(self, streams: list[bytes], size: tuple[int, int], quality_byte: int) -> Any:
        """Returns the integers in the streams, before any floating point; `escapes` by stream."""

    def count_escapes(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> dict[str, int]:
        """Reads all that `decode_symbols` reads, keeps nothing, and returns the escapes by
        stream.
        """

    def matches(
        self, streams: list[bytes], size: tuple[int, int], latents: Any, quality_byte: int
    ) -> bool:
        """Returns whether these streams decode to the integers that these latents are coded by."""

    def decode_latents(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> np.ndarray:
        """Returns the latents that the picture is made from, and that a head reads: float32 (M, h,
        w).
        """


@runtime_checkable
class Allocating(Protocol):
    """A family whose files keep more samples in some places than in others."""

    def allocation(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> np.ndarray:
        """Returns the share of its samples that each pixel's place keeps, 0..1 (*size)."""


@runtime_checkable
class Unrounded(Protocol):
    """A family that has the latents of a picture without coding it."""

    def unrounded(self, pixels: np.ndarray) -> np.ndarray:
        """Returns what `decode_latents` gives for uint8 (H, W, 3), but without rounding."""


@runtime_checkable
class Illustrated(Protocol):
    """A family whose streams are image files, or contain some."""

    def images(self, streams: list[bytes]) -> dict[str, bytes]:
        """Returns the image files by name."""
