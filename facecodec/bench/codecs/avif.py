"""AVIF by Pillow's libavif, speed 4, one thread, 4:2:0; the setting is its quality."""

from __future__ import annotations

from functools import partial

import numpy as np

from facecodec.bench.codecs import pillow
from facecodec.bench.codecs.codec import Codec


def encode(pixels: np.ndarray, quality: float) -> bytes:
    return pillow.save(pixels, "AVIF", quality=int(quality), speed=4, max_threads=1)


CODECS = (
    Codec(
        "avif",
        "AVIF",
        (8, 20, 32, 44, 56, 68),
        encode,
        pillow.load,
        partial(pillow.version, "avif"),
        partial(pillow.missing, "avif"),
    ),
)
