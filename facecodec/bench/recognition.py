"""Recognition networks to measure with, and the identification protocol of Xiao et al. (2022), section 4.2.2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from facecodec.errors import UsageError

MIN_QUERIES = 500


class Embedder:
    """An ONNX recogniser: `image` (B, 3, 112, 112) RGB 0..255, five-point aligned, -> `embedding` (B, D)."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a type of its own for each kind of damage
            raise UsageError(f"{path}: not a recogniser that loads: {error}") from None

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """(3, 112, 112) float32 in 0..255 -> unit vector (D,): the sum for the crop and its mirror image."""
        both = np.ascontiguousarray(np.stack([crop, crop[..., ::-1]]))
        total = self._session.run(None, {"image": both})[0].sum(0)
        return total / np.linalg.norm(total)


def distances(embeddings: np.ndarray, people: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distances of each query to its own gallery image and to the nearest other one.

    `embeddings` (N, D), unit vectors, in the order of file names; a person's first image is the
    gallery, every later one a query.
    """
    first: dict[str, int] = {}
    for index, person in enumerate(people):
        first.setdefault(person, index)
    gallery = np.array(list(first.values()))
    place = {person: number for number, person in enumerate(first)}
    queries = np.setdiff1d(np.arange(len(people)), gallery)
    distance = 1 - embeddings[queries] @ embeddings[gallery].T
    own = np.array([place[people[query]] for query in queries], int)
    rows = np.arange(len(queries))
    same = distance[rows, own]
    distance[rows, own] = np.inf
    return same, distance.min(1)


def frr_at_far(same: np.ndarray, other: np.ndarray, far: float = 0.01) -> float:
    """Share of `same` distances that are not below the threshold which `far` of the `other` distances pass."""
    if len(other) < MIN_QUERIES:
        raise UsageError(f"{len(other)} queries are too few for FRR at FAR {far:.0%}: at least {MIN_QUERIES}")
    threshold = np.sort(other)[math.floor(far * len(other))]
    return float((same >= threshold).mean())
