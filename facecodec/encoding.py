"""One picture as a file, at the quality that is asked for or that fits a limit."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from facecodec import container
from facecodec.container import DOUBLED_STEPS, MAX_QUALITY_BYTE, quality_of
from facecodec.doubling import LONGEST, enlarged
from facecodec.errors import FormatError, ImageError, UsageError
from facecodec.images import as_rgb
from facecodec.search import DEFAULT_EFFORT, EFFORTS
from facecodec.search.fitting import fit

if TYPE_CHECKING:
    from facecodec.codec import Codec
    from facecodec.search.efforts import Progress

MISREAD = "it does not decode to what was encoded, please report it"
QUALITY_BYTES = range(MAX_QUALITY_BYTE + 1)
STEPS_TO_E = 75  # so many steps of the quality byte make files about e times as large
LIKELY_TRIES = 5
FIRST_STEP = 8  # of the quality byte, down from where a file without a search is accepted


@dataclass(frozen=True)
class Encoded:
    """The bytes of a .fic file and its quality."""

    data: bytes
    quality_byte: int

    @property
    def q(self) -> float:
        """Returns the quality, 1 to 8."""
        return quality_of(self.quality_byte)


@dataclass(frozen=True)
class Coded:
    """The picture that a family codes, uint8 (H, W, 3), and its quality byte."""

    pixels: np.ndarray
    byte: int
    doubled: bool

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]


class Analysed:
    """A picture, ready to be coded. `pixels` is uint8 (H, W, 3)."""

    def __init__(
        self,
        codec: Codec,
        image: Image.Image | np.ndarray,
        chunks: Sequence[tuple[str, bytes]],
        effort: int = DEFAULT_EFFORT,
        progress: Progress | None = None,
    ) -> None:
        if effort not in EFFORTS:
            raise UsageError(f"effort {effort!r} is not a whole number from 1 to {EFFORTS[-1]}")
        self.pixels = as_rgb(image)
        height, width = self.pixels.shape[:2]
        if max(height, width) > container.MAX_SIDE:
            raise ImageError(f"{width}x{height}: a side is longer than {container.MAX_SIDE} pixels")
        self._codec, self._chunks = codec, list(chunks)
        self._effort, self._progress = effort, progress
        self._search = codec.search if effort > DEFAULT_EFFORT else None
        self._doubles = codec.family.enlarges and max(height, width) <= LONGEST
        # Those of one quality alone: a large picture has large latents.
        self._latents: tuple[tuple[bool, int], Any] | None = None
        self._encoded: dict[int, Encoded] = {}

    def at(self, byte: int) -> Encoded:
        """Returns the file at a quality byte, 0 to 224.

        Raises ImageError for latents that are too large to be coded.
        """
        if byte not in self._encoded:
            self._encoded[byte] = self._file(self._best(byte), byte, self._search is not None)
        return self._encoded[byte]

    def unsearched(self, byte: int, checked: bool = False) -> Encoded:
        """Returns the file at a quality byte, without a search, as effort 1 gives it.

        If `checked`, an encoder that searches compares it with its latents, as all that it returns.
        """
        if self._search is None:
            return self.at(byte)
        return self._file(self._analysed(byte), byte, checked)

    def within(self, limit: int) -> Encoded:
        """Returns the file of the highest quality that has at most `limit` bytes.

        A small picture is doubled only if the limit allows it: in fewer bytes it is better coded as
        it is. Raises ImageError if the file is larger even at q 1, UsageError for a limit below 1.
        """
        if not limit >= 1:
            raise UsageError(f"no file has only {limit} bytes: give a higher limit")
        if self._doubles and len(self.unsearched(DOUBLED_STEPS).data) > limit:
            self._doubles, self._latents, self._encoded = False, None, {}
        if self._search is not None:
            found = fit(
                limit,
                lambda byte: len(self.unsearched(byte).data),
                self._best,
                lambda latents, byte: self._file(latents, byte, checked=True).data,
                self._trimmed,
            )
            if found is not None:
                return Encoded(*found)
        else:
            fitting = highest_within(limit, lambda byte: len(self.at(byte).data))
            if fitting is not None:
                return self.at(fitting)
        raise ImageError(
            f"{len(self.at(0).data)} bytes at q 1 do not fit into {limit}: "
            "make the picture smaller, or try another model"
        )

    def _best(self, byte: int) -> Any:
        """Returns the latents to be coded at a quality byte, searched for if the effort says so."""
        latents = self._analysed(byte)
        if self._search is None:
            return latents
        coded = self._coded(byte)
        return self._search.improve(coded.pixels, latents, coded.byte, self._effort, self._progress)

    @cached_property
    def _enlarged(self) -> np.ndarray:
        return enlarged(self.pixels)

    def _coded(self, byte: int) -> Coded:
        """Returns what the family codes for a quality byte of the file."""
        if self._doubles and byte >= DOUBLED_STEPS:
            return Coded(self._enlarged, byte - DOUBLED_STEPS, doubled=True)
        return Coded(self.pixels, byte, doubled=False)

    def _analysed(self, byte: int) -> Any:
        """Returns the latents that the model's analysis gives for a quality byte."""
        family, coded = self._codec.family, self._coded(byte)
        key = (coded.doubled, coded.byte if family.sees_quality() else 0)
        if self._latents is None or self._latents[0] != key:
            self._latents = key, family.analyse(coded.pixels, coded.byte)
        return self._latents[1]

    def _trimmed(self, latents: Any, byte: int, bits: float) -> Any:
        assert self._search is not None
        return self._search.trimmed(latents, self._coded(byte).byte, bits)

    def _file(self, latents: Any, byte: int, checked: bool) -> Encoded:
        """Returns the file of latents at a quality byte.

        If `checked`, the file is read back and compared with the latents.
        """
        family, coded = self._codec.family, self._coded(byte)
        height, width = self.pixels.shape[:2]
        try:
            streams = family.encode(latents, coded.byte)
        except OverflowError as error:
            raise ImageError(str(error)) from None
        if checked and not family.matches(streams, coded.size, latents, coded.byte):
            raise FormatError(MISREAD)
        mark = bytes.fromhex(self._codec.card.fingerprint)
        parts = container.Container(mark, byte, width, height, streams, self._chunks, coded.doubled)
        return Encoded(container.pack(parts), byte)

    def accepted(self, accepts: Callable[[Image.Image], bool]) -> Encoded:
        """Returns the file of the lowest quality whose decoded picture `accepts` accepts.

        With a search it is at most as large as without. Raises ImageError if not even the picture
        of q 8 is accepted.
        """
        limit = container.MAX_SIDE**2

        def good(file: Encoded) -> bool:
            return accepts(self._codec.decode(file.data, limit))

        lowest = bisect_left(QUALITY_BYTES, True, key=lambda byte: good(self.unsearched(byte)))
        files = [self.unsearched(lowest, checked=True)] if lowest <= MAX_QUALITY_BYTE else []
        if self._search is not None:
            start = min(lowest, MAX_QUALITY_BYTE)
            searched = lowest_accepted(start, lambda byte: good(self.at(byte)))
            if searched is not None:
                files.append(self.at(searched))
        if not files:
            raise ImageError("even q 8 is not good enough")
        return min(files, key=lambda file: len(file.data))


