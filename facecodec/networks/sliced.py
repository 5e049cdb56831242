"""Hyperprior whose latents are coded slice by slice, each predicted from those before it.

Minnen and Singh, "Channel-wise Autoregressive Entropy Models for Learned Image Compression" (ICIP
2020), with the uneven slices of ELIC (He et al., CVPR 2022): the first slices are small and hold
what says most about the rest. The hyper-synthesis gives features, and each slice has a small
network from these features and the slices before it to the scales and means of its own latents.
All of it is later frozen to integers (facecodec/exact.py).

The synthesis sees each latent at the centroid of its interval under the predicted Gaussian, which
no later symbol depends on, and the quality of each place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from compressai.ops import quantize_ste
from torch import Tensor, nn

from facecodec.networks.coded import Coded
from facecodec.networks.export import of_latents, of_pixels, to_pixels
from facecodec.networks.hyperprior import (
    HYPER_DOWNSAMPLING,
    GainedNetwork,
    four_times,
    interpolate,
)
from facecodec.networks.integers import (
    SCALE_MIN,
    centroid_shifts,
    frozen_gains,
    frozen_network,
    gaussian_tables,
    inverse_gains,
    stored_qualities,
    towards_mean,
)
from facecodec.networks.transforms import (
    DOWNSAMPLING,
    Centred,
    FullPrecision,
    Uncentred,
    depthwise_transforms,
    linear,
)


class SlicedNetwork(GainedNetwork):
    """The whole codec. Images are (B, 3, H, W) in 0..1, H and W multiples of 16.

    `slices` are the channels of each slice of y; `hyper` are the channels of z; `features` are
    what the hyper-synthesis tells the slices; `context` is the width of their networks; `far` is
    the number of 3x3 layers at 1/64 of the resolution, to each side of z, that make the hyperprior
    see far; `span` is the ratio of the largest to the smallest rate weight.
    """

    def __init__(
        self,
        slices: tuple[int, ...] = (8, 16, 32, 56, 80),
        fine: int = 128,
        coarse: int = 192,
        blocks: tuple[int, int] = (3, 3),
        hyper: int = 64,
        hyper_width: int = 96,
        features: int = 128,
        context: int = 128,
        far: int = 2,
        span: float = 160.0,
    ) -> None:
        super().__init__()
        self.slices = tuple(slices)
        latents = sum(slices)
        self.channels = latents + 1  # of what the synthesis and a head take
        parts: Any = depthwise_transforms(latents, fine, coarse, (blocks[0], blocks[1]))
        analysis, synthesis, log_scale = parts
        synthesis[0] = _with_quality(synthesis[0])
        self.g_a = Centred(analysis)
        self.g_s = Uncentred(synthesis)
        width = hyper_width
        self.h_a = nn.Sequential(
            nn.Conv2d(latents, width, 1),
            nn.LeakyReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.LeakyReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
            *(layer for _ in range(far) for layer in (nn.LeakyReLU(), _passing(width))),
            nn.LeakyReLU(),
            nn.Conv2d(width, hyper, 1),
        )
        self.h_s = nn.Sequential(
            nn.Conv2d(hyper, width, 3, padding=1),
            nn.ReLU(),
            *(layer for _ in range(far) for layer in (_passing(width), nn.ReLU())),
            *four_times(width, features + 1),
        )
        self.predict: Any = nn.ModuleList()
        before = 0
        for size in slices:
            seen = features + 1 + before
            self.predict.append(_predictor(seen, context, size, log_scale[before : before + size]))
            before += size
        with torch.no_grad():
            first, last = linear(self.h_a[0]), linear(self.h_s[-1])
            first.weight.mul_(torch.exp2(-log_scale)[:, None, None])
            last.weight[-1] = 0
            last.bias[-1] = 0
        self.add_gains(latents, hyper, span)

    def forward(self, x: Tensor, quality: Tensor, noisy_rate: bool = False) -> Coded:
        """Codes `x` at `quality` (B,), real numbers from 1 to 8."""
        y_hat, y_bits, z_bits = self.latents(x, quality, noisy_rate)
        return Coded(self.g_s(y_hat), y_bits, z_bits, y_hat)

    def latents(
        self, x: Tensor, quality: Tensor, noisy_rate: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the input of the synthesis, (B, M + 1, h, w), and the bits of y and z.

        The input is y_hat and, last, q - 1 of each place.
        """
        y = self.g_a(x).float()
        quality = quality[:, None, None]
        z_hat, z_bits = self.hyper_latent(y, quality, noisy_rate)
        with torch.autocast(x.device.type, enabled=False):
            out = self.h_s(z_hat)[..., : y.shape[-2], : y.shape[-1]]
            places = (quality + out[:, -1]).clamp(1, 8)
            gain = torch.exp2(interpolate(self.y_log_gain, places))
            places = places[:, None] - 1
            seen = [out[:, :-1], places]
            y_hat, y_bits, start = [], torch.zeros_like(z_bits), 0
            for size, predict in zip(self.slices, self.predict, strict=True):
                part = slice(start, start + size)
                log_scale, mean = predict(torch.cat(seen, 1)).chunk(2, 1)
                scale = torch.exp2(log_scale.clamp(-8, 8)) * gain[:, part]
                mean = mean * gain[:, part]
                residual = y[:, part] * gain[:, part] - mean
                symbols = quantize_ste(residual)
                y_bits = y_bits + self.bits(residual, scale, noisy_rate).flatten(1).sum(1)
                seen.append((symbols + mean) / gain[:, part])
                with torch.no_grad():
                    shift = towards_mean(symbols, scale.clamp(min=SCALE_MIN))
                y_hat.append((symbols + shift + mean) / gain[:, part])
                start += size
        return torch.cat([*y_hat, places], 1), y_bits, z_bits

    @torch.no_grad()
    def frozen(self) -> dict[str, np.ndarray]:
        """Returns the tensors that coding needs, by name (docs/format.md, "Family `sliced`")."""
        counts, starts = gaussian_tables()
        quality = stored_qualities()[:, None, None]
        y_log, z_log, z_scale = (
            interpolate(each.double(), quality)[..., 0, 0].numpy()
            for each in (self.y_log_gain, self.z_log_gain, self.z_log_scale)
        )
        tensors = {
            **of_pixels("g_a", self.g_a, DOWNSAMPLING),
            **of_latents("h_a", self.h_a, self.channels - 1, HYPER_DOWNSAMPLING),
            **to_pixels("g_s", self.g_s, self.channels, DOWNSAMPLING),
            "table_counts": counts,
            "table_starts": starts,
            "table_shifts": centroid_shifts(),
            "slices": np.array(self.slices, np.int32),
            **frozen_gains(y_log, z_log, z_scale),
            "y_inverse_gain": inverse_gains(y_log),
            **frozen_network("h_s", self.h_s, maps=1),
        }
        for number, (size, predict) in enumerate(zip(self.slices, self.predict, strict=True)):
            tensors |= frozen_network(f"slice{number}", predict, scales=size)
        return tensors


def _passing(channels: int) -> nn.Conv2d:
    """Returns a 3x3 layer that starts as the identity."""
    layer = linear(nn.Conv2d(channels, channels, 3, padding=1))
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.weight[:, :, 1, 1] += torch.eye(channels)
        layer.bias.zero_()
    return layer


def _with_quality(layer: Any) -> nn.Conv2d:
    """Returns the layer with one more input, the quality of each place.

    The input starts without weight.
    """
    wider = linear(FullPrecision(layer.in_channels + 1, layer.out_channels, 1))
    with torch.no_grad():
        wider.weight.zero_()
        wider.weight[:, :-1] = layer.weight
        wider.bias.copy_(layer.bias)
    return wider


def _predictor(seen: int, width: int, size: int, log_scale: Tensor) -> nn.Sequential:
    """Returns the network that predicts a slice.

    It turns the features, the quality and the earlier slices into log2 of scales and means, (2 *
    size).
    """
    network = nn.Sequential(
        nn.Conv2d(seen, width, 1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, groups=width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * size, 1),
    )
    with torch.no_grad():
        last = linear(network[-1])
        last.bias[:size] = log_scale
        last.bias[size:] = 0
    return network


build = SlicedNetwork
