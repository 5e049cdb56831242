"""WebP by Pillow's libwebp, its slowest method; the setting is its quality."""

from __future__ import annotations

from facecodec.bench.codecs import pillow


def options(quality: float) -> dict[str, object]:
    return {"quality": int(quality), "method": 6}


CODECS = (
    pillow.codec("webp", "WebP", (1, 10, 25, 45, 65, 80), range(101), "WEBP", options, "webp"),
)
