"""The interface of a codec that the bench measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EFFORT = ", effort "  # between a model's name and its level of effort


@dataclass(frozen=True)
class Commands:
    """Command lines that encode an image file at a setting, and that decode to a PNG file.

    The two commands for many files go from a folder to a folder, on all cores. Without them each
    file takes one process.
    """

    encode: Callable[[float, Path, Path], list[str]]
    decode: Callable[[Path, Path], list[str]]
    encode_many: Callable[[float, Path, Path], list[str]] | None = None
    decode_many: Callable[[Path, Path], list[str]] | None = None


def nothing() -> None:
    return None


@dataclass(frozen=True)
class BenchCodec:
    """A codec with fixed options, except for one number, its setting.

    `settings` are measured by default; `fine` are all settings, from the smallest file to the
    largest. `encode` takes uint8 (H, W, 3) and a setting and returns a whole file; `decode` takes a
    file and (H, W). `missing` returns why the codec cannot run here, or None. `version` must change
    whenever the files may change. `commands` are its programs, if it has any. `teachers` are the
    recognisers that it was trained against. `encode_within`, if a codec can do this itself, takes
    pixels and a limit in bytes, and raises ImageError if no file is that small.
    """

    name: str
    label: str
    settings: tuple[float, ...]
    fine: Sequence[float]
    encode: Callable[[np.ndarray, float], bytes]
    decode: Callable[[bytes, tuple[int, int]], np.ndarray]
    version: Callable[[], str]
    missing: Callable[[], str | None] = nothing
    commands: Commands | None = None
    teachers: tuple[str, ...] = ()
    encode_within: Callable[[np.ndarray, int], bytes] | None = None
