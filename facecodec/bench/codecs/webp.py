"""WebP by Pillow's libwebp, its slowest method; the setting is its quality."""

from __future__ import annotations

import numpy as np

from facecodec.bench.codecs import pillow


def encode(pixels: np.ndarray, quality: float) -> bytes:
    return pillow.save(pixels, "WEBP", quality=int(quality), method=6)


CODECS = (pillow.codec("webp", "WebP", (1, 10, 25, 45, 65, 80), encode, "webp"),)
