"""Divides a large picture into windows, to be searched one after the other, the face's first.

Units are positions of y, of 16 pixels. Windows begin at whole positions of z, of four positions of
y.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from facecodec.families.hyperlatent import HYPER
from facecodec.families.hyperprior import DOWNSAMPLING
from facecodec.template import SIZE, scale_of

WHOLE = 40  # the largest side of a picture that is searched as a whole
WINDOW = 32  # the side of a window of a larger picture
AROUND = 8  # positions that a window sees around its own
FACE = 64  # the largest side of a face's window; a larger face is searched for its pixels alone

Box = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class Window:
    """Positions `own` that are searched together, seen with their surroundings `seen`.

    `for_face` says whether the face counts in the loss.
    """

    own: Box
    seen: Box
    for_face: bool

    @property
    def area(self) -> int:
        """Returns the number of positions that are seen."""
        return math.prod(part.stop - part.start for part in self.seen)


def windows(height: int, width: int, matrix: np.ndarray | None) -> Iterator[Window]:
    """Yields the windows of a picture. `matrix` is the alignment of its face, or None.

    Later windows leave out what lies within the face's.
    """
    if max(height, width) <= WHOLE:
        whole = (slice(0, height), slice(0, width))
        yield Window(whole, whole, matrix is not None)
        return
    face = slice(0, 0), slice(0, 0)
    if matrix is not None:
        x, y = matrix @ [(SIZE - 1) / 2, (SIZE - 1) / 2, 1] / DOWNSAMPLING
        reach = SIZE * scale_of(matrix) / DOWNSAMPLING / math.sqrt(2)
        own = _aligned(y - reach, y + reach, height), _aligned(x - reach, x + reach, width)
        if max(part.stop - part.start for part in own) <= FACE:
            face = own
            yield Window(own, (_wider(own[0], height), _wider(own[1], width)), True)
    for top in range(0, height, WINDOW):
        for left in range(0, width, WINDOW):
            own = _aligned(top, top + WINDOW, height), _aligned(left, left + WINDOW, width)
            if not all(map(_covers, face, own)):
                yield Window(own, (_wider(own[0], height), _wider(own[1], width)), False)


def hyper(part: slice) -> slice:
    """Returns the positions of z that cover a range of positions of y."""
    return slice(part.start // HYPER, -(-part.stop // HYPER))


def _aligned(start: float, stop: float, side: int) -> slice:
    """Widens a range to whole positions of z in the picture, at least one."""
    last = (side - 1) // HYPER
    first = min(max(math.floor(start / HYPER), 0), last)
    return slice(HYPER * first, min(HYPER * max(math.ceil(stop / HYPER), first + 1), side))


def _covers(whole: slice, part: slice) -> bool:
    return whole.start <= part.start and part.stop <= whole.stop


def _wider(part: slice, side: int) -> slice:
    return slice(max(0, part.start - AROUND), min(side, part.stop + AROUND))
