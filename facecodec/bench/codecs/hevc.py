"""HEVC intra by libx265; the setting is its CRF.

`hevc` is the paper's baseline without the text x265 writes about its own settings into every stream (2.3 KB, more
than the picture), `hevc-text` has it, `hevc-best` takes the slowest preset and full chroma.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from facecodec.bench.codecs import ffmpeg
from facecodec.bench.codecs.codec import Codec, Commands

ENCODER, KIND = "libx265", "hevc"
CRFS = (43, 38, 33, 28, 23, 18)


def options(
    crf: float, preset: str = "medium", pixel_format: str = "yuv420p", text: bool = False
) -> list[str]:
    settings = f"crf={crf:g}:info={int(text)}:log-level=none:pools=none:frame-threads=1"
    return ["-pix_fmt", pixel_format, "-preset", preset, "-x265-params", settings, "-f", KIND]


def encode(pixels: np.ndarray, crf: float, **given: object) -> bytes:
    even = np.pad(
        pixels, [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)], mode="edge"
    )  # 4:2:0 takes no other
    return ffmpeg.encode(ENCODER, even, options(crf, **given))


def encode_command(crf: float, source: Path, target: Path, **given: object) -> list[str]:
    even = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]
    return ffmpeg.encode_command(ENCODER, [*even, *options(crf, **given)], source, target)


def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    return ffmpeg.decode(ENCODER, data, KIND, (height + height % 2, width + width % 2))[
        :height, :width
    ]


def codec(name: str, label: str, **given: object) -> Codec:
    version, missing = (partial(check, ENCODER) for check in (ffmpeg.version, ffmpeg.missing))
    commands = Commands(
        partial(encode_command, **given), partial(ffmpeg.decode_command, ENCODER, KIND)
    )
    return Codec(
        name,
        label,
        CRFS,
        range(51, -1, -1),
        partial(encode, **given),
        decode,
        version,
        missing,
        commands,
    )


CODECS = (
    codec("hevc", "HEVC"),
    codec("hevc-text", "HEVC with x265's text", text=True),
    codec("hevc-best", "HEVC slowest, 4:4:4", preset="placebo", pixel_format="yuv444p"),
)
