"""JPEG by Pillow's libjpeg-turbo, 4:2:0, with optimised Huffman tables; the setting is its quality."""

from __future__ import annotations

from functools import partial

import numpy as np

from facecodec.bench.codecs import pillow

QUALITIES = (5, 10, 15, 20, 30, 50)
FEATURE = "libjpeg_turbo"


def encode(pixels: np.ndarray, quality: float, progressive: bool = False) -> bytes:
    return pillow.save(pixels, "JPEG", quality=int(quality), optimize=True, progressive=progressive)


CODECS = (
    pillow.codec("jpeg", "JPEG", QUALITIES, encode, FEATURE),
    pillow.codec("jpeg-progressive", "JPEG progressive", QUALITIES, partial(encode, progressive=True), FEATURE),
)
