"""Small pictures, which are coded at twice their size.

The networks know faces from about 80 pixels on. Smaller ones are kept better in the same bytes if
the picture is enlarged first, and the decoded one is halved (docs/bakeoff.md has measurements).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from facecodec.container import MAX_DOUBLED_SIDE

LONGEST = 128  # pixels; larger pictures are coded as they are
assert LONGEST <= MAX_DOUBLED_SIDE


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """Returns uint8 (2H, 2W, 3) of (H, W, 3)."""
    height, width = pixels.shape[:2]
    size = (2 * width, 2 * height)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def halved(pixels: np.ndarray) -> np.ndarray:
    """Returns uint8 (H, W, 3) of (2H, 2W, 3): the mean of each 2x2 pixels, a half rounded up."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    sums = pixels.reshape(height, 2, width, 2, 3).sum((1, 3), np.uint16)
    return ((sums + 2) >> 2).astype(np.uint8)
