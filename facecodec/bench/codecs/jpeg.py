"""JPEG by Pillow's libjpeg-turbo, 4:2:0, with optimised Huffman tables; the setting is its quality."""

from __future__ import annotations

from functools import partial

import numpy as np

from facecodec.bench.codecs import pillow
from facecodec.bench.codecs.codec import Codec

QUALITIES = (5, 10, 15, 20, 30, 50)
VERSION = partial(pillow.version, "libjpeg_turbo")


def encode(pixels: np.ndarray, quality: float, progressive: bool = False) -> bytes:
    return pillow.save(pixels, "JPEG", quality=int(quality), optimize=True, progressive=progressive)


CODECS = (
    Codec("jpeg", "JPEG", QUALITIES, encode, pillow.load, VERSION),
    Codec("jpeg-progressive", "JPEG progressive", QUALITIES, partial(encode, progressive=True), pillow.load, VERSION),
)
