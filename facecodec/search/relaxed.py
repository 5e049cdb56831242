"""Relaxed latents, not yet rounded: their bits, and gradients of the bits and the picture.

The bits are interpolated from the integer tables: between the two integers next to a value, and
between the two tables nearest to its scale. How y is predicted from z depends on the family:
search/hyperprior.py and search/sliced.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from facecodec.container import MAX_QUALITY_BYTE
from facecodec.entropy import MAX_EXPONENT, Tables
from facecodec.exact import FRACTION, GAIN_FRACTION, SCALE_STEPS
from facecodec.families.hyperlatent import HyperLatent
from facecodec.families.hyperprior import Latents
from facecodec.search.annealing import Softened
from facecodec.search.graphs import Applied, Transform

LARGEST = 1023  # larger symbols count as costing as many bits as this one
LN2 = np.float32(np.log(2))

Soften = Callable[[np.ndarray], Softened]  # annealing.Rounding, or `rounded`


def rounded(values: np.ndarray) -> Softened:
    """Rounds as coding does. The result has no gradient."""
    nothing = np.zeros_like(values)
    return np.rint(values), nothing, nothing


class Gained(Protocol):
    """The attributes of a family that can be searched."""

    tables: Tables
    z: HyperLatent
    channels: int
    gains: dict[str, np.ndarray]  # "y_log_gain" is (225, M), in units of 2^-10


class Rates:
    """The bits of values between two integers, by tables between two."""

    def __init__(self, tables: Tables) -> None:
        self._costs = _costs(tables)

    def __call__(
        self, low: np.ndarray, share: np.ndarray, index: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Returns the total bits, and their derivatives with respect to `share` and `index`.

        `low` are the integers below, `share` the way to those above, 0..1, `index` the table.
        """
        count, width = self._costs.shape
        index = np.clip(index, 0, count - 1)
        first = np.minimum(index.astype(np.int64), count - 2)
        part: np.ndarray = index - first.astype(np.float32)
        below = np.minimum(np.abs(low), LARGEST).astype(np.int64)
        above = np.minimum(np.abs(low + 1), LARGEST).astype(np.int64)
        costs, first = self._costs.ravel(), first * width
        bits = [costs.take(first + extra + at) for extra in (0, width) for at in (below, above)]
        by_share = (bits[1] - bits[0]) * (1 - part) + (bits[3] - bits[2]) * part
        by_index = (bits[2] - bits[0]) * (1 - share) + (bits[3] - bits[1]) * share
        total = bits[0] + by_share * share + (bits[2] - bits[0]) * part
        return float(total.sum(dtype=np.float64)), by_share, by_index


def _costs(tables: Tables) -> np.ndarray:
    """Returns the bits of each magnitude by each table, float32 (tables, LARGEST + 1).

    They include the bits after an escape.
    """
    costs = np.empty((len(tables), LARGEST + 1), np.float32)
    magnitudes = np.arange(LARGEST + 1)
    for table, reach in enumerate(tables.reach):
        costs[table] = tables.bits(magnitudes, np.full(LARGEST + 1, table))
        excess = magnitudes[reach + 1 :] - reach
        # After an escape (docs/format.md): the bit length, one of 20, the lower bits and the sign.
        costs[table, reach + 1 :] += np.log2(MAX_EXPONENT) + np.floor(np.log2(excess)) + 1
    return costs


