"""HEVC intra by libx265; the setting is its CRF.

`hevc` is the paper's baseline without the text x265 writes about its own settings into every stream (2.3 KB, more
than the picture), `hevc-text` has it, `hevc-best` takes the slowest preset and full chroma.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from facecodec.bench.codecs import ffmpeg
from facecodec.bench.codecs.codec import Codec

ENCODER = "libx265"
CRFS = (43, 38, 33, 28, 23, 18)


def encode(
    pixels: np.ndarray, crf: float, preset: str = "medium", pixel_format: str = "yuv420p", text: bool = False
) -> bytes:
    even = np.pad(pixels, [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)], mode="edge")  # 4:2:0 takes no other
    settings = f"crf={crf:g}:info={int(text)}:log-level=none:pools=none:frame-threads=1"
    options = ["-pix_fmt", pixel_format, "-preset", preset, "-x265-params", settings, "-f", "hevc"]
    return ffmpeg.encode(ENCODER, even, options)


def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    return ffmpeg.decode(ENCODER, data, "hevc", (height + height % 2, width + width % 2))[:height, :width]


def codec(name: str, label: str, **options: object) -> Codec:
    version, missing = (partial(check, ENCODER) for check in (ffmpeg.version, ffmpeg.missing))
    return Codec(name, label, CRFS, partial(encode, **options), decode, version, missing)


CODECS = (
    codec("hevc", "HEVC"),
    codec("hevc-text", "HEVC with x265's text", text=True),
    codec("hevc-best", "HEVC slowest, 4:4:4", preset="placebo", pixel_format="yuv444p"),
)
