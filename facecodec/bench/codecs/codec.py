"""What the bench asks of a codec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def nothing() -> None:
    return None


@dataclass(frozen=True)
class Codec:
    """A codec under one set of options, with one number left to choose.

    `settings` are those measured by default. `encode` takes uint8 (H, W, 3) and a setting and gives a whole
    file; `decode` takes that and (H, W). `missing` says why it cannot run here, or None. `version` changes
    whenever its files may.
    """

    name: str
    label: str
    settings: tuple[float, ...]
    encode: Callable[[np.ndarray, float], bytes]
    decode: Callable[[bytes, tuple[int, int]], np.ndarray]
    version: Callable[[], str]
    missing: Callable[[], str | None] = nothing
