"""A model's head: embeddings and classes of a face from its latents, without making pixels."""

from __future__ import annotations

import numpy as np

from facecodec.errors import ModelError
from facecodec.frozen import HeadFile
from facecodec.sessions import Transforms


class Head:
    """A head, built from its file (facecodec/networks/head.py).

    `space` is the recogniser whose embeddings it gives.
    """

    def __init__(self, file: HeadFile, threads: int = 0) -> None:
        self.space = file.space
        self.classes = file.classes
        self._tensors = file.tensors
        self._transforms = Transforms(file.tensors, threads)

    def embed(self, latents: np.ndarray) -> np.ndarray:
        """float32 (D,), of length 1, of latents (M, h, w).

        Raises ModelError where the graph does not give numbers: latents beyond all bounds, or a bad
        head.
        """
        embedding = self._embedding(latents)
        return (embedding / max(np.linalg.norm(embedding), 1e-12)).astype(np.float32)

    def classify(self, latents: np.ndarray) -> np.ndarray:
        """Scores of `classes`, float32 (C,). Raises ModelError as `embed` does, and without
        classes.
        """
        if not self.classes:
            raise ModelError("the head tells no classes apart")
        weight, bias = (self._tensors[name].astype(np.float64) for name in ("weight", "bias"))
        embedding = self._embedding(latents)
        if len(embedding) != weight.shape[1]:
            raise ModelError(
                f"the head's embedding has {len(embedding)} numbers, its classes {weight.shape[1]}"
            )
        return (weight @ embedding + bias).astype(np.float32)

    def _embedding(self, latents: np.ndarray) -> np.ndarray:
        """float64, in which no sum of squares overflows."""
        embedding = self._transforms.vector("head.onnx", latents).astype(np.float64)
        if not np.isfinite(embedding).all():
            raise ModelError("the head gives no numbers for this file")
        return embedding
