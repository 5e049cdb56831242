"""The relaxed hyperprior: bits of latents that are not yet whole numbers, and the gradients.

Bits are those of the real integer tables, interpolated: between the two neighbours of a symbol, and
between the two tables nearest to its scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facecodec.container import MAX_QUALITY_BYTE
from facecodec.entropy import Tables
from facecodec.exact import FRACTION, GAIN_FRACTION
from facecodec.families.hyperprior import Hyperprior, Latents
from facecodec.search.annealing import Rounding
from facecodec.search.files import Graphs
from facecodec.search.graphs import Transform

LARGEST = 1023  # magnitude beyond which a symbol is taken to cost what this one does
LN2 = np.float32(np.log(2))

# From the picture, float32 (3, 16h, 16w) of values 0..1, to the gradient of its loss, in bits.
PictureGradient = Callable[[np.ndarray, np.random.Generator], np.ndarray]

Transforms = tuple[Transform, Transform]


def transforms(graphs: Graphs) -> Transforms:
    """Returns the synthesis and the hyper-synthesis of a model's search file. Raises ModelError."""
    return graphs.transform("g_s"), graphs.transform("h_s")


class Relaxed:
    """One picture's latents at one quality: what `annealing.anneal` descends over."""

    def __init__(
        self,
        family: Hyperprior,
        transforms: Transforms,
        latents: Latents,
        quality_byte: int,
        picture: PictureGradient,
    ) -> None:
        self._family, self._picture = family, picture
        self._g_s, self._h_s = transforms
        self._quality = quality_byte
        y, z = latents
        self._rows, self._columns = y.shape[1:]
        inverse = family.z.inverse_gain[quality_byte][:, None, None]
        self._z_step = (inverse / 2.0**GAIN_FRACTION).astype(np.float32)
        self._z_tables = np.broadcast_to(
            family.z.table[quality_byte].astype(np.float32)[:, None, None], z.shape
        )
        # By channel: log2 of the gain in eighths, which is what it adds to a table's index, and its
        # change from one quality byte to the next.
        self._log_gain = (family.gains["y_log_gain"].T / 2.0**FRACTION).astype(np.float32)
        self._log_slope = np.gradient(self._log_gain, axis=1).astype(np.float32)
        self._costs = _costs(family.tables)
        out = self._hyper(np.rint(z / self._z_step) * self._z_step)
        self._y_step = 2 ** (-self._log_gain[:, self._qualities(out)] / 8)
        self.start = [y / self._y_step, z / self._z_step]

    def latents(self, values: list[np.ndarray]) -> Latents:
        """y and z, float32, of variables in units of the steps at the start."""
        return values[0] * self._y_step, values[1] * self._z_step

    def __call__(
        self, values: list[np.ndarray], soften: Rounding, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Returns the gradient, in bits a step, with respect to y and z."""
        channels = self._family.channels
        z_low, z_share, z_slope = soften(values[1])
        out = self._hyper((z_low + z_share) * self._z_step)
        scales, means = out[:channels], out[channels : 2 * channels]
        qualities = self._qualities(out)
        log_gain = self._log_gain[:, qualities]
        gain = 2 ** (log_gain / 8)
        y = values[0] * self._y_step
        low, share, slope = soften((y - means) * gain)
        symbols = low + share
        y_hat = symbols / gain + means

        bits_by_share, bits_by_index = self._rate(low, share, scales + log_gain)
        z_bits_by_share, _ = self._rate(z_low, z_share, self._z_tables)
        by_y_hat = self._g_s.gradient(self._picture(self._g_s(y_hat), rng))

        by_residual = (by_y_hat / gain + bits_by_share) * slope
        by_out = np.zeros_like(self._whole)
        inner = by_out[:, : self._rows, : self._columns]
        inner[:channels] = bits_by_index
        inner[channels : 2 * channels] = by_y_hat - by_residual * gain
        if self._family.has_quality_map:
            by_log2 = (by_residual * (y - means) * gain - by_y_hat * symbols / gain) * LN2
            by_log_gain = by_log2 / 8 + bits_by_index
            inner[-1] = (by_log_gain * self._log_slope[:, qualities]).sum(0)
        by_z = self._h_s.gradient(by_out) * self._z_step
        return [by_residual * gain * self._y_step, (by_z + z_bits_by_share) * z_slope]

    def _hyper(self, z_hat: np.ndarray) -> np.ndarray:
        self._whole = self._h_s(z_hat.astype(np.float32))
        return self._whole[:, : self._rows, : self._columns]

    def _qualities(self, out: np.ndarray) -> np.ndarray:
        shift = np.rint(out[-1]).astype(np.int64) if self._family.has_quality_map else 0
        there = np.full(out.shape[1:], self._quality, np.int64) + shift
        return np.clip(there, 0, MAX_QUALITY_BYTE)

    def _rate(
        self, low: np.ndarray, share: np.ndarray, index: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the derivatives of the bits by how much of the symbol above is taken, and by the
        table's index.
        """
        count, width = self._costs.shape
        index = np.clip(index, 0, count - 1)
        first = np.minimum(index.astype(np.int64), count - 2)
        part = index - first
        below = np.minimum(np.abs(low), LARGEST).astype(np.int64)
        above = np.minimum(np.abs(low + 1), LARGEST).astype(np.int64)
        costs, first = self._costs.ravel(), first * width
        bits = [costs.take(first + extra + at) for extra in (0, width) for at in (below, above)]
        by_share = (bits[1] - bits[0]) * (1 - part) + (bits[3] - bits[2]) * part
        by_index = (bits[2] - bits[0]) * (1 - share) + (bits[3] - bits[1]) * share
        return by_share, by_index


def _costs(tables: Tables) -> np.ndarray:
    """Returns the bits of a symbol's magnitude by each table, float32 (tables, LARGEST + 1).

    The bits of escapes are included.
    """
    costs = np.empty((len(tables), LARGEST + 1), np.float32)
    magnitudes = np.arange(LARGEST + 1)
    for table, reach in enumerate(tables.reach):
        costs[table] = tables.bits(magnitudes, np.full(LARGEST + 1, table))
        excess = magnitudes[reach + 1 :] - reach
        # How docs/format.md codes what is beyond: its length among 20, its lower bits, its sign.
        costs[table, reach + 1 :] += np.log2(20) + np.floor(np.log2(excess)) + 1
    return costs


def trimmed(family: Hyperprior, latents: Latents, quality_byte: int, bits: float) -> Latents:
    """Returns latents that need `bits` fewer.

    Symbols move by one towards zero where that costs least for a bit.
    """
    y, z = latents
    symbols = family.z.rounded(z, quality_byte)
    whole = family.prediction(symbols, slice(0, y.shape[1]), slice(0, y.shape[2]), quality_byte)
    exact = family.residual(y, whole)
    near = np.rint(exact)
    low = near - np.sign(near)
    saved = family.tables.bits(near, whole.tables) - family.tables.bits(low, whole.tables)
    worse = np.maximum((exact - low) ** 2 - (exact - near) ** 2, 1e-3)
    order = np.argsort(-(saved / worse).ravel(), kind="stable")
    count = int(np.searchsorted(np.cumsum(saved.ravel()[order]), bits)) + 1
    chosen = near.ravel()
    chosen[order[:count]] = low.ravel()[order[:count]]
    steps = family.residual(np.ones_like(y), whole) + whole.means * 2.0**-FRACTION
    means = whole.means * 2.0**-FRACTION
    return ((chosen.reshape(y.shape) + means) / steps).astype(np.float32), z
