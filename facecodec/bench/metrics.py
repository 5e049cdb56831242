"""Metrics of pictures, and of curves over the rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def psnr(x: np.ndarray, x_hat: np.ndarray) -> float:
    """Returns the PSNR over RGB in dB.

    It is at most 78.13, that of a mean squared error of 0.001, also for equal pictures.
    """
    error = np.square(x.astype(float) - x_hat).mean()
    return 10 * math.log10(255**2 / max(error, 1e-3))


def ssim(x: np.ndarray, x_hat: np.ndarray) -> float:
    """Returns pytorch-msssim's SSIM over RGB.

    Pictures narrower than its window of 11 pixels are extended at their edges.
    """
    import pytorch_msssim

    pad = [(0, max(0, 11 - side)) for side in x.shape[:2]] + [(0, 0)]
    return pytorch_msssim.ssim(
        *(_tensor(np.pad(image, pad, mode="edge")) for image in (x, x_hat)), data_range=255
    ).item()


def ms_ssim(x: np.ndarray, x_hat: np.ndarray) -> float | None:
    """Returns pytorch-msssim's MS-SSIM over RGB, or None if a side is 160 pixels or less."""
    import pytorch_msssim

    if min(x.shape[:2]) <= 160:
        return None
    return pytorch_msssim.ms_ssim(_tensor(x), _tensor(x_hat), data_range=255).item()


def _tensor(image: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()


def falling_fit(values: np.ndarray) -> np.ndarray:
    """Returns the least-squares fit of `values` (R, ...) that never rises along the first axis.

    It is the isotonic regression by the minimax formula (Barlow et al., 1972): at i, the minimum
    over a <= i of the maximum over b >= i of the mean of values a to b.
    """
    sums = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, 0)])
    fit = np.full_like(values, np.inf)
    for a in range(len(values)):
        lengths = np.arange(1, len(values) - a + 1).reshape(-1, *[1] * (values.ndim - 1))
        means = (sums[a + 1 :] - sums[a]) / lengths
        fit[a:] = np.minimum(fit[a:], np.maximum.accumulate(means[::-1], 0)[::-1])
    return fit


def rates_at(rates: Sequence[float], values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the rates (N,) at which falling curves first reach their targets, or NaN.

    `values` (R, N) are N curves over the same `rates` (R,); `targets` is (N,). Each curve is the
    monotone fit of its values, linear in log rate between its points.
    """
    order = np.argsort(rates)
    x = np.log(np.asarray(rates, float)[order])
    y = falling_fit(np.asarray(values, float)[order])
    reached = y <= targets
    here = reached.argmax(0)
    before = np.maximum(here - 1, 0)
    high, low = (np.take_along_axis(y, each[None], 0)[0] for each in (before, here))
    gap = high - low
    share = np.where(gap > 0, (high - targets) / np.where(gap > 0, gap, 1), 1)
    found = np.exp(x[before] + share * (x[here] - x[before]))
    return np.where(reached.any(0), found, np.nan)


def rate_at(rates: Sequence[float], values: Sequence[float], target: float) -> float | None:
    """Returns the rate as from `rates_at`, for one curve; None if it never reaches the target."""
    (rate,) = rates_at(rates, np.asarray(values, float)[:, None], np.array([target])).tolist()
    return None if math.isnan(rate) else rate


def bd_rate(
    anchor: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]
) -> float | None:
    """Returns the BD-rate (Bjontegaard): how many percent more bits than `anchor` `test` takes.

    Points are (bpp, quality). Returns None if the curves have no quality in common.
    """
    import bjontegaard

    (anchor_rates, anchor_quality), (rates, quality) = (
        np.array(sorted(c)).T for c in (anchor, test)
    )
    if max(anchor_quality[0], quality[0]) >= min(anchor_quality[-1], quality[-1]):
        return None
    return float(
        bjontegaard.bd_rate(
            anchor_rates,
            anchor_quality,
            rates,
            quality,
            method="akima",
            require_matching_points=False,
        )
    )
