"""The codecs to measure. Each turns pixels into the bytes of a real file and back.

A reference codec is a module of this folder that has CODECS; its name must be in MODULES. Every
other name is that of a facecodec model.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

from facecodec.bench.codecs.codec import EFFORT, BenchCodec
from facecodec.bench.codecs.fit import within
from facecodec.errors import UsageError
from facecodec.search import DEFAULT_EFFORT, EFFORTS

MODULES = ("original", "jpeg", "hevc", "jpeg2000", "webp", "avif", "jpegxl", "zoo")
TRIAL = 64  # pixels along each side of the trial picture


@cache
def references() -> dict[str, BenchCodec]:
    """Returns every reference codec by name."""
    modules = (import_module(f"facecodec.bench.codecs.{name}") for name in MODULES)
    return {codec.name: codec for module in modules for codec in module.CODECS}


def is_reference(name: str) -> bool:
    """Returns whether a name, perhaps with @, is a reference codec's and not a model's."""
    return name.partition("@")[0] in references()


def at_effort(name: str, effort: int) -> str:
    """Returns the name of a codec at a level of effort, which only models have."""
    if is_reference(name) or effort == DEFAULT_EFFORT:
        return name
    base, at, scale = name.partition("@")
    return f"{base}{EFFORT}{effort}{at}{scale}"


@cache
def find_codec(name: str) -> BenchCodec:
    """Returns a reference codec by name, or a model by name or file.

    With `@fit` or `@SCALE` after the name, the codec fits a limit in bytes (fit.py). With
    `, effort N` after a model's name, it searches (ours.py). Raises UsageError for an unknown name.
    """
    base, at, scale = name.rpartition("@")
    if at:
        try:
            return within(find_codec(base), None if scale == "fit" else float(scale))
        except ValueError:
            raise UsageError(f"{name}: write a scale of 0 to 1, or 'fit', after the @") from None
    if name in references():
        return references()[name]
    from facecodec.bench.codecs.ours import model_codec

    model, comma, effort = name.partition(EFFORT)
    if comma and effort not in map(str, EFFORTS):
        raise UsageError(f"{name}: an effort is a whole number, {EFFORTS[0]} to {EFFORTS[-1]}")
    try:
        return model_codec(model, int(effort or DEFAULT_EFFORT))
    except UsageError as error:
        raise UsageError(f"{error}; reference codecs: {', '.join(references())}") from None


@cache
def unusable(name: str) -> str | None:
    """Returns why a codec cannot be measured here, or None if it codes a trial picture.

    With `@fit` or `@SCALE`, the codec itself is tried.
    """
    codec = find_codec(name.partition("@")[0])
    reason = codec.missing()
    if reason:
        return reason
    ramp = np.linspace(0, 255, TRIAL * TRIAL * 3).astype(np.uint8).reshape(TRIAL, TRIAL, 3)
    try:
        decoded = codec.decode(codec.encode(ramp, codec.settings[0]), (TRIAL, TRIAL))
    except Exception as error:  # each library and program raises its own types
        return f"it failed on a trial picture: {type(error).__name__}: {error}"
    if decoded.shape != ramp.shape:
        return f"a trial picture of {ramp.shape} came back as {decoded.shape}"
    return None


def code(name: str, pixels: np.ndarray, setting: float, file: Path) -> tuple[int, np.ndarray]:
    """Codes `pixels` with codec `name` into `file`.

    Returns the size of the file and the pixels read back from it, uint8 (H, W, 3).
    """
    codec = find_codec(name)
    file.write_bytes(codec.encode(pixels, setting))
    height, width = pixels.shape[:2]
    return file.stat().st_size, codec.decode(file.read_bytes(), (height, width))
