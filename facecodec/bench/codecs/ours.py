"""Our own models, through the Python API; the setting is q."""

from __future__ import annotations

import hashlib

import numpy as np

from facecodec.bench.codecs.codec import Codec


def model_codec(name: str) -> Codec:
    """A model by name or file. Raises UsageError if there is none."""
    from facecodec import codec as facecodec
    from facecodec.checkpoint import model_path

    path = model_path(name)
    model = facecodec.Codec(path, threads=1)

    def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
        return np.asarray(model.decode(data))

    name = model.card.name
    # The fingerprint leaves the encoder out, on which rate and quality depend as well.
    version = f"{model.card.fingerprint}, file {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    return Codec(name, name, tuple(range(1, 9)), model.encode, decode, lambda: version)
