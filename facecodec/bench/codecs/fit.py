"""Makes a codec fit a limit in bytes: it shrinks the picture, codes it, and enlarges it again.

At very few bytes, fewer pixels coded well can beat all pixels coded badly. After "Optimizing Image
Preparation and Compression for Face Recognition within 1024 Bytes".
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
from PIL import Image

from facecodec.bench.codecs.codec import BenchCodec
from facecodec.errors import ImageError

SCALES = (1, 3 / 4, 1 / 2, 3 / 8, 1 / 4, 1 / 8)
# For each codec, the scale by bits per pixel at which the mean cosine of held-back training people
# was best, as benchmarks/fit_scales.py measured.
RULES: dict[str, dict[float, float]] = {
    "jpeg": {0.066: 0.25, 0.131: 0.375, 0.262: 0.5},
    "webp": {0.066: 0.25, 0.131: 0.375, 0.262: 0.5},
    "avif": {0.066: 0.25, 0.131: 0.5, 0.262: 0.5},
    "jpeg2000": {0.066: 0.75, 0.131: 1, 0.262: 0.25},
    "jpegxl": {0.066: 1, 0.131: 0.25, 0.262: 0.375},
    "hevc": {0.066: 0.375, 0.131: 0.375, 0.262: 0.5},
}


def within(codec: BenchCodec, scale: float | None = None) -> BenchCodec:
    """Returns `codec` with a limit in bytes as its setting.

    The picture is scaled by `scale` or, by default, by RULES. If even the coarsest setting takes
    too many bytes, a smaller scale is used. Raises ValueError for a scale outside 0 to 1.
    """
    if scale is not None and not 0 < scale <= 1:
        raise ValueError(f"{scale:g} is not a scale")
    rule: Mapping[float, float] = RULES.get(codec.name, {0: 1}) if scale is None else {0: scale}

    def encode(pixels: np.ndarray, limit: float) -> bytes:
        height, width = pixels.shape[:2]
        first = scale_at(rule, 8 * limit / (height * width))
        for each in (first, *(smaller for smaller in SCALES if smaller < first)):
            file = _finest(codec, resized(pixels, shrunk((height, width), each)), limit)
            if file is not None:
                return file
        raise ImageError(f"{codec.name} cannot make {limit:g} bytes of {width}x{height} pixels")

    def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
        for each in SCALES if scale is None else (scale, *SCALES):
            small = shrunk(shape, each)
            try:
                decoded = codec.decode(data, small)
            except ValueError:  # the frame has another size
                continue
            if decoded.shape[:2] == small:
                return resized(decoded, shape)
        raise ImageError(f"a {codec.name} file of an unexpected size")

    return replace(
        codec,
        name=f"{codec.name}@{'fit' if scale is None else scale}",
        label=f"{codec.label}, fitted",
        settings=(512, 1024, 2048),
        fine=(),
        encode=encode,
        decode=decode,
        version=lambda: f"{codec.version()}, scales {rule}",
    )


def _finest(codec: BenchCodec, pixels: np.ndarray, limit: float) -> bytes | None:
    """Returns the file of the finest setting with at most `limit` bytes, or None."""
    if codec.encode_within:
        try:
            return codec.encode_within(pixels, int(limit))
        except ImageError:
            return None
    at = cache(lambda index: codec.encode(pixels, codec.fine[index]))
    fitting = bisect_right(range(len(codec.fine)), limit, key=lambda index: len(at(index)))
    return at(fitting - 1) if fitting else None


def nearest(codec: BenchCodec, pixels: np.ndarray, size: float) -> tuple[float, bytes]:
    """Returns the setting whose file is nearest to `size` bytes, and that file."""
    at = cache(lambda index: codec.encode(pixels, codec.fine[index]))
    last = len(codec.fine) - 1
    above = bisect_right(range(last), size, key=lambda index: len(at(index)))
    best = min({max(0, above - 1), above}, key=lambda index: abs(len(at(index)) - size))
    return codec.fine[best], at(best)


def scale_at(rule: Mapping[float, float], bpp: float) -> float:
    """Returns the scale at the rate of `rule` that is nearest to `bpp`, in ratio."""
    return rule[min(rule, key=lambda rate: abs(math.log(max(rate, 1e-9) / bpp)))]


def shrunk(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (max(1, round(side * scale)) for side in shape)
    return height, width


def resized(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resizes by Lanczos, with a filter as wide as the reduction, so that no pixel is skipped."""
    if pixels.shape[:2] == shape:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.LANCZOS))
