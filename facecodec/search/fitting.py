"""Finds the best searched file within a number of bytes, as close to the limit as possible.

How many bytes a search saves is known only afterwards. So the search runs at the quality where it
should end just above the limit, and if it does not, once or twice more. Then the excess is trimmed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from math import inf
from typing import Any

from facecodec.container import MAX_QUALITY_BYTE

SAVED = 0.035  # first estimate of the share of bytes that a search saves
ROUNDS = 3  # searches at most
CLOSE = 0.99  # times the limit: a file of so many bytes is close enough
ABOVE = 1.03  # times the limit: a search that ends between CLOSE and this is the last one
TRIMMED = 1.15  # times the limit: trimming can save the excess of a search that ends below this

Trim = Callable[[Any, int, float], Any]


def fit(
    limit: int,
    plain: Callable[[int], int],
    searched: Callable[[int], Any],
    pack: Callable[[Any, int], bytes],
    trim: Trim,
) -> tuple[bytes, int] | None:
    """Returns a file of at most `limit` bytes and its quality byte, or None if q 1 needs more.

    `plain` takes a quality byte and returns the size without a search; `searched` returns the
    searched latents. `pack` takes latents and a quality byte and returns the file. `trim` returns
    latents that need fewer bits.
    """
    tried: dict[int, tuple[int, Any]] = {}
    share = 1 - SAVED
    for _ in range(ROUNDS):
        byte = bisect_left(
            range(MAX_QUALITY_BYTE), True, key=lambda each: share * plain(each) >= limit
        )
        if byte in tried:
            break
        latents = searched(byte)
        size = len(pack(latents, byte))
        tried[byte] = (size, latents)
        share = size / plain(byte)
        if CLOSE * limit <= size <= ABOVE * limit or (size <= limit and byte == MAX_QUALITY_BYTE):
            break
    # First those above the limit or just below it, nearest first, then the others.
    nearest = sorted(
        (size < CLOSE * limit, abs(size - limit), byte) for byte, (size, _) in tried.items()
    )
    for _, _, byte in nearest:
        size, latents = tried[byte]
        if size <= TRIMMED * limit:
            data = _trimmed(limit, latents, byte, pack, trim)
            if data is not None:
                return data, byte
    return None


def _trimmed(
    limit: int,
    latents: Any,
    byte: int,
    pack: Callable[[Any, int], bytes],
    trim: Trim,
) -> bytes | None:
    data = pack(latents, byte)
    if len(data) <= limit:
        return data
    best, saved, too_few, enough = None, 0.0, 0.0, inf
    for _ in range(12):
        saved += 8 * (len(data) - limit)
        if not too_few < saved < enough:
            saved = (too_few + enough) / 2
        data = pack(trim(latents, byte, saved), byte)
        if len(data) > limit:
            too_few = saved
            continue
        # A slice costs what the slices before it make it cost, so the bits saved are a guess.
        enough = saved
        if best is None or len(data) > len(best):
            best = data
        if len(data) >= CLOSE * limit:
            break
    return best