def lowest_accepted(start: int, accepted: Callable[[int], bool]) -> int | None:
    """Returns the lowest quality byte up to `start` that is accepted, or None.

    Each try costs a search, and the result is near `start`. So the tries go down in steps that
    double, and then halve what is left.
    """
    if not accepted(start):
        return None
    high, step = start, FIRST_STEP
    while high > 0:
        low = max(high - step, 0)
        if not accepted(low):
            between = range(low + 1, high)
            return low + 1 + bisect_left(between, True, key=accepted)
        high, step = low, 2 * step
    return 0


def highest_within(limit: int, size: Callable[[int], int]) -> int | None:
    """Returns the highest quality byte whose `size` is at most `limit`, or None.

    Each size costs an encoding. So the first tries go where files usually reach the limit; then
    each halves what is left.
    """
    low, high = -1, len(QUALITY_BYTES)  # `low` fits, `high` does not
    byte, tries = high // 2, 0
    while high - low > 1:
        taken = size(byte)
        low, high = (byte, high) if taken <= limit else (low, byte)
        tries += 1
        likely = byte + round(STEPS_TO_E * math.log(limit / taken))
        byte = min(max(likely, low + 1), high - 1) if tries < LIKELY_TRIES else (low + high) // 2
    return None if low < 0 else low
