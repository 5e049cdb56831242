"""No coding at all, 24 bits a pixel: what recognition gives at best."""

from __future__ import annotations

import numpy as np

from facecodec.bench.codecs.codec import BenchCodec


def encode(pixels: np.ndarray, setting: float) -> bytes:
    return pixels.tobytes()


def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(*shape, 3)


CODECS = (BenchCodec("original", "original", (0,), (), encode, decode, lambda: "1"),)
