"""JPEG XL by ffmpeg's libjxl, effort 7; the setting is its distance."""

from __future__ import annotations

from functools import partial

import numpy as np

from facecodec.bench.codecs import ffmpeg
from facecodec.bench.codecs.codec import Codec

ENCODER = "libjxl"


def encode(pixels: np.ndarray, distance: float) -> bytes:
    return ffmpeg.encode(ENCODER, pixels, ["-distance", f"{distance:g}", "-effort", "7", "-f", "image2pipe"])


def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    return ffmpeg.decode(ENCODER, data, "jpegxl_pipe", shape)


CODECS = (
    Codec(
        "jpegxl",
        "JPEG XL",
        (15, 10, 7, 5, 3, 1.5),
        encode,
        decode,
        partial(ffmpeg.version, ENCODER),
        partial(ffmpeg.missing, ENCODER),
    ),
)
