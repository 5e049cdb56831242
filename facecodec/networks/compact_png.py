"""Analysis to a compact image of three channels, and its reconstruction: families/compact_png.py.

After Bian et al., "A Deep Image Compression Framework for Face Recognition" (2019), with this
project's depthwise blocks. At the start, the compact image has the mean colour of each block, and
the picture consists of blocks of these colours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from compressai.ops import quantize_ste
from torch import Tensor, nn

from facecodec.families.compact_png import STEPS, png
from facecodec.networks.coded import Coded, FamilyNetwork
from facecodec.networks.export import of_pixels, to_pixels
from facecodec.networks.transforms import (
    Centred,
    DepthwiseBlock,
    Uncentred,
    markov_transform,
    set_linear,
)

COLOURS = 3


class CompactPngNetwork(FamilyNetwork):
    """The network. Images are (B, 3, H, W) in 0..1, H and W multiples of 16.

    The compact image is (B, 3, H/8, W/8) or (B, 3, H/16, W/16). There are `fine` channels at 1/8
    and `coarse` at 1/16 of the resolution. `blocks` are the numbers of blocks: analysis at 1/8 and
    1/16, synthesis at 1/8 and 1/16.
    """

    def __init__(
        self, fine: int = 128, coarse: int = 160, blocks: tuple[int, int, int, int] = (3, 2, 4, 3)
    ) -> None:
        super().__init__()
        into_fine, into_coarse, from_fine, from_coarse = blocks
        self.stem = nn.Sequential(
            nn.Conv2d(3, fine, 8, 8), *(DepthwiseBlock(fine) for _ in range(into_fine))
        )
        self.down = nn.Sequential(
            nn.Conv2d(fine, coarse, 2, 2), *(DepthwiseBlock(coarse) for _ in range(into_coarse))
        )
        self.to_compact = nn.ModuleDict(
            {"8": nn.Conv2d(fine, COLOURS, 1), "16": nn.Conv2d(coarse, COLOURS, 1)}
        )
        self.from_compact = nn.ModuleDict(
            {"8": nn.Conv2d(COLOURS, fine, 1), "16": nn.Conv2d(COLOURS, coarse, 1)}
        )
        self.up = nn.Sequential(
            *(DepthwiseBlock(coarse) for _ in range(from_coarse)),
            nn.Conv2d(coarse, 4 * fine, 1),
            nn.PixelShuffle(2),
        )
        self.root = nn.Sequential(
            *(DepthwiseBlock(fine) for _ in range(from_fine)),
            nn.Conv2d(fine, 3 * 64, 1),
            nn.PixelShuffle(8),
        )
        self._start(fine, coarse)

    def _start(self, fine: int, coarse: int) -> None:
        """Sets the weights so that the compact image has mean colours, and the picture shows them.

        Both are expressed in an orthonormal transform.
        """
        stem, merge, _ = markov_transform(fine, coarse)
        mean = (
            torch.eye(COLOURS).repeat_interleave(64, 1) / 64
        )  # (3, 3 * 64): mean colour of 8x8 pixels
        means = (mean @ stem.T).repeat_interleave(4, 1) / 4  # (3, fine * 4): of four such
        for layer, weight in (
            (self.stem[0], stem),
            (self.down[0], merge),
            (self.to_compact["8"], mean @ stem.T),
            (self.to_compact["16"], means @ merge.T),
            (self.from_compact["8"], 64 * stem @ mean.T),
            (self.from_compact["16"], 256 * merge @ means.T),
            (self.up[-2], merge.T),
            (self.root[-2], stem.T),
        ):
            set_linear(layer, weight)

    def analysis(self, step: int) -> nn.Module:
        """Turns an image into a compact image, before rounding."""
        parts = [self.stem] if step == 8 else [self.stem, self.down]
        return Uncentred(Centred(nn.Sequential(*parts, self.to_compact[str(step)])))

    def synthesis(self, step: int) -> nn.Module:
        """Turns a compact image into an image."""
        parts = [] if step == 8 else [self.up]
        return Uncentred(Centred(nn.Sequential(self.from_compact[str(step)], *parts, self.root)))

    def forward(self, x: Tensor, quality: Tensor, noisy_rate: bool = False) -> Coded:
        """Codes `x` at the steps nearest to `quality` (B,). Rounding is straight-through.

        The size of a PNG file has no gradient. So the rate is 0 while gradients are computed;
        otherwise it is the files'.
        """
        steps = [STEPS[round(q) - 1] for q in quality.tolist()]
        x_hat = torch.empty_like(x)
        bits = torch.zeros(len(x), device=x.device)
        for step in {step for step, _ in steps}:
            chosen = torch.tensor(
                [i for i, each in enumerate(steps) if each[0] == step], device=x.device
            )
            most = torch.tensor([2.0 ** steps[i][1] - 1 for i in chosen.tolist()], device=x.device)[
                :, None, None, None
            ]
            compact = self.analysis(step)(x[chosen]).float()
            clipped = compact.clamp(0, 1)
            x_hat[chosen] = self.synthesis(step)(quantize_ste(clipped * most) / most).to(
                x_hat.dtype
            )
            if not torch.is_grad_enabled():
                for i, image in zip(chosen.tolist(), clipped.cpu().numpy(), strict=True):
                    bits[i] = 8 * len(png(image, steps[i][1]))
        return Coded(x_hat, bits, torch.zeros_like(bits))

    def frozen(self) -> dict[str, np.ndarray]:
        """Returns the four graphs and the reach of each."""
        tensors: dict[str, np.ndarray] = {}
        for step in (8, 16):
            tensors |= of_pixels(f"g_a{step}", self.analysis(step), step)
            tensors |= to_pixels(f"g_s{step}", self.synthesis(step), COLOURS, step)
        return tensors


def build(span: float, **options: Any) -> CompactPngNetwork:
    """Returns a network. `span` has no effect, because there are no gains."""
    return CompactPngNetwork(**options)
