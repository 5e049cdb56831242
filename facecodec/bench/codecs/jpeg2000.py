"""JPEG 2000 by Pillow's OpenJPEG, irreversible; the setting is the ratio by which it compresses."""

from __future__ import annotations

import numpy as np

from facecodec.bench.codecs import pillow


def encode(pixels: np.ndarray, ratio: float) -> bytes:
    return pillow.save(pixels, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True, no_jp2=True)


CODECS = (pillow.codec("jpeg2000", "JPEG 2000", (160, 110, 80, 56, 40, 28), encode, "jpg_2000"),)
