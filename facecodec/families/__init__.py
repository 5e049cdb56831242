"""Pixels <-> latents <-> streams, one file per codec family; the frozen model's family tag chooses.

A family's module has STREAMS, the names of its streams; `expected`, which says which tensors a model
has that holds these; and `build`, which takes such tensors and Transforms and gives a Family. Both
raise ValueError where a model is malformed.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np

FAMILIES = ("hyperprior", "compact-png", "spic", "lfic")


def family_module(tag: str) -> ModuleType:
    """The module of a family tag. Raises KeyError for one this version does not know."""
    if tag not in FAMILIES:
        raise KeyError(tag)
    return import_module(f"{__name__}.{module_name(tag)}")


def module_name(tag: str) -> str:
    """Of a family's module, here and in facecodec.networks."""
    return tag.replace("-", "_")


class Family(Protocol):
    """What codec.py asks of a family. `size` is height and width of the picture, `quality` the byte of the file.

    What reads streams raises FormatError for those that no encoder writes.
    """

    def analyse(self, pixels: np.ndarray) -> Any:
        """Latents, for every quality, of uint8 (H, W, 3)."""

    def encode(self, latents: Any, quality: int) -> list[bytes]:
        """A stream for each of STREAMS. Raises OverflowError, with a message, for latents that cannot be coded."""

    def decode(self, streams: list[bytes], size: tuple[int, int], quality: int) -> np.ndarray:
        """The picture, uint8 (*size, 3)."""

    def decode_symbols(self, streams: list[bytes], size: tuple[int, int], quality: int) -> Any:
        """What the streams hold, in integers, before any floating point; its `escapes` by stream."""

    def count_escapes(
        self, streams: list[bytes], size: tuple[int, int], quality: int
    ) -> dict[str, int]:
        """Reads all that `decode_symbols` does and keeps nothing; escapes by stream."""

    def matches(
        self, streams: list[bytes], size: tuple[int, int], latents: Any, quality: int
    ) -> bool:
        """Whether these streams decode to the very integers that these latents are coded by."""

    def decode_latents(
        self, streams: list[bytes], size: tuple[int, int], quality: int
    ) -> np.ndarray:
        """What the picture is made from, and what a head reads: float32 (M, h, w)."""


@runtime_checkable
class Allocating(Protocol):
    """A family whose files keep more samples in some places than in others."""

    def allocation(self, streams: list[bytes], size: tuple[int, int], quality: int) -> np.ndarray:
        """The share of its samples that each pixel's place keeps, 0..1 (*size)."""


@runtime_checkable
class Illustrated(Protocol):
    """A family whose streams are, or hold, image files."""

    def images(self, streams: list[bytes]) -> dict[str, bytes]:
        """The image files by name."""
