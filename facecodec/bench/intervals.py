"""Bootstrap intervals. People are resampled, because faces of one person are not independent.

A sample is stored as the count of each face in it, so that all samples are computed at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from facecodec.bench.protocols import FAR

DRAWS = 2000
LEVEL = 0.95

Distances = tuple[
    np.ndarray, np.ndarray
]  # for each query: to its own gallery, and to the nearest other person's


def draws(people: Sequence[str], count: int = DRAWS) -> np.ndarray:
    """Draws people with replacement; returns the count of each face in each sample.

    `people` (N,) are the names of the faces' people; the result is float (count, N).
    """
    _, number = np.unique(np.asarray(people), return_inverse=True)
    total = int(number.max()) + 1
    taken = np.random.default_rng(0).multinomial(total, np.full(total, 1 / total), count)
    return taken[:, number].astype(float)


def frr_draws(measured: Distances, samples: np.ndarray, far: float = FAR) -> np.ndarray:
    """Returns FRR at FAR in each sample of the queries, (count,). The gallery is fixed.

    With the same samples, differences between codecs are paired.
    """
    same, other = measured
    total = samples.sum(1)
    allowed = np.floor(far * total)
    nearest = np.argsort(other, kind="stable")
    few = math.ceil(far * len(other)) + 1
    while few < len(other) and (samples[:, nearest[:few]].sum(1) <= allowed).any():
        few *= 2  # a sample contained too few of them
    passed = np.cumsum(samples[:, nearest[:few]], 1)
    drawn = other[nearest][(passed > allowed[:, None]).argmax(1)]
    thresholds, number = np.unique(drawn, return_inverse=True)
    accepted = samples @ (same[:, None] < thresholds)
    return 1 - np.take_along_axis(accepted, number[:, None], 1)[:, 0] / total


def mean_draws(values: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Returns the mean of `values` (N,) in each sample, (count,), without those that are NaN."""
    known = ~np.isnan(values)
    total = samples @ known
    return np.where(total > 0, samples @ np.where(known, values, 0) / np.maximum(total, 1), np.nan)


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """Returns the ends of the middle LEVEL of the values, or None if too many are NaN."""
    tail = (1 - LEVEL) / 2
    if np.isnan(values).mean() > tail:
        return None
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)
