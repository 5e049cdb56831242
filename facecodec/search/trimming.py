"""Trims bits: moves symbols by one towards zero where this costs least per bit.

The cost is the growth of the squared rounding error, in steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facecodec.entropy import Tables

# Takes latents minus their means, in steps, and their tables; returns symbols, as floats.
Choice = Callable[[np.ndarray, np.ndarray], np.ndarray]
LEVELS = np.append(np.logspace(5, -3, 800), 0.0)  # bits saved per squared error, best first

# Takes a choice and returns the y, float32, that is coded as the chosen symbols.
Chosen = Callable[[Choice], np.ndarray]


def trimmed(tables: Tables, chosen: Chosen, bits: float) -> np.ndarray:
    """Returns a y that needs about `bits` fewer bits, or as many as moves by one can save."""
    saved = np.zeros(len(LEVELS) + 1)

    def count(exact: np.ndarray, index: np.ndarray) -> np.ndarray:
        near, _, gained, level = _moves(tables, exact, index)
        saved[:] += np.bincount(level, gained, len(saved))
        return near

    chosen(count)
    last = min(int(np.searchsorted(np.cumsum(saved), bits)), len(LEVELS) - 1)

    def move(exact: np.ndarray, index: np.ndarray) -> np.ndarray:
        near, low, _, level = _moves(tables, exact, index)
        return np.where(level.reshape(near.shape) <= last, low, near)

    return chosen(move)


def _moves(
    tables: Tables, exact: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns each symbol, its neighbour towards zero, and, flat, the bits saved and the level.

    Moves that save nothing have the level len(LEVELS).
    """
    near = np.rint(exact)
    low = near - np.sign(near)
    gained = (tables.bits(near, index) - tables.bits(low, index)).ravel()
    worse = np.maximum((exact - low) ** 2 - (exact - near) ** 2, 1e-3).ravel()
    level = np.searchsorted(-LEVELS, -gained / worse)
    level[gained <= 0] = len(LEVELS)
    return near, low, np.maximum(gained, 0), level
