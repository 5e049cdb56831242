"""No coding, 24 bits per pixel: the upper bound of recognition."""

from __future__ import annotations

import numpy as np

from facecodec.bench.codecs.codec import BenchCodec


def encode(pixels: np.ndarray, setting: float) -> bytes:
    return pixels.tobytes()


def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(*shape, 3)


CODECS = (BenchCodec("original", "original", (0,), (), encode, decode, lambda: "1"),)
