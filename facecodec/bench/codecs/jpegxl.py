"""JPEG XL by ffmpeg's libjxl, effort 7; the setting is its distance."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from facecodec.bench.codecs import ffmpeg
from facecodec.bench.codecs.codec import Codec, Commands

ENCODER, KIND = "libjxl", "jpegxl_pipe"


def options(distance: float) -> list[str]:
    return ["-distance", f"{distance:g}", "-effort", "7", "-f", "image2pipe"]


def encode(pixels: np.ndarray, distance: float) -> bytes:
    return ffmpeg.encode(ENCODER, pixels, options(distance))


def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    return ffmpeg.decode(ENCODER, data, KIND, shape)


def encode_command(distance: float, source: Path, target: Path) -> list[str]:
    return ffmpeg.encode_command(ENCODER, options(distance), source, target)


CODECS = (
    Codec(
        "jpegxl",
        "JPEG XL",
        (15, 10, 7, 5, 3, 1.5),
        tuple(np.geomspace(15, 0.1, 150)),
        encode,
        decode,
        partial(ffmpeg.version, ENCODER),
        partial(ffmpeg.missing, ENCODER),
        commands=Commands(encode_command, partial(ffmpeg.decode_command, ENCODER, KIND)),
    ),
)
