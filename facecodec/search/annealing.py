"""Stochastic Gumbel annealing: gradient descent over latents that are rounded up or down at random.

The randomness falls with the temperature. After Yang, Bamler and Mandt, "Improving Inference for
Neural Image Compression" (NeurIPS 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EDGE = 1e-4  # a latent counts as at least this far from a whole number

Softened = tuple[np.ndarray, np.ndarray, np.ndarray]
Gradient = Callable[[list[np.ndarray], "Rounding", np.random.Generator], list[np.ndarray]]


@dataclass(frozen=True)
class Schedule:
    """`steps` of Adam at `rate`, at temperatures from `hot` down to `cold`.

    `rate` is in units of the quantisation step.
    """

    steps: int
    rate: float = 0.02
    hot: float = 0.2
    cold: float = 0.02


class Rounding:
    """Rounding at a temperature: each value becomes a random point between its two integers."""

    def __init__(self, temperature: float, rng: np.random.Generator) -> None:
        self._temperature, self._rng = np.float32(temperature), rng

    def __call__(self, values: np.ndarray) -> Softened:
        """Rounds at random.

        Returns the integer below, the share of the way to the integer above, and the derivative of
        this share.
        """
        low = np.floor(values)
        part = np.clip(values - low, EDGE, 1 - EDGE)
        # atanh(part) - atanh(1 - part), and its derivative
        towards = 0.5 * np.log((1 + part) * part / ((1 - part) * (2 - part)))
        slope = 1 / (1 - part * part) + 1 / (part * (2 - part))
        chance = self._rng.random(values.shape, np.float32)
        np.clip(chance, 1e-6, 1 - 1e-6, out=chance)
        noise = np.log(chance / (1 - chance))
        cold = 1 / self._temperature
        share = 1 / (1 + np.exp(np.clip(-(towards * cold + noise) * cold, -60, 60)))
        return low, share, share * (1 - share) * slope * cold * cold


def anneal(
    start: list[np.ndarray], gradient: Gradient, schedule: Schedule, rng: np.random.Generator
) -> list[np.ndarray]:
    """Descends from `start` and returns the variables at the end.

    They are float32, in units of their steps. `gradient` takes them, a Rounding and `rng`, and
    returns the loss's gradient with respect to each.
    """
    values = [each.copy() for each in start]
    first = [np.zeros_like(each) for each in values]
    second = [np.zeros_like(each) for each in values]
    for step in range(schedule.steps):
        along = step / max(1, schedule.steps - 1)
        temperature = schedule.hot * math.exp(along * math.log(schedule.cold / schedule.hot))
        gradients = gradient(values, Rounding(temperature, rng), rng)
        b1, b2 = 0.9, 0.99
        for value, slope, m, v in zip(values, gradients, first, second, strict=True):
            m += (1 - b1) * (slope - m)
            v += (1 - b2) * (slope * slope - v)
            size = schedule.rate / (1 - b1 ** (step + 1))
            value -= size * m / (np.sqrt(v / (1 - b2 ** (step + 1))) + 1e-12)
    return values
