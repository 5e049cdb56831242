"""AVIF by Pillow's libavif, one thread; the setting is its quality.

`avif` is speed 4 and 4:2:0. `avif-best` is the slowest speed, full chroma, and tuned for PSNR.
"""

from __future__ import annotations

from facecodec.bench.codecs import pillow

QUALITIES = (8, 20, 32, 44, 56, 68)


def options(quality: float) -> dict[str, object]:
    return {"quality": int(quality), "speed": 4, "max_threads": 1}


def best(quality: float) -> dict[str, object]:
    return options(quality) | {"speed": 0, "subsampling": "4:4:4", "advanced": {"tune": "psnr"}}


CODECS = (
    pillow.codec("avif", "AVIF", QUALITIES, range(101), "AVIF", options, "avif"),
    pillow.codec("avif-best", "AVIF slowest, 4:4:4", QUALITIES, range(101), "AVIF", best, "avif"),
)
