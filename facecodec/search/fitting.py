"""The best searched file within a number of bytes, and as close to it as can be.

How many bytes a search saves is known only after it. So it is tried at the quality where it should
end just above the limit, once or twice more where it did not, and what is too much is trimmed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from math import inf
from typing import Any

from facecodec.container import MAX_QUALITY_BYTE

SAVED = 0.12  # the share of bytes that a search is first taken to save
ROUNDS = 3  # searches at most
ABOVE = 1.03  # times the limit: a search that ends below this is the last one
TRIMMED = 1.15  # times the limit from which trimming still comes down
CLOSE = 0.99  # times the limit: a trimmed file of so many bytes is close enough

Trim = Callable[[Any, int, float], Any]


def fit(
    limit: int,
    plain: Callable[[int], int],
    searched: Callable[[int], Any],
    pack: Callable[[Any, int], bytes],
    trim: Trim,
) -> tuple[bytes, int] | None:
    """Returns a file of at most `limit` bytes and its quality byte, or None if q 1 needs more.

    By quality byte, `plain` returns the size without a search and `searched` returns latents.
    `pack` makes a file of latents and a quality byte, and `trim` returns latents that need some
    bits less.
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
        if limit <= size <= ABOVE * limit or (size <= limit and byte == MAX_QUALITY_BYTE):
            break
    # From the one nearest above the limit, or hardly below it, down to those below it.
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
