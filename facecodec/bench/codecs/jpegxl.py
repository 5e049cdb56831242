"""JPEG XL by ffmpeg's libjxl, effort 7; the setting is its distance."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facecodec.bench.codecs.codec import BenchCodec, Commands
from facecodec.bench.codecs.ffmpeg import Format

FORMAT = Format("libjxl", muxer="image2pipe", demuxer="jpegxl_pipe")


def options(distance: float) -> list[str]:
    return ["-distance", f"{distance:g}", "-effort", "7"]


def encode(pixels: np.ndarray, distance: float) -> bytes:
    return FORMAT.encode(pixels, options(distance))


def encode_command(distance: float, source: Path, target: Path) -> list[str]:
    return FORMAT.encode_command(options(distance), source, target)


CODECS = (
    BenchCodec(
        "jpegxl",
        "JPEG XL",
        (15, 10, 7, 5, 3, 1.5),
        tuple(np.geomspace(15, 0.1, 150)),
        encode,
        FORMAT.decode,
        FORMAT.version,
        FORMAT.missing,
        commands=Commands(encode_command, FORMAT.decode_command),
    ),
)
