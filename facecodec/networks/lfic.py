"""Hyperprior with regionally adaptive pooling of the residual: families/lfic.py.

The gradient of the metric teaches which regions keep their samples. Each region's level is a choice
in the forward pass and its softmax in the backward pass, so that metric and rate both tell the
worth of each level. In training the choice is random: if a region always kept its samples, the
gradient would tell only the worth of the last one. After Chen and He, "Learning based Facial Image
Compression with Semantic Fidelity Metric" (2018).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from compressai.ops import quantize_ste
from torch import Tensor, nn

from facecodec.entropy import PRECISION
from facecodec.families.lfic import KEEP, NONE_ABOVE, POOL, REGION, SHARES
from facecodec.networks.export import of_latents
from facecodec.networks.hyperprior import ANCHORS, HyperpriorNetwork, interpolate, pad_to
from facecodec.networks.integers import stored_qualities
from facecodec.networks.transforms import LATENT_SCALE, linear

# The margin by which keeping all samples must win, at each of the eight anchors. In training, a
# sample's price is a multiple of the mean bits, which is too low at high qualities.
# Chosen on training people at q 4 (docs/related-methods.md).
MARGIN = torch.tensor([0, 0, 0, 0.04, 0.04, 0.04, 0.04, 0.04])
QUICK = 8  # the learning rate of scores, as a multiple of that of other parameters


class Scores(nn.Module):
    """Turns y and `relative` (B, M + 1, h, w), even sides, into scores of levels (B, 3, h/2, w/2).

    At the start, regions that would take many bits are kept, and those that would take few dropped.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.LeakyReLU(),
            nn.Conv2d(width, width, 3, REGION, 1),
            nn.LeakyReLU(),
            nn.Conv2d(width, len(SHARES), 3, padding=1),
        )
        self.worth = nn.Parameter(torch.tensor([2.0, 0.0, -2.0]) / QUICK)
        with torch.no_grad():
            linear(self.look[0]).weight.div_(LATENT_SCALE)
            linear(self.look[-1]).weight.zero_()
            linear(self.look[-1]).bias.zero_()

    def forward(self, seen: Tensor) -> Tensor:
        return self.look(seen[:, :-1]) + self.worth[:, None, None] * F.avg_pool2d(
            seen[:, -1:], REGION
        )


def relative(bits: Tensor) -> Tensor:
    """Returns log2 of each position's bits, relative to the picture's mean, (B, 1, h, w)."""
    return torch.log2((1 + bits) / (1 + bits.mean((2, 3), keepdim=True)))


