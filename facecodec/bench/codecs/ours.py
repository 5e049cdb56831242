"""facecodec's own models, through the Python API; the setting is q."""

from __future__ import annotations

import hashlib
import sys
from functools import partial
from pathlib import Path

import numpy as np

from facecodec.bench.card import teachers
from facecodec.bench.codecs.codec import EFFORT, BenchCodec, Commands
from facecodec.container import MAX_QUALITY_BYTE, QUALITY_STEPS
from facecodec.images import TRUSTED_MAX_PIXELS
from facecodec.search import DEFAULT_EFFORT

LARGE = ("--max-pixels", str(TRUSTED_MAX_PIXELS))  # photographs may be as large as the bench reads
PROGRAM = (sys.executable, "-m", "facecodec")
QUALITIES = tuple(1 + byte / QUALITY_STEPS for byte in range(MAX_QUALITY_BYTE + 1))


def model_codec(name: str, effort: int = DEFAULT_EFFORT) -> BenchCodec:
    """Returns a model by name or file, which encodes at a level of effort.

    Raises UsageError if there is no such model.
    """
    from facecodec import codec as facecodec
    from facecodec.frozen import model_path
    from facecodec.search.files import faces_file, search_file

    path = model_path(name)
    model = facecodec.Codec(path, threads=1)

    def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
        return np.asarray(model.decode(data, TRUSTED_MAX_PIXELS))

    name = model.card.name
    # The fingerprint does not cover the encoder, but rate and quality depend on it.
    version = f"{model.card.fingerprint}, file {_digest(path)}"
    if effort > DEFAULT_EFFORT:
        name += f"{EFFORT}{effort}"
        for file in (search_file(path), faces_file(path)):
            version += f", {file.name} {_digest(file)}" if file.exists() else ""

    def encode_command(q: float, source: Path, target: Path) -> list[str]:
        chosen = ("-q", f"{q:g}", "--model", str(path), "--effort", str(effort))
        return [*PROGRAM, "encode", str(source), *chosen, *LARGE, "-f", "-o", str(target)]

    def decode_command(source: Path, target: Path) -> list[str]:
        return [*PROGRAM, "decode", str(source), *LARGE, "-f", "-o", str(target)]

    # The commands take a file or a folder.
    commands = Commands(encode_command, decode_command, encode_command, decode_command)
    return BenchCodec(
        name,
        name,
        tuple(range(1, 9)),
        QUALITIES,
        partial(model.encode, effort=effort),
        decode,
        lambda: version,
        commands=commands,
        teachers=teachers(model.card),
        encode_within=partial(model.encode_within, effort=effort),
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
