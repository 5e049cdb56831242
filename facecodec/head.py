"""A model's head: embeddings and classes of a face from its latents, without making pixels."""

from __future__ import annotations

import numpy as np

from facecodec.frozen import HeadFile
from facecodec.sessions import Transforms


class Head:
    """Built from the file of a head (facecodec/networks/head.py).

    `space` is the recogniser whose embeddings it gives.
    """

    def __init__(self, file: HeadFile, threads: int = 0) -> None:
        self.space = file.space
        self.classes = file.classes
        self._tensors = file.tensors
        self._transforms = Transforms(file.tensors, threads)

    def embed(self, latents: np.ndarray) -> np.ndarray:
        """float32 (D,), of length 1, of latents (M, h, w)."""
        embedding = self._transforms.vector("head.onnx", latents)
        return embedding / max(np.linalg.norm(embedding), 1e-12)

    def classify(self, latents: np.ndarray) -> np.ndarray:
        """Scores of `classes`, float32 (C,)."""
        weight, bias = (self._tensors[name].astype(np.float32) for name in ("weight", "bias"))
        return weight @ self._transforms.vector("head.onnx", latents) + bias