class LficNetwork(HyperpriorNetwork):
    """A HyperpriorNetwork whose regions have levels.

    `score_width` is the number of channels in the network that scores the levels. `sample_price` is
    the price of a sample in training in addition to its bits, in mean bits per sample of the
    picture.
    """

    margin: Tensor  # of the scores of each anchor, (8, 3)

    def __init__(self, score_width: int = 48, sample_price: float = 3.0, **options: Any) -> None:
        super().__init__(**options)
        self._sample_price = sample_price
        self.scores = Scores(self.channels, score_width)
        self.score_bias = nn.Parameter(torch.tensor([0.5, 0.3, -0.5]).repeat(ANCHORS, 1) / QUICK)
        self.register_buffer(
            "margin", F.pad(MARGIN[:, None], (KEEP, len(SHARES) - KEEP - 1)), persistent=False
        )
        self.level_scores = nn.Parameter(torch.zeros(ANCHORS, (NONE_ABOVE + 1) * len(SHARES)))

    def latents(
        self, x: Tensor, quality: Tensor, noisy_rate: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns latents as HyperpriorNetwork does. The bits of z include those of the levels."""
        parts = self.predicted(x, quality, noisy_rate)
        height, width = parts.y.shape[-2:]
        each = self.bits(parts.residual, parts.scale, noisy_rate).sum(1, keepdim=True)
        seen = torch.cat([parts.y, relative(each)], 1).detach()
        scores = self.scores(pad_to(seen, REGION)).float()
        scores = QUICK * (scores + interpolate(self._bias(), quality[:, None, None]))
        soft = scores.softmax(1)
        drawn = (
            scores - torch.empty_like(scores).exponential_().log() if self.training else scores
        )  # Gumbel noise
        levels = drawn.argmax(1)
        chosen = F.one_hot(levels, len(SHARES)).permute(0, 3, 1, 2).to(soft) + soft - soft.detach()
        keep, pool = (_spread(chosen[:, [level]])[..., :height, :width] for level in (KEEP, POOL))

        means = F.avg_pool2d(parts.residual, REGION, ceil_mode=True, count_include_pad=False)
        pooled = self.bits(means, parts.scale[..., ::REGION, ::REGION], noisy_rate).sum(
            1, keepdim=True
        )
        y_bits = (each * keep).flatten(1).sum(1) + (pooled * chosen[:, [POOL]]).flatten(1).sum(1)
        shares = torch.from_numpy(SHARES).to(x)[:, None, None]
        samples = REGION**2 * self.channels * (chosen * shares).flatten(1).sum(1)
        price = self._sample_price * each.flatten(1).sum(1) / (each[0].numel() * self.channels)
        y_bits = y_bits + price.detach() * (samples - samples.detach())  # in the gradient alone

        residual = (
            keep * quantize_ste(parts.residual)
            + pool * _spread(quantize_ste(means))[..., :height, :width]
        )
        return (
            (residual + parts.mean) / parts.gain,
            y_bits,
            parts.z_bits + self.level_bits(levels, quality),
        )

    def _bias(self) -> Tensor:
        """Returns the bias of each anchor's scores, (8, 3)."""
        return self.score_bias if self.training else self.score_bias - self.margin

    def level_bits(self, levels: Tensor, quality: Tensor) -> Tensor:
        """Returns the bits (B,) of levels (B, h, w), each coded given the level above it."""
        above = F.pad(levels, (0, 0, 1, 0), value=NONE_ABOVE)[:, :-1]
        mass = self._level_mass(interpolate(self.level_scores, quality[:, None, None])[..., 0, 0])
        index = torch.arange(len(levels), device=levels.device)[:, None, None]
        return -torch.log2(mass[index, above, levels]).flatten(1).sum(1)

    def _level_mass(self, scores: Tensor) -> Tensor:
        """Reshapes (B, 4 * 3) to (B, level above, level)."""
        return scores.reshape(-1, NONE_ABOVE + 1, len(SHARES)).softmax(2)

    @torch.no_grad()
    def frozen(self) -> dict[str, np.ndarray]:
        quality = stored_qualities()[:, None, None]
        mass = self._level_mass(interpolate(self.level_scores.double(), quality)[..., 0, 0]).numpy()
        counts = np.ones(
            (*mass.shape[:2], 4), np.int64
        )  # the last count is that of the escape, which is never used
        counts[..., :3] = np.maximum(1, np.rint(mass * (2**PRECISION - 1)))
        likeliest = counts.argmax(2)[..., None]
        rest = 2**PRECISION - counts.sum(2, keepdims=True)
        np.put_along_axis(counts, likeliest, np.take_along_axis(counts, likeliest, 2) + rest, 2)
        return super().frozen() | {
            **of_latents("h_a.scores", self.scores, self.channels + 1, REGION),
            "h_a.bias": interpolate(self._bias(), quality.float())[..., 0, 0].numpy(),
            "level_counts": counts.astype(np.int32),
        }


def _spread(regions: Tensor) -> Tensor:
    """Repeats each value of regions (B, C, h, w) for its four positions, to (B, C, 2h, 2w)."""
    return regions.repeat_interleave(REGION, 2).repeat_interleave(REGION, 3)


build = LficNetwork
