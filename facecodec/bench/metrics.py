"""Metrics of pictures, and of curves over rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def psnr(x: np.ndarray, x_hat: np.ndarray) -> float:
    """Returns the PSNR over RGB in dB.

    Equal pictures have 78.13, as for a mean squared error of 0.001.
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


def rate_at(rates: Sequence[float], values: Sequence[float], target: float) -> float | None:
    """Returns the rate where a falling curve first reaches `target`, or None if it never does.

    The curve is the monotone (isotonic) fit of `values`, straight in log rate between its points.
    """
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(rates)
    x = np.log(np.asarray(rates, float)[order])
    y = IsotonicRegression(increasing=False).fit_transform(x, np.asarray(values, float)[order])
    reached = np.flatnonzero(y <= target)
    if not len(reached):
        return None
    i = reached[0]
    if i == 0 or y[i] == y[i - 1]:
        return math.exp(x[i])
    return math.exp(x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - target) / (y[i - 1] - y[i]))


def bd_rate(
    anchor: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]
) -> float | None:
    """Returns how many percent more bits than `anchor` equal quality takes (Bjontegaard).

    Points are (bpp, quality). It is None if the curves have no quality in common.
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
