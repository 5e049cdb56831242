"""The interface of a codec that the bench measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Commands:
    """Command lines from an image file at a setting to the codec's file, and on to a PNG file.

    The two for many files go from a folder to a folder, on all cores. Without them each file takes
    a process.
    """

    encode: Callable[[float, Path, Path], list[str]]
    decode: Callable[[Path, Path], list[str]]
    encode_many: Callable[[float, Path, Path], list[str]] | None = None
    decode_many: Callable[[Path, Path], list[str]] | None = None


def nothing() -> None:
    return None


@dataclass(frozen=True)
class BenchCodec:
    """A codec under one set of options, with one number left to choose.

    `settings` are measured by default, `fine` are all there are, from the smallest file to the
    largest. `encode` takes uint8 (H, W, 3) and a setting and gives a whole file; `decode` takes
    that and (H, W). `missing` says why it cannot run here, or None. `version` changes whenever its
    files may. `commands` are its programs, if it has any, and `teachers` the recognisers that it
    was trained against.
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
