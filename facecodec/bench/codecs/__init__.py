"""Codecs to measure, each from pixels to the bytes of a real file and back.

A reference codec is a module of this folder that holds CODECS, and its name in MODULES. Every other name
is one of our models.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

from facecodec.bench.codecs.codec import Codec
from facecodec.errors import UsageError

MODULES = ("original", "jpeg", "hevc", "jpeg2000", "webp", "avif", "jpegxl", "zoo")


@cache
def references() -> dict[str, Codec]:
    """Every reference codec by name."""
    modules = (import_module(f"facecodec.bench.codecs.{name}") for name in MODULES)
    return {codec.name: codec for module in modules for codec in module.CODECS}


@cache
def find_codec(name: str) -> Codec:
    """A reference codec, or a model of ours by name or file. Raises UsageError for neither."""
    if name in references():
        return references()[name]
    from facecodec.bench.codecs.ours import model_codec

    try:
        return model_codec(name)
    except UsageError as error:
        raise UsageError(f"{error}; reference codecs: {', '.join(references())}") from None


def code(name: str, pixels: np.ndarray, setting: float, file: Path) -> tuple[int, np.ndarray]:
    """Bytes of the file that codec `name` writes to `file`, and the pixels read back from it, uint8 (H, W, 3)."""
    codec = find_codec(name)
    file.write_bytes(codec.encode(pixels, setting))
    return file.stat().st_size, codec.decode(file.read_bytes(), pixels.shape[:2])
