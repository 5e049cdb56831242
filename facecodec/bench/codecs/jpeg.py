"""JPEG by Pillow's libjpeg-turbo, 4:2:0, optimised Huffman tables; the setting is its quality."""

from __future__ import annotations

from functools import partial

from facecodec.bench.codecs import pillow
from facecodec.bench.codecs.codec import BenchCodec


def options(quality: float, progressive: bool = False) -> dict[str, object]:
    return {"quality": int(quality), "optimize": True, "progressive": progressive}


def codec(name: str, label: str, progressive: bool) -> BenchCodec:
    chosen = partial(options, progressive=progressive)
    return pillow.codec(
        name, label, (5, 10, 15, 20, 30, 50), range(1, 96), "JPEG", chosen, "libjpeg_turbo"
    )


CODECS = (codec("jpeg", "JPEG", False), codec("jpeg-progressive", "JPEG progressive", True))
