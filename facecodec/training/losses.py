"""Objectives. Units: rate in bits per pixel of the original image, distortion as below."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facecodec.faces.alignment import align

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


def identity(x_hat: Tensor, x: Tensor, matrices: np.ndarray, recogniser: nn.Module) -> Tensor:
    """1 - cosine between the embeddings of decoded and original faces (eq. 6), (B,); 0 where there is no face.

    `matrices` (B, 2, 3) are those of faces/alignment.py, NaN without a face. The gradient reaches x_hat alone.
    """
    has_face = torch.from_numpy(~np.isnan(matrices[:, 0, 0])).to(x.device)
    distance = torch.zeros(len(x), device=x.device)
    if has_face.any():
        kept = matrices[has_face.cpu().numpy()]
        with torch.autocast(x.device.type, enabled=False):
            with torch.no_grad():
                wanted = recogniser(align(x[has_face].float(), kept))
            found = recogniser(align(x_hat[has_face].float(), kept))
            distance = distance.masked_scatter(has_face, 1 - F.cosine_similarity(found, wanted))
    return distance


def objective(kind: str, bpp: Tensor, distortion: Tensor, identity: Tensor, weight: Tensor) -> Tensor:
    """Eq. 1 (`rec`), 5 (`ip`) or 7 (`ipr`) of Xiao et al. (2022) for each image, (B,).

    rec: lambda_rate R + D; ip: lambda_rate R + I; ipr: lambda_rate R + D + I. All arguments are (B,).
    One checkpoint covers weights a hundred to one apart; dividing each image's loss by the root of
    its weight keeps the low rates, whose terms are larger, from owning the shared parameters.
    """
    terms = weight * bpp
    if kind != "ip":
        terms = terms + distortion
    if kind != "rec":
        terms = terms + identity
    return terms / weight.sqrt()
