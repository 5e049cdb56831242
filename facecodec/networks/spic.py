"""Quantised autoencoder with a task on its latents: one network for all step sizes QF.

Latents are divided by QF and rounded, with the identity as the gradient of rounding, and
L = L_d + alpha L_r + beta L_c. After Patwa et al., "Semantic Preserving Image Compression" (ICIP
2020), with this project's transforms, and with a range coder in place of their Huffman code. It has
a Laplace distribution for each channel and quality.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from compressai.ops import LowerBound, quantize_ste
from torch import Tensor, nn

from facecodec.families.spic import FINEST
from facecodec.networks.coded import QUALITIES, Coded, FamilyNetwork
from facecodec.networks.export import of_pixels, to_pixels
from facecodec.networks.hyperprior import LIKELIHOOD_MIN, interpolate
from facecodec.networks.integers import SCALE_MIN, laplace_tables, stored_qualities, table_indices
from facecodec.networks.transforms import (
    DOWNSAMPLING,
    Centred,
    Uncentred,
    depthwise_transforms,
)

# The learning rate of scales, which start as another network's, as a multiple of that of others.
QUICK = 16


class SpicNetwork(FamilyNetwork):
    """The network. Images are (B, 3, H, W) in 0..1, H and W multiples of 16.

    `latents` is M, the number of channels of y. `coarsest` is the QF of q = 1. `span` is the ratio
    of the largest to the smallest rate weight. From q = 1 to q = 8, QF falls by its fourth root, as
    the gains of a trained hyperprior do.
    """

    ends: Tensor  # log2 of the step at the lowest and the highest quality

    def __init__(
        self, latents: int = 160, coarsest: float = 160.0, span: float = 160.0, **transform: Any
    ) -> None:
        super().__init__()
        self.channels = latents
        analysis, synthesis, log_scale = depthwise_transforms(latents, **transform)
        self.g_a = Centred(analysis)
        self.g_s = Uncentred(synthesis)
        self.register_buffer(
            "ends", torch.log2(torch.tensor([coarsest, coarsest / span**0.25])), persistent=False
        )
        self.y_log_scale = nn.Parameter(log_scale.repeat(QUALITIES, 1) / QUICK)
        self.lower_scale = LowerBound(SCALE_MIN)
        self.lower_likelihood = LowerBound(LIKELIHOOD_MIN)

    def log_step(self, quality: Tensor) -> Tensor:
        """Returns log2 of the step of y, QF times FINEST, at `quality` (B,)."""
        low, high = self.ends.double().unbind()
        return low + (quality.double() - 1) / (QUALITIES - 1) * (high - low) + np.log2(FINEST)

    def forward(self, x: Tensor, quality: Tensor, noisy_rate: bool = False) -> Coded:
        """Codes `x` at `quality` (B,) in 1..8. The bits are always those of rounded latents."""
        y = self.g_a(x).float()
        step = torch.exp2(self.log_step(quality)).float()[:, None, None, None]
        symbols = quantize_ste(y / step)
        log_scale = QUICK * interpolate(self.y_log_scale, quality[:, None, None])
        y_hat = symbols * step
        bits = self.bits(symbols, torch.exp2(log_scale) / step)
        return Coded(self.g_s(y_hat), bits, torch.zeros_like(bits), y_hat)

    def bits(self, symbols: Tensor, scale: Tensor) -> Tensor:
        """Returns the bits (B,) of integers under a zero-mean Laplace distribution, per image.

        `scale` is the mean magnitude.
        """
        scale = self.lower_scale(scale)
        magnitude = symbols.abs()
        inner = -torch.expm1(-0.5 / scale)
        outer = torch.exp(-(magnitude - 0.5).clamp(min=0) / scale) * -torch.expm1(-1 / scale) / 2
        mass = torch.where(magnitude < 0.5, inner, outer)
        return -torch.log2(self.lower_likelihood(mass)).flatten(1).sum(1)

    @torch.no_grad()
    def frozen(self) -> dict[str, np.ndarray]:
        """Returns the tensors that coding needs, by name (docs/format.md, "Family `spic`")."""
        counts, starts = laplace_tables()
        quality = stored_qualities()
        log_step = self.log_step(quality)
        log_scale = (
            QUICK * interpolate(self.y_log_scale.double(), quality[:, None, None])[..., 0, 0]
        )
        return {
            **of_pixels("g_a", self.g_a, DOWNSAMPLING),
            **to_pixels("g_s", self.g_s, self.channels, DOWNSAMPLING),
            "table_counts": counts,
            "table_starts": starts,
            "y_table": table_indices((log_scale - log_step[:, None]).numpy()),
            "step": torch.exp2(log_step).float().numpy(),
        }


build = SpicNetwork
