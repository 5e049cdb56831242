"""Bootstrap intervals over the people who ask, with the gallery fixed.

Photographs of one person are not independent, so people are drawn, not photographs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facecodec.bench.metrics import rate_at
from facecodec.bench.protocols import FAR, frr_at_far

DRAWS = 1000
LEVEL = 0.95

Distances = tuple[
    np.ndarray, np.ndarray
]  # of each query: to its own gallery, and to the nearest other


def draws(people: Sequence[str], count: int = DRAWS, seed: int = 0) -> list[np.ndarray]:
    """Indices of the queries in each of `count` samples of people with replacement; `people` of
    each query.
    """
    by_person: dict[str, list[int]] = {}
    for index, person in enumerate(people):
        by_person.setdefault(person, []).append(index)
    groups = [np.array(each) for each in by_person.values()]
    rng = np.random.default_rng(seed)
    return [
        np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
        for _ in range(count)
    ]


def frr_draws(measured: Distances, samples: list[np.ndarray], far: float = FAR) -> np.ndarray:
    """Returns FRR at FAR in each sample, (len(samples),).

    With the same samples, differences of two codecs are paired.
    """
    same, other = measured
    return np.array([frr_at_far(same[sample], other[sample], far, least=1) for sample in samples])


def parity_draws(rates: Sequence[float], frr: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns where the monotone fit of FRR over rate crosses the target in each sample.

    It is NaN where there is no crossing. `frr` is (len(rates), samples), `target` (samples,).
    """
    crossings = [
        rate_at(rates, values, wanted) for values, wanted in zip(frr.T, target, strict=True)
    ]
    return np.array([np.nan if rate is None else rate for rate in crossings])


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """Returns the middle `level` of the values, or None if too many are NaN to say."""
    tail = (1 - level) / 2
    if np.isnan(values).mean() > tail:
        return None
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)
