"""Protocols: identification after Xiao et al. (2022), section 4.2.2, and verification as on LFW.

They turn distances and people into error rates. No network is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from facecodec.errors import UsageError

MIN_QUERIES = 500
FAR, STRICT_FAR = 0.01, 0.001


def galleries(people: Sequence[str], size: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of gallery images, each person's first `size`, and of all others."""
    seen: dict[str, int] = {}
    is_gallery = np.zeros(len(people), bool)
    for index, person in enumerate(people):
        seen[person] = seen.get(person, 0) + 1
        is_gallery[index] = seen[person] <= size
    return np.flatnonzero(is_gallery), np.flatnonzero(~is_gallery)


def distances(
    embeddings: np.ndarray, people: Sequence[str], size: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Returns each query's cosine distance to its own gallery, and to the nearest other person's.

    `embeddings` (N, D) are unit vectors, in the order of file names. A person's first `size` images
    are the gallery, and the nearest of them counts; every later image is a query. An image whose
    embedding is NaN, because no face was found, is infinitely far from every other.
    """
    gallery, queries = galleries(people, size)
    distance = np.nan_to_num(1 - embeddings[queries] @ embeddings[gallery].T, nan=np.inf)
    names = np.array(people)
    own = names[queries][:, None] == names[gallery]
    return np.where(own, distance, np.inf).min(1), np.where(own, np.inf, distance).min(1)


def frr_at_far(
    same: np.ndarray, other: np.ndarray, far: float = FAR, least: int = MIN_QUERIES
) -> float:
    """Returns the share of `same` distances that are rejected at a FAR.

    They are not below the threshold, under which `far` of the `other` distances lie. Raises
    UsageError for fewer than `least` queries.
    """
    if len(other) < least:
        raise UsageError(
            f"{len(other)} queries are too few for FRR at FAR {far:.0%}: at least {least}"
        )
    return float((same >= threshold_at_far(other, far)).mean())


def threshold_at_far(other: np.ndarray, far: float = FAR) -> float:
    """Returns the distance below which a share `far` of the distances to other people lies."""
    return float(np.sort(other)[math.floor(far * len(other))])


def roc(same: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns FAR and FRR, two arrays, at every threshold that changes one of them. FAR rises."""
    thresholds = np.unique(np.concatenate([same, other]))
    far = np.searchsorted(np.sort(other), thresholds) / len(other)
    frr = 1 - np.searchsorted(np.sort(same), thresholds) / len(same)
    return far, frr


def verification(distances: np.ndarray, same: np.ndarray, fold: np.ndarray) -> list[float]:
    """Returns the accuracy on each fold of pairs, with the threshold that is best on the others.

    This is LFW's protocol. The arguments are (P,): for each pair the distance, whether both are the
    same person, and the fold.
    """
    accuracies = []
    for number in np.unique(fold):
        ours = fold == number
        candidates = np.append(
            np.unique(distances[~ours]), np.inf
        )  # pairs with a distance below the threshold are accepted
        accepted = np.sort(distances[~ours & same])
        wrong = np.sort(distances[~ours & ~same])
        right = (
            np.searchsorted(accepted, candidates) + len(wrong) - np.searchsorted(wrong, candidates)
        )
        threshold = candidates[np.argmax(right)]
        accuracies.append(float(((distances[ours] < threshold) == same[ours]).mean()))
    return accuracies
