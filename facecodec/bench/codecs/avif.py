"""AVIF by Pillow's libavif, speed 4, one thread, 4:2:0; the setting is its quality."""

from __future__ import annotations

from facecodec.bench.codecs import pillow


def options(quality: float) -> dict[str, object]:
    return {"quality": int(quality), "speed": 4, "max_threads": 1}


CODECS = (
    pillow.codec("avif", "AVIF", (8, 20, 32, 44, 56, 68), range(101), "AVIF", options, "avif"),
)
