"""A model's head: embeddings and classes of a face from its latents, without making pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from facecodec.errors import ModelError
from facecodec.frozen import HeadFile
from facecodec.sessions import Transforms
from facecodec.template import Face


@dataclass(frozen=True)
class HeadResult:
    """What a head finds in latents: an embedding, float32 (D,) of length 1, and a face.

    `face` is None if the head's file lacks `certain`.
    """

    embedding: np.ndarray
    face: Face | None


class Head:
    """A head, built from its file (facecodec/networks/head.py).

    `space` is the recogniser whose embeddings it gives.
    """

    def __init__(self, file: HeadFile, threads: int = 0) -> None:
        self.space = file.space
        self.classes = file.classes
        self.certain = file.certain
        self._tensors = file.tensors
        self._transforms = Transforms(file.tensors, threads)

    def run(self, latents: np.ndarray) -> HeadResult:
        """Returns the embedding, and the face, that the head finds in latents (M, h, w).

        Raises ModelError if the result is not finite, because of huge latents or a bad head.
        """
        embedding, *others = self._seen(latents)
        length = float(np.linalg.norm(embedding))
        unit = (embedding / max(length, 1e-12)).astype(np.float32)
        if self.certain is None:
            return HeadResult(unit, None)
        if not others or others[0].shape != (5, 2):
            raise ModelError("the head gives no landmarks")
        middle, width = self.certain
        return HeadResult(unit, Face(others[0], logistic((length - middle) / width)))

    def classify(self, latents: np.ndarray) -> np.ndarray:
        """Returns the scores of `classes`, float32 (C,).

        Raises ModelError for a head without classes, and as `run` does.
        """
        if not self.classes:
            raise ModelError("the head tells no classes apart")
        weight, bias = (self._tensors[name].astype(np.float64) for name in ("weight", "bias"))
        embedding = self._seen(latents)[0]
        if len(embedding) != weight.shape[1]:
            raise ModelError(
                f"the head's embedding has {len(embedding)} numbers, its classes {weight.shape[1]}"
            )
        return (weight @ embedding + bias).astype(np.float32)

    def _seen(self, latents: np.ndarray) -> list[np.ndarray]:
        """Returns the outputs of the graph as float64, in which no sum of squares overflows."""
        seen = [each.astype(np.float64) for each in self._transforms.vectors("head.onnx", latents)]
        if not all(np.isfinite(each).all() for each in seen):
            raise ModelError("the head gives no numbers for this file")
        return seen


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, value))))
