"""Analysis and synthesis transforms: image (B, 3, H, W) in 0..1 <-> latent y (B, M, H/16, W/16).

The shipped models use `depthwise`. `gdn` is the transform of Ballé et al. (2018), kept as the
reference of the bake-off in docs/bakeoff.md. Inside, both use images centred on zero, so that an
untrained synthesis gives mid-grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from compressai.layers import GDN
from compressai.models.utils import conv, deconv
from torch import Tensor, nn

DOWNSAMPLING = 16  # pixels per latent position, in both transforms
LATENT_SCALE = 16.0
PHOTO_VARIANCE = 0.2  # of grey, in the orthonormal colour axes of markov_transform, values 0..1

# Analysis, synthesis, and log2 of the standard deviation of each latent at the start, (M,).
AnalysisSynthesis = tuple[nn.Sequential, nn.Sequential, Tensor]


class Mixing(nn.Module):
    """A residual block: pointwise, depthwise 3x3, pointwise, which starts at zero.

    It is the first half of a DepthwiseBlock.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.LeakyReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            from_zero(nn.Conv2d(channels, channels, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(x)


class DepthwiseBlock(Mixing):
    """Two residual halves: pointwise, depthwise 3x3, pointwise; then a gated pointwise pair.

    The last pointwise layer of each half starts at zero. So at the start the network is the linear
    transform around its blocks, and it trains without normalisation layers.
    After the intra codec of DCVC-RT (Jia et al., CVPR 2025, section 3.2), with a sigmoid gate.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gate = nn.Conv2d(channels, 2 * channels, 1)
        self.project = from_zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        value, gate = self.gate(x).chunk(2, 1)
        return x + self.project(value * gate.sigmoid())


class FullPrecision(nn.Conv2d):
    """A convolution that stays in float32 under autocast, because bfloat16 would round latents.

    With its 8 bits of precision, the step at a latent of 100 is 1/2, coarser than most quantisers.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def from_zero(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def linear(layer: nn.Module) -> Any:
    """Returns a layer, for type checkers, as one that has a weight and a bias."""
    return layer


@torch.no_grad()
def set_linear(layer: nn.Module, weight: Tensor) -> None:
    """Sets a convolution's weight, which is reshaped, and sets its bias to zero."""
    linear(layer).weight.copy_(weight.reshape(linear(layer).weight.shape))
    linear(layer).bias.zero_()


def depthwise_transforms(
    latents: int, fine: int = 128, coarse: int = 160, blocks: tuple[int, int] = (3, 3)
) -> AnalysisSynthesis:
    """Returns transforms with `fine` channels at 1/8 and `coarse` at 1/16 of the resolution.

    The stem takes whole 8x8 blocks of pixels, on the grid of JPEG inputs. The linear layers start
    as an orthonormal transform and its inverse (`markov_transform`), which training from random
    weights would need a long time to reach.
    """
    n_fine, n_coarse = blocks
    analysis = nn.Sequential(
        nn.Conv2d(3, fine, 8, 8),
        *(DepthwiseBlock(fine) for _ in range(n_fine)),
        nn.Conv2d(fine, coarse, 2, 2),
        *(DepthwiseBlock(coarse) for _ in range(n_coarse)),
        FullPrecision(coarse, latents, 1),
    )
    synthesis = nn.Sequential(
        FullPrecision(latents, coarse, 1),
        *(DepthwiseBlock(coarse) for _ in range(n_coarse)),
        nn.Conv2d(coarse, 4 * fine, 1),
        nn.PixelShuffle(2),
        *(DepthwiseBlock(fine) for _ in range(n_fine)),
        nn.Conv2d(fine, 3 * 64, 1),
        nn.PixelShuffle(8),
    )
    stem, merge, log_scale = markov_transform(fine, coarse)
    # A step of 1 / LATENT_SCALE in orthonormal coefficients gives a medium quality.
    keep = LATENT_SCALE * torch.eye(latents, coarse)
    for layer, weight in (
        (analysis[0], stem.reshape(fine, 3, 8, 8)),
        (analysis[n_fine + 1], merge.reshape(coarse, fine, 2, 2)),
        (analysis[-1], keep),
        (synthesis[0], keep.T / LATENT_SCALE**2),
        (synthesis[n_coarse + 1], merge.T),
        (synthesis[-2], stem.T),
    ):
        set_linear(layer, weight)
    start = torch.zeros(latents)
    start[:coarse] = log_scale[:latents] + math.log2(LATENT_SCALE)
    return analysis, synthesis, start


def markov_transform(fine: int, coarse: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the Karhunen-Loève transform of a first-order Markov image in two stages.

    It is close to a DCT. The first stage, (fine, 3 * 64), keeps the strongest components of 8x8
    blocks of RGB; the second, (coarse, fine * 4), the strongest of four such blocks. Both have
    orthonormal rows. The third result is log2 of the standard deviation of each component on
    photographs, (coarse,).
    """
    distance = (torch.arange(16)[:, None] - torch.arange(16)).abs().double()
    along = 0.95**distance
    # Colours are correlated: grey has most of the variance, the two opponent axes have little.
    colours = torch.tensor(
        [[0.577, 0.577, 0.577], [0.707, 0.0, -0.707], [0.408, -0.816, 0.408]]
    ).double()
    colour = colours.T @ torch.diag(torch.tensor([1.0, 0.05, 0.02]).double()) @ colours
    image = torch.einsum("ij,kl,mn->ikmjln", colour, along, along)  # (colour, row, column) twice
    block = image[:, :8, :8, :, :8, :8].reshape(192, 192)
    stem = torch.linalg.eigh(block).eigenvectors.flip(1)[:, :fine].T
    tiles = image.reshape(3, 2, 8, 2, 8, 3, 2, 8, 2, 8)  # each side of 16 as (tile, pixel)
    basis = stem.reshape(fine, 3, 8, 8)
    four = torch.einsum("fcuv,cxuyvdktlw->fxydktlw", basis, tiles)
    four = torch.einsum("gdtw,fxydktlw->fxygkl", basis, four).reshape(4 * fine, 4 * fine)
    variances, vectors = torch.linalg.eigh(four)
    merge = vectors.flip(1)[:, :coarse].T
    log_scale = 0.5 * torch.log2(PHOTO_VARIANCE * variances.flip(0)[:coarse])
    return stem.float(), merge.float(), log_scale.float()


def gdn_transforms(latents: int, width: int = 128) -> AnalysisSynthesis:
    """Returns the four 5x5 convolutions with GDN of Ballé et al. (2018), figure 4.

    The layers are CompressAI's.
    """
    analysis = nn.Sequential(
        conv(3, width), GDN(width), conv(width, width), GDN(width),
        conv(width, width), GDN(width), conv(width, latents),
    )  # fmt: skip
    synthesis = nn.Sequential(
        deconv(latents, width), GDN(width, inverse=True), deconv(width, width), GDN(width, inverse=True),
        deconv(width, width), GDN(width, inverse=True), deconv(width, 3),
    )  # fmt: skip
    return analysis, synthesis, torch.zeros(latents)


TRANSFORMS: dict[str, Callable[..., AnalysisSynthesis]] = {
    "depthwise": depthwise_transforms,
    "gdn": gdn_transforms,
}


class Centred(nn.Module):
    """An image-to-latent network that takes inputs in 0..1, and centres them on zero."""

    def __init__(self, analysis: nn.Module) -> None:
        super().__init__()
        self.body = analysis

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x - 0.5)


class QualityAnalysis(nn.Module):
    """An analysis transform that also sees the quality, so that it leaves out what a file drops.

    It centres images as Centred does. After each convolution between the blocks, every channel is
    shifted by a polynomial of the quality, which starts at zero.
    """

    def __init__(self, analysis: nn.Sequential) -> None:
        super().__init__()
        self.body = analysis
        self._shifted = [i for i, layer in enumerate(analysis) if isinstance(layer, nn.Conv2d)]
        self._widths = [linear(analysis[i]).out_channels for i in self._shifted]
        self.shift = nn.utils.skip_init(nn.Linear, 2, sum(self._widths))
        for parameter in self.shift.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """Returns y of images in 0..1 for `quality` (B,), 1 to 8."""
        middle = (quality - 4.5) / 3.5
        powers = torch.stack([middle, middle.square()], 1)
        shifts = dict(zip(self._shifted, self.shift(powers).split(self._widths, 1), strict=True))
        x = x - 0.5
        for i, layer in enumerate(self.body):
            x = layer(x)
            if i in shifts:
                x = x + shifts[i][..., None, None]
        return x


class Uncentred(nn.Module):
    """A latent-to-image network whose outputs are in 0..1, not clipped."""

    def __init__(self, synthesis: nn.Module) -> None:
        super().__init__()
        self.body = synthesis

    def forward(self, y_hat: Tensor) -> Tensor:
        return self.body(y_hat) + 0.5
