"""AVIF by Pillow's libavif, speed 4, one thread, 4:2:0; the setting is its quality."""

from __future__ import annotations

import numpy as np

from facecodec.bench.codecs import pillow


def encode(pixels: np.ndarray, quality: float) -> bytes:
    return pillow.save(pixels, "AVIF", quality=int(quality), speed=4, max_threads=1)


CODECS = (pillow.codec("avif", "AVIF", (8, 20, 32, 44, 56, 68), encode, "avif"),)
