"""What the codecs that come with Pillow share."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import PIL
from PIL import Image, features

from facecodec.bench.codecs.codec import Codec


def save(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def load(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def codec(
    name: str, label: str, settings: tuple[float, ...], encode: Callable[[np.ndarray, float], bytes], feature: str
) -> Codec:
    """A codec that Pillow decodes, and has if `feature` was built in."""
    return Codec(name, label, settings, encode, load, partial(version, feature), partial(missing, feature))


def version(feature: str) -> str:
    return f"Pillow {PIL.__version__}, {feature} {features.version(feature)}"


def missing(feature: str) -> str | None:
    return None if features.check(feature) else f"this Pillow was built without {feature}"
