"""What the codecs in Pillow have in common."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import PIL
from PIL import Image, features

from facecodec.bench.codecs.codec import BenchCodec, Commands

ONE = """import sys
from PIL import Image
Image.open(sys.argv[1]).convert("RGB").save(sys.argv[2], ARGUMENTS)
"""
MANY = """import os, sys
from multiprocessing import get_context
from pathlib import Path
from PIL import Image
def one(path):
    Image.open(path).convert("RGB").save(Path(sys.argv[2], path.stem + sys.argv[3]), ARGUMENTS)
with get_context("fork").Pool(os.cpu_count()) as pool:
    pool.map(one, list(Path(sys.argv[1]).iterdir()))
"""

Options = Callable[[float], dict[str, object]]


def codec(
    name: str,
    label: str,
    settings: tuple[float, ...],
    fine: Sequence[float],
    kind: str,
    options: Options,
    feature: str,
) -> BenchCodec:
    """Returns a codec of Pillow that needs the `feature` to be built in.

    `kind` is Pillow's name of the format; `options` returns the arguments of `save` at a setting.
    """
    return BenchCodec(
        name,
        label,
        settings,
        fine,
        partial(encode, kind, options),
        decode,
        partial(version, feature),
        partial(missing, feature),
        commands(kind, options),
    )


def encode(kind: str, options: Options, pixels: np.ndarray, setting: float) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options(setting))
    return buffer.getvalue()


def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def commands(kind: str, options: Options) -> Commands:
    """Returns commands that run only Python and Pillow, the simplest program possible."""

    def saved(setting: float) -> str:
        return f"{kind!r}, **{options(setting)!r}"

    return Commands(
        lambda setting, source, target: _python(ONE, str(source), str(target), saved(setting)),
        lambda source, target: _python(ONE, str(source), str(target), "'PNG'"),
        lambda setting, source, target: _python(
            MANY, str(source), str(target), ".fic", saved(setting)
        ),
        lambda source, target: _python(MANY, str(source), str(target), ".png", "'PNG'"),
    )


def _python(code: str, *values: str) -> list[str]:
    *given, arguments = values
    return [sys.executable, "-c", code.replace("ARGUMENTS", arguments), *given]


def version(feature: str) -> str:
    return f"Pillow {PIL.__version__}, {feature} {features.version(feature)}"


def missing(feature: str) -> str | None:
    return None if features.check(feature) else f"this Pillow was built without {feature}"
