"""Mean-scale hyperprior with learned per-channel gains: one network for a whole range of rates.

Ballé et al., "Variational image compression with a scale hyperprior" (2018); means after Minnen et
al. (2018); gains after Cui et al., "Asymmetric Gained Deep Image Compression With Continuous Rate
Adaptation" (CVPR 2021): the latents are scaled by a gain per channel before rounding and by its
inverse after it, and qualities between two learned anchors interpolate the log-gains.

The quality may vary within a picture. Beside scales and means, the hyper-synthesis predicts a map
of changes of q, and each position of y uses the gains of its own quality. (DCVC-DC, Li et al., CVPR
2023, predicts quantisation steps instead; here the gains are the steps.)

The hyper-synthesis and the gains are later frozen to integers (facecodec/exact.py). So the
hyper-synthesis consists of convolutions, ReLU and pixel shuffles only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from compressai.ops import LowerBound, quantize_ste
from torch import Tensor, nn

from facecodec.networks.coded import Coded, FamilyNetwork
from facecodec.networks.export import of_latents, of_pixels, to_pixels
from facecodec.networks.integers import (
    SCALE_MIN,
    frozen_gains,
    frozen_network,
    gaussian_tables,
    stored_qualities,
)
from facecodec.networks.transforms import (
    DOWNSAMPLING,
    TRANSFORMS,
    FullPrecision,
    QualityAnalysis,
    Uncentred,
    linear,
)

ANCHORS = 8  # learned qualities 1..8
HYPER_DOWNSAMPLING = 4  # latent positions per hyper-latent position
LIKELIHOOD_MIN = 1e-9


@dataclass
class Predicted:
    """y (B, M, h, w) and its prediction, with the bits of z, (B,).

    The residual, the mean and the scale are in steps of the gain.
    """

    y: Tensor
    residual: Tensor
    scale: Tensor
    mean: Tensor
    gain: Tensor
    z_bits: Tensor


class GainedNetwork(FamilyNetwork):
    """A network with gains of y and z by quality, and with the bits of Gaussian symbols."""

    g_a: nn.Module
    h_a: nn.Module

    def add_gains(self, latents: int, hyper: int, span: float) -> None:
        """Adds gains for M channels of y and C of z. `span` is as in HyperpriorNetwork."""
        # By high-rate theory, the optimal step for a weight w is proportional to sqrt(w). So the
        # log-gains start on that line, and the network learns only the deviation from it.
        line = torch.linspace(-0.5, 0.5, ANCHORS)[:, None] * torch.log2(torch.tensor(span)) / 2
        self.y_log_gain = nn.Parameter(line.repeat(1, latents))
        self.z_log_gain = nn.Parameter(line.repeat(1, hyper) / 2)
        self.z_log_scale = nn.Parameter(torch.zeros(ANCHORS, hyper))
        self.lower_scale = LowerBound(SCALE_MIN)
        self.lower_likelihood = LowerBound(LIKELIHOOD_MIN)

    def hyper_latent(self, y: Tensor, quality: Tensor, noisy_rate: bool) -> tuple[Tensor, Tensor]:
        """Returns z_hat (B, C, h / 4, w / 4) of y, and its bits (B,); `quality` is (B, 1, 1)."""
        gain = torch.exp2(interpolate(self.z_log_gain, quality))
        z = self.h_a(pad_to(y, HYPER_DOWNSAMPLING)) * gain
        scale = torch.exp2(interpolate(self.z_log_scale, quality))
        return quantize_ste(z) / gain, self.bits(z, scale, noisy_rate).flatten(1).sum(1)

    def learn_analysis_alone(self) -> None:
        self.requires_grad_(False)
        self.g_a.requires_grad_(True)
        self.h_a.requires_grad_(True)

    def bits(self, values: Tensor, scale: Tensor, noisy: bool) -> Tensor:
        """Returns -log2 of the probability of each rounded value under a zero-mean Gaussian.

        The bits of a rounded value do not change with the value, except where it rounds to another
        symbol. So their gradient is that of the bits with uniform noise, for `values`, and that of
        the rounded bits, for `scale`.
        """
        values, scale = values.float(), self.lower_scale(scale.float())
        if noisy:
            return self._bits(_with_noise(values), scale)
        bits = self._bits(values.detach().round(), scale)
        if values.requires_grad:
            around = self._bits(_with_noise(values), scale.detach())
            bits = bits + (around - around.detach())
        return bits

    def _bits(self, values: Tensor, scale: Tensor) -> Tensor:
        magnitude = values.abs()
        mass = torch.special.ndtr((0.5 - magnitude) / scale) - torch.special.ndtr(
            (-0.5 - magnitude) / scale
        )
        return -torch.log2(self.lower_likelihood(mass))


def _with_noise(values: Tensor) -> Tensor:
    return values + torch.empty_like(values).uniform_(-0.5, 0.5)


def hyper_synthesis(hyper: int, width: int, outputs: int, far: int = 0) -> nn.Sequential:
    """Returns a network from the `hyper` channels of z to `outputs` at four times its resolution.

    `far` further layers at z's resolution, which start as the identity, widen its view.
    """
    return nn.Sequential(
        nn.Conv2d(hyper, width, 3, padding=1),
        nn.ReLU(),
        *(layer for _ in range(far) for layer in (_passing(width), nn.ReLU())),
        nn.Conv2d(width, 4 * width, 1),
        nn.PixelShuffle(2),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 4 * width, 1),
        nn.PixelShuffle(2),
        nn.ReLU(),
        FullPrecision(width, outputs, 1),
    )


def _passing(channels: int) -> nn.Conv2d:
    """Returns a 3x3 layer that starts as the identity."""
    layer = linear(nn.Conv2d(channels, channels, 3, padding=1))
    nn.init.dirac_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class HyperpriorNetwork(GainedNetwork):
    """The whole codec. Images are (B, 3, H, W) in 0..1, H and W multiples of 16.

    `latents` is M, the number of channels of y, and `hyper` that of z. `span` is the ratio of the
    largest to the smallest rate weight, from which the gains start (docs/training.md).
    """

    def __init__(
        self,
        transform: str = "depthwise",
        latents: int = 160,
        hyper: int = 64,
        hyper_width: int = 96,
        span: float = 160.0,
        **transform_options: Any,
    ) -> None:
        super().__init__()
        self.channels = latents
        analysis, synthesis, log_scale = TRANSFORMS[transform](latents, **transform_options)
        self.g_a = QualityAnalysis(analysis)
        self.g_s = Uncentred(synthesis)
        width = hyper_width
        self.h_a = nn.Sequential(
            nn.Conv2d(latents, width, 1),
            nn.LeakyReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.LeakyReLU(),
            FullPrecision(width, hyper, 3, 2, 1),
        )
        self.h_s = hyper_synthesis(hyper, width, 2 * latents + 1)
        # At the start, the hyperprior gets latents of unit variance and returns their scales.
        with torch.no_grad():
            first, last = linear(self.h_a[0]), linear(self.h_s[-1])
            first.weight.mul_(torch.exp2(-log_scale)[:, None, None])
            last.bias[:latents] = log_scale
            last.bias[latents:] = 0
            last.weight[-1] = 0
        self.add_gains(latents, hyper, span)

    def forward(self, x: Tensor, quality: Tensor, noisy_rate: bool = False) -> Coded:
        """Codes `x` at `quality` (B,), real numbers from 1 to 8.

        Rounding is straight-through for the decoder. With `noisy_rate` the bits are those of
        latents with additive uniform noise (Xiao et al. 2022, section 3.1).
        """
        y_hat, y_bits, z_bits = self.latents(x, quality, noisy_rate)
        return Coded(self.g_s(y_hat), y_bits, z_bits, y_hat)

    def latents(
        self, x: Tensor, quality: Tensor, noisy_rate: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns y_hat and the bits of y and z, as `forward` but without the picture."""
        parts = self.predicted(x, quality, noisy_rate)
        y_bits = self.bits(parts.residual, parts.scale, noisy_rate).flatten(1).sum(1)
        return (quantize_ste(parts.residual) + parts.mean) / parts.gain, y_bits, parts.z_bits

    def predicted(self, x: Tensor, quality: Tensor, noisy_rate: bool) -> Predicted:
        """Returns y and its prediction from z."""
        y = self.g_a(x, quality).float()
        quality = quality[:, None, None]
        z_hat, z_bits = self.hyper_latent(y, quality, noisy_rate)
        log_scale, mean, offset = self.hyper_synthesis(z_hat, y.shape[-2:])

        y_gain = torch.exp2(interpolate(self.y_log_gain, quality + offset))
        mean = mean * y_gain
        scale = torch.exp2(log_scale.clamp(-8, 8)) * y_gain
        return Predicted(y, y * y_gain - mean, scale, mean, y_gain, z_bits)

    def hyper_synthesis(
        self, z_hat: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the prediction from z_hat.

        It consists of log2 of the scale and the mean of y before its gain, (B, M, *size), and of
        the change of q, (B, *size).
        """
        out = self.h_s(z_hat)[..., : size[0], : size[1]]
        log_scale, mean = out[:, :-1].chunk(2, 1)
        return log_scale, mean, out[:, -1]

    @torch.no_grad()
    def frozen(self) -> dict[str, np.ndarray]:
        """Returns the tensors that coding needs, by name (docs/format.md, "The model")."""
        latents = self.y_log_gain.shape[1]
        counts, starts = gaussian_tables()
        anchors = (self.y_log_gain, self.z_log_gain, self.z_log_scale)
        quality = stored_qualities()[:, None, None]
        graphs = (
            of_pixels("g_a", self.g_a, DOWNSAMPLING, by_quality=True)
            | of_latents("h_a", self.h_a, latents, HYPER_DOWNSAMPLING)
            | to_pixels("g_s", self.g_s, latents, DOWNSAMPLING)
        )
        tables = {"table_counts": counts, "table_starts": starts}
        gains = frozen_gains(
            *(interpolate(each.double(), quality)[..., 0, 0].numpy() for each in anchors)
        )
        return graphs | tables | gains | frozen_network("h_s", self.h_s, scales=latents, maps=1)


def interpolate(anchors: Tensor, quality: Tensor) -> Tensor:
    """Interpolates the rows of `anchors` (8, C) at `quality` (B, h, w), to (B, C, h, w).

    The interpolation is linear; quality is clipped to 1..8.
    """
    position = (quality - 1).clamp(0, ANCHORS - 1)
    lower = position.detach().floor().long().clamp(max=ANCHORS - 2)
    weight = (position - lower)[..., None]
    return torch.lerp(anchors[lower], anchors[lower + 1], weight).permute(0, 3, 1, 2)


def pad_to(y: Tensor, multiple: int) -> Tensor:
    """Repeats the last row and column of y until both sides are multiples."""
    height, width = y.shape[-2:]
    return F.pad(y, (0, -width % multiple, 0, -height % multiple), mode="replicate")


build = HyperpriorNetwork
