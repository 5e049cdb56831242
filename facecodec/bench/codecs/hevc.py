"""HEVC intra by libx265; the setting is its CRF.

x265 writes its settings as text into every stream: 2.3 KB, more than the picture. `hevc`, the
paper's baseline, omits this text; `hevc-text` keeps it. `hevc-best` uses the slowest preset and
full chroma.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facecodec.bench.codecs.codec import BenchCodec, Commands
from facecodec.bench.codecs.ffmpeg import Format

FORMAT = Format("libx265", muxer="hevc", demuxer="hevc")
CRFS = (43, 38, 33, 28, 23, 18)


def options(
    crf: float, preset: str = "medium", pixel_format: str = "yuv420p", text: bool = False
) -> list[str]:
    settings = f"crf={crf:g}:info={int(text)}:log-level=none:pools=none:frame-threads=1"
    return ["-pix_fmt", pixel_format, "-preset", preset, "-x265-params", settings]


def encode(pixels: np.ndarray, crf: float, **given: Any) -> bytes:
    # 4:2:0 needs even sides.
    even = [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)]
    return FORMAT.encode(np.pad(pixels, even, mode="edge"), options(crf, **given))


def encode_command(crf: float, source: Path, target: Path, **given: Any) -> list[str]:
    even = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]
    return FORMAT.encode_command([*even, *options(crf, **given)], source, target)


def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    return FORMAT.decode(data, (height + height % 2, width + width % 2))[:height, :width]


def codec(name: str, label: str, **given: Any) -> BenchCodec:
    return BenchCodec(
        name,
        label,
        CRFS,
        range(51, -1, -1),
        partial(encode, **given),
        decode,
        FORMAT.version,
        FORMAT.missing,
        Commands(partial(encode_command, **given), FORMAT.decode_command),
    )


CODECS = (
    codec("hevc", "HEVC"),
    codec("hevc-text", "HEVC with x265's text", text=True),
    codec("hevc-best", "HEVC slowest, 4:4:4", preset="placebo", pixel_format="yuv444p"),
)
