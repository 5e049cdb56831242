"""Codecs to measure, each from pixels to the bytes of a real file and back.

A reference codec is a module of this folder that has CODECS, and its name in MODULES. Every
other name is one of our models.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

from facecodec.bench.codecs.codec import BenchCodec
from facecodec.bench.codecs.fit import within
from facecodec.errors import UsageError

MODULES = ("original", "jpeg", "hevc", "jpeg2000", "webp", "avif", "jpegxl", "zoo")
TRIAL = 64  # pixels on each side of the picture that a codec is tried with


@cache
def references() -> dict[str, BenchCodec]:
    """Returns every reference codec by name."""
    modules = (import_module(f"facecodec.bench.codecs.{name}") for name in MODULES)
    return {codec.name: codec for module in modules for codec in module.CODECS}


def is_reference(name: str) -> bool:
    """Returns whether a name is a reference codec's, perhaps made to fit, and not a model of
    ours.
    """
    return name.partition("@")[0] in references()


@cache
def find_codec(name: str) -> BenchCodec:
    """Returns a reference codec, or a model of ours by name or file.

    Raises UsageError if it is neither. `@fit` or `@SCALE` behind the name makes the codec fit a
    limit in bytes (fit.py).
    """
    base, at, scale = name.rpartition("@")
    if at:
        try:
            return within(find_codec(base), None if scale == "fit" else float(scale))
        except ValueError:
            raise UsageError(f"{name}: behind the @ goes a scale, or 'fit'") from None
    if name in references():
        return references()[name]
    from facecodec.bench.codecs.ours import model_codec

    try:
        return model_codec(name)
    except UsageError as error:
        raise UsageError(f"{error}; reference codecs: {', '.join(references())}") from None


@cache
def unusable(name: str) -> str | None:
    """Why a codec cannot be measured here, or None if a trial picture comes back from it.

    A codec made to fit a limit in bytes is as usable as the codec it is made of.
    """
    codec = find_codec(name.partition("@")[0])
    reason = codec.missing()
    if reason:
        return reason
    ramp = np.linspace(0, 255, TRIAL * TRIAL * 3).astype(np.uint8).reshape(TRIAL, TRIAL, 3)
    try:
        decoded = codec.decode(codec.encode(ramp, codec.settings[0]), (TRIAL, TRIAL))
    except Exception as error:  # libraries and programs raise what they like
        return f"it failed on a trial picture: {type(error).__name__}: {error}"
    if decoded.shape != ramp.shape:
        return f"a trial picture of {ramp.shape} came back as {decoded.shape}"
    return None


def code(name: str, pixels: np.ndarray, setting: float, file: Path) -> tuple[int, np.ndarray]:
    """Returns the size of the file that codec `name` writes to `file`, and the pixels read back
    from it.

    These are uint8 (H, W, 3).
    """
    codec = find_codec(name)
    file.write_bytes(codec.encode(pixels, setting))
    height, width = pixels.shape[:2]
    return file.stat().st_size, codec.decode(file.read_bytes(), (height, width))
