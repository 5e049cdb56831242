"""The rate at which a codec keeps faces as well as the baseline does, by three measures.

`crossing` is the rate at which the monotone fit of FRR falls to the baseline's FRR. On a flat curve
a few people move it far. `no_worse` is the lowest rate at which the interval of the paired
difference of both FRRs includes zero, and from which on the difference stays below NEAR. `cosine`
is the rate at which the mean cosine to the original's embedding reaches the baseline's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from facecodec.bench.intervals import interval
from facecodec.bench.metrics import rate_at, rates_at

NEAR = 0.005  # half a point of FRR
FEWEST_POINTS = 6  # settings that a fit of FRR over rate needs
FEWEST_LINE = 2  # settings that a line between them needs


def crossing(
    rates: Sequence[float],
    values: np.ndarray,
    target: float,
    drawn: np.ndarray,
    targets: np.ndarray,
    fewest: int = FEWEST_POINTS,
) -> dict[str, Any]:
    """Returns where a falling curve reaches the target: `bpp` and its `interval`, or a `reason`.

    `drawn` (len(rates), count) and `targets` (count,) are the values and the target in each sample.
    """
    if len(rates) < fewest:
        return {"reason": f"{_settings(len(rates))}; a fit takes {fewest}"}
    found = _found(rates, rate_at(rates, values.tolist(), target))
    if "bpp" in found:
        found["interval"] = interval(rates_at(rates, drawn, targets))
    return found


def no_worse(
    rates: Sequence[float], differences: np.ndarray, lows: Sequence[float]
) -> dict[str, Any]:
    """Returns where FRR is first no worse than the baseline's: `bpp`, or a `reason`.

    For each rate, `differences` has FRR minus the baseline's, and `lows` the low end of its
    interval. Both are linear in log rate between the rates.
    """
    if len(rates) < FEWEST_LINE:
        return {"reason": f"{_settings(len(rates))}; a line takes {FEWEST_LINE}"}
    order = np.argsort(rates)
    x, difference, low = (
        np.asarray(each, float)[order] for each in (np.log(rates), differences, lows)
    )
    far = np.flatnonzero(difference > NEAR)
    if len(far) and far[-1] == len(x) - 1:
        return {"reason": "not reached"}
    start = x[0] if not len(far) else _zero(x, difference - NEAR, far[-1])
    places = np.append(start, x[x > start])
    lows_there = np.interp(places, x, low)
    reached = np.flatnonzero(lows_there <= 0)
    if not len(reached):
        return {"reason": "not reached"}
    first = reached[0]
    place = places[0] if first == 0 else _zero(places, lows_there, first - 1)
    return _found(rates, math.exp(place))


def _zero(x: np.ndarray, values: np.ndarray, before: int) -> float:
    """Returns where the line from the value `before`, above zero, to the next one is zero."""
    one, two = values[before], values[before + 1]
    return float(x[before] + (x[before + 1] - x[before]) * one / (one - two))


def _found(rates: Sequence[float], rate: float | None) -> dict[str, Any]:
    if rate is None:
        return {"reason": "not reached"}
    if math.isclose(rate, min(rates)):
        return {"reason": f"below {rate:.3f} bpp, the lowest rate measured"}
    return {"bpp": rate}


def _settings(count: int) -> str:
    return f"{count} setting" + ("" if count == 1 else "s")
