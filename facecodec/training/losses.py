"""Objectives. Units: rate in bits per pixel of the original image, distortion as below."""

from __future__ import annotations

import torch
from torch import Tensor

# k of DESIGN section 6: brings the mean squared error of 0..1 values to the size of the other terms.
DISTORTION_WEIGHT = {"l2": 1000.0}


def rate_weight(quality: Tensor, ends: tuple[float, float]) -> Tensor:
    """lambda_rate at `quality` (B,) in 1..8: geometric from ends[0] at 1 to ends[1] at 8."""
    low, high = ends
    return low * torch.exp((quality - 1) / 7 * torch.log(torch.tensor(high / low)))


def distortion(x_hat: Tensor, x: Tensor, kind: str) -> Tensor:
    """Weighted distortion of each image, (B,). l2: k times the mean squared error of 0..1 values."""
    if kind != "l2":
        raise ValueError(kind)
    return DISTORTION_WEIGHT[kind] * (x_hat.float() - x.float()).square().flatten(1).mean(1)


def rec_objective(bpp: Tensor, distortion: Tensor, weight: Tensor) -> Tensor:
    """Eq. 1 of Xiao et al. (2022): lambda_rate R + D for each image, then the mean.

    One checkpoint covers weights 160 to 1 apart; dividing each image's loss by the root of its
    weight keeps the low rates, whose terms are larger, from owning the shared parameters.
    """
    return ((weight * bpp + distortion) / weight.sqrt()).mean()
