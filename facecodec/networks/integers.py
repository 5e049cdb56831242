"""Turns everything that must be exact into integers: tables, gains and the hyper-synthesis.

See docs/format.md, "The model".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facecodec.container import MAX_QUALITY_BYTE, QUALITY_STEPS
from facecodec.entropy import PRECISION
from facecodec.exact import FRACTION, GAIN_FRACTION, SCALE_STEPS

SCALE_MIN = 0.11  # smallest standard deviation of a coded symbol
SCALE_OCTAVES = 10
TAIL = 5.0  # a Gaussian's table reaches this many standard deviations
LAPLACE_TAIL = 10.0  # a Laplace distribution's table reaches this many mean magnitudes
# The least count of an escape, of 2^24: real latents have heavier tails than Gaussians.
ESCAPE_COUNT = 16
WEIGHT_BITS = 15


def gaussian_tables() -> tuple[np.ndarray, np.ndarray]:
    """Returns the counts and the starts of tables of rounded zero-mean Gaussians of every scale."""
    return _tables(torch.special.ndtr, TAIL)


def laplace_tables() -> tuple[np.ndarray, np.ndarray]:
    """Returns such tables of Laplace distributions, whose scale is their mean magnitude."""
    return _tables(lambda x: torch.where(x < 0, x.exp() / 2, 1 - (-x).exp() / 2), LAPLACE_TAIL)


def table_indices(log_scale: np.ndarray) -> np.ndarray:
    """Returns the index, uint8, of the table nearest to log2 of a scale."""
    index = np.rint(SCALE_STEPS * (log_scale - np.log2(SCALE_MIN)))
    return np.clip(index, 0, SCALE_STEPS * SCALE_OCTAVES).astype(np.uint8)


def _supports(tail: float) -> Iterator[tuple[float, int]]:
    """Yields the scale of each table and its largest symbol."""
    for i in range(SCALE_STEPS * SCALE_OCTAVES + 1):
        scale = SCALE_MIN * 2 ** (i / SCALE_STEPS)
        yield scale, max(1, int(np.ceil(tail * scale)))


def _tables(distribution: Callable[[Tensor], Tensor], tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tables for scales SCALE_MIN 2^(i/8).

    `distribution` is the cumulative distribution function, float64, at scale 1.
    """
    tables = []
    for scale, reach in _supports(tail):
        edges = torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5
        mass = distribution(edges / scale).diff().numpy()
        mass = np.append(mass, max(1 - mass.sum(), ESCAPE_COUNT / 2**PRECISION))
        counts = np.maximum(1, np.rint(mass / mass.sum() * 2**PRECISION)).astype(np.int64)
        counts[reach] += 2**PRECISION - counts.sum()
        tables.append(counts)
    starts = np.cumsum([0] + [len(t) for t in tables])
    return np.concatenate(tables).astype(np.int32), starts.astype(np.int32)


def stored_qualities() -> Tensor:
    """Returns the q of every quality byte, (225,)."""
    return 1 + torch.arange(MAX_QUALITY_BYTE + 1, dtype=torch.float64) / QUALITY_STEPS


def frozen_gains(
    y_log: np.ndarray, z_log: np.ndarray, z_scale: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the tensors of gains of a frozen model, each (225, channels).

    `y_log` and `z_log` are log2 of the gains of y and z, and `z_scale` is log2 of z's scales.
    """
    return {
        "y_log_gain": np.rint(y_log * SCALE_STEPS * 2**FRACTION).astype(np.int32),
        "y_gain": np.rint(2 ** (y_log + GAIN_FRACTION)).astype(np.int32),
        "z_inverse_gain": inverse_gains(z_log),
        "z_table": table_indices(z_scale),
    }


def inverse_gains(log_gain: np.ndarray) -> np.ndarray:
    """Returns the inverses of gains, given as log2, in units of 2^-GAIN_FRACTION."""
    return np.rint(2 ** (GAIN_FRACTION - log_gain)).astype(np.int32)


def convolutions(network: nn.Sequential) -> list[int]:
    """Returns the indices of a network's convolutions, in the order of `frozen_network`."""
    return [i for i, module in enumerate(network) if isinstance(module, nn.Conv2d)]


def frozen_network(
    name: str, network: nn.Sequential, scales: int = 0, maps: int = 0, corrections: int = 0
) -> dict[str, np.ndarray]:
    """Returns the integer weights of convolutions, ReLUs and pixel shuffles.

    Values are in units of 2^-FRACTION. The last layer's outputs change their unit, so that decoding
    needs no logarithm: the first `scales` change from log2 of scales to table indices, and the last
    `maps` from q to steps of the quality byte. The first `corrections`, which are added to log2 of
    scales, change to be added to table indices.
    """
    tensors: dict[str, Any] = {}
    shifts, upsample = [], []
    modules = list(network)
    layers = convolutions(network)
    for number, i in enumerate(layers):
        layer: Any = modules[i]
        weight = layer.weight.detach().double().numpy().copy()
        bias = layer.bias.detach().double().numpy().copy()
        if i == layers[-1]:
            weight[: scales + corrections] *= SCALE_STEPS
            bias[: scales + corrections] *= SCALE_STEPS
            bias[:scales] -= SCALE_STEPS * np.log2(SCALE_MIN)
            weight[len(weight) - maps :] *= QUALITY_STEPS
            bias[len(bias) - maps :] *= QUALITY_STEPS
        largest = np.abs(weight).max() or 1.0
        shift = WEIGHT_BITS - 1 - int(np.floor(np.log2(largest)))
        integers = np.clip(np.rint(weight * 2.0**shift), -(2**15), 2**15 - 1)
        tensors[f"{name}.{number}.weight"] = integers.astype(np.int16)
        bias = np.rint(bias * 2.0 ** (shift + FRACTION))
        tensors[f"{name}.{number}.bias"] = bias.astype(np.int64)
        shifts.append(shift)
        upsample.append(i + 1 < len(modules) and isinstance(modules[i + 1], nn.PixelShuffle))
    tensors[f"{name}.shifts"] = np.array(shifts, np.uint8)
    tensors[f"{name}.upsample"] = np.array(upsample, np.uint8)
    return tensors