class Part:
    """Some relaxed channels of y (m, h, w): their y_hat, bits and gradients.

    `parameters` are their predicted scales (log2, in eighths) and means; `log_gain` is log2 of the
    gain, in eighths.
    """

    def __init__(
        self,
        y: np.ndarray,
        parameters: tuple[np.ndarray, np.ndarray],
        log_gain: np.ndarray,
        rates: Rates,
        soften: Soften,
    ) -> None:
        scales, means = parameters
        self._gain = 2 ** (log_gain / SCALE_STEPS)
        self._away = (y - means) * self._gain
        low, share, self._slope = soften(self._away)
        self.bits, self._by_share, self._by_index = rates(low, share, scales + log_gain)
        self._apart = (low + share) / self._gain
        self.y_hat = self._apart + means

    def gradient(
        self, by_y_hat: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns the gradients with respect to y, scales, means and log_gain.

        `by_y_hat` is the gradient with respect to y_hat; that of the bits is added.
        """
        by_away = (by_y_hat / self._gain + self._by_share) * self._slope
        by_y = by_away * self._gain
        by_log_gain = (by_away * self._away - by_y_hat * self._apart) * (
            LN2 / SCALE_STEPS
        ) + self._by_index
        return by_y, self._by_index, by_y_hat - by_y, by_log_gain


@dataclass(frozen=True)
class Evaluation:
    """The result of some variables: bits, and the picture, float32 (3, 16h, 16w), 0..1.

    `gradient` takes the gradient of the picture's loss, in bits, and returns that of loss plus bits
    with respect to each variable.
    """

    bits: float
    picture: np.ndarray
    gradient: Callable[[np.ndarray], list[np.ndarray]]


class Relaxed:
    """One picture's latents at one quality, over which `annealing.anneal` descends.

    Families override `_coded`.
    """

    has_quality_map: bool

    def __init__(
        self,
        family: Gained,
        h_s: Transform,
        latents: Latents,
        quality_byte: int,
    ) -> None:
        self._h_s, self._quality = h_s, quality_byte
        self._channels = family.channels
        y, z = latents
        self._rows, self._columns = y.shape[1:]
        inverse = family.z.inverse_gain[quality_byte][:, None, None]
        self._z_step = (inverse / 2.0**GAIN_FRACTION).astype(np.float32)
        self._z_tables = np.broadcast_to(
            family.z.table[quality_byte].astype(np.float32)[:, None, None], z.shape
        )
        # By channel: log2 of the gain in eighths, which is added to a table's index, and its
        # derivative with respect to the quality byte.
        self._log_gain = (family.gains["y_log_gain"].T / 2.0**FRACTION).astype(np.float32)
        self._log_slope = np.gradient(self._log_gain, axis=1).astype(np.float32)
        self._rates = Rates(family.tables)
        out = self._hyper(np.rint(z / self._z_step) * self._z_step)[1]
        self._y_step = 2 ** (-self._log_gain[:, self._qualities(out)] / SCALE_STEPS)
        self.start = [y / self._y_step, z / self._z_step]

    def latents(self, values: list[np.ndarray]) -> Latents:
        """Returns y and z, float32. The variables are in units of the steps at the start."""
        return values[0] * self._y_step, values[1] * self._z_step

    def at(self, values: list[np.ndarray], soften: Soften) -> Evaluation:
        """Codes y and z, in units of the steps at the start, rounded by `soften`."""
        z_low, z_share, z_slope = soften(values[1])
        hyper, out = self._hyper((z_low + z_share) * self._z_step)
        z_bits, z_by_share, _ = self._rates(z_low, z_share, self._z_tables)
        coded = self._coded(values[0] * self._y_step, out, self._qualities(out), soften)

        def gradient(by_picture: np.ndarray) -> list[np.ndarray]:
            by_y, by_out = coded.gradient(by_picture)
            whole = np.zeros_like(hyper.result)
            whole[:, : self._rows, : self._columns] = by_out
            by_z = hyper.gradient(whole) * self._z_step
            return [by_y * self._y_step, (by_z + z_by_share) * z_slope]

        return Evaluation(coded.bits + z_bits, coded.picture, gradient)

    def _coded(
        self, y: np.ndarray, out: np.ndarray, qualities: np.ndarray, soften: Soften
    ) -> Evaluation:
        """Codes y by `out` of the hyper-synthesis. The gradients are for y and `out`."""
        raise NotImplementedError

    def _by_quality(self, by_log_gain: np.ndarray, qualities: np.ndarray) -> np.ndarray:
        """Returns the gradient for each position's quality byte, as if it were not rounded."""
        return (by_log_gain * self._log_slope[:, qualities]).sum(0)

    def _hyper(self, z_hat: np.ndarray) -> tuple[Applied, np.ndarray]:
        applied = self._h_s(z_hat.astype(np.float32))
        return applied, applied.result[:, : self._rows, : self._columns]

    def _qualities(self, out: np.ndarray) -> np.ndarray:
        shift = np.rint(out[-1]).astype(np.int64) if self.has_quality_map else 0
        there = np.full(out.shape[1:], self._quality, np.int64) + shift
        return np.clip(there, 0, MAX_QUALITY_BYTE)
