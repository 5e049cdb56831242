"""Random views: in each step, the teachers get slightly different crops.

So the codec does not fit to one way of sampling, or to a single channel of one network.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facecodec.faces.alignment import crop
from facecodec.faces.recognisers import Contract

KERNELS = (
    "plain",
    "area",
    "bilinear",
    "bicubic",
)  # all but the first sample twice as finely
MOST_BLUR = 0.7  # standard deviation in pixels of the crop, at most
MOST_NOISE = 0.02  # standard deviation of values in 0..1, at most
BLOCK = 8  # pixels, as in JPEG

View = Callable[[Tensor, np.ndarray, Contract], Tensor]


def plain_view(images: Tensor, matrices: np.ndarray, contract: Contract) -> Tensor:
    """Returns crops as the recogniser's contract requires."""
    return crop(images, matrices, contract)


def random_view(rng: np.random.Generator) -> View:
    """Returns one view, which is then used for originals and for decoded faces.

    Half of the views are mirrored, and half are blurred. The sampling kernel varies, and blocks of
    8x8 get noise as from a block coder.
    """
    mirror, kernel = rng.random() < 0.5, rng.choice(KERNELS)
    blur = rng.uniform(0.3, MOST_BLUR) if rng.random() < 0.5 else 0.0
    noise, seed = rng.uniform(0, MOST_NOISE), int(rng.integers(2**31))

    def view(images: Tensor, matrices: np.ndarray, contract: Contract) -> Tensor:
        if kernel == "plain":
            crops = crop(images, matrices, contract)
        else:
            fine = Contract(
                size=2 * contract.size,
                template=tuple((2 * x + 0.5, 2 * y + 0.5) for x, y in contract.template),
            )
            smooth = {} if kernel == "area" else {"antialias": True}
            crops = F.interpolate(
                crop(images, matrices, fine), size=contract.size, mode=kernel, **smooth
            )
        if blur:
            tap = float(np.exp(-0.5 / blur**2))
            line = torch.tensor([tap, 1, tap], device=crops.device) / (1 + 2 * tap)
            weight = torch.outer(line, line).expand(crops.shape[1], 1, 3, 3)
            crops = F.conv2d(F.pad(crops, (1, 1, 1, 1), "replicate"), weight, groups=len(weight))
        crops = crops + noise * blocks(len(crops), contract.size, seed).to(crops)
        return crops.flip(3) if mirror else crops

    return view


def blocks(count: int, size: int, seed: int) -> Tensor:
    """Returns grey noise (count, 1, size, size) of unit variance: one frequency per 8x8 block."""
    rng = np.random.default_rng(seed)
    along = np.cos(np.pi * (2 * np.arange(BLOCK)[:, None] + 1) * np.arange(BLOCK) / (2 * BLOCK))
    along /= np.sqrt((along**2).mean(0))
    number = -(-size // BLOCK)
    picked = rng.integers(BLOCK, size=(2, count, number, number))
    sign = rng.choice([-1.0, 1.0], (count, number, number))
    waves = np.einsum("nabi,nabj,nab->naibj", along.T[picked[0]], along.T[picked[1]], sign)
    whole = waves.reshape(count, 1, number * BLOCK, number * BLOCK)[..., :size, :size]
    return torch.from_numpy(np.ascontiguousarray(whole)).float()


class ChannelDropout:
    """Drops channels of a teacher's convolutions, the same in every pass until the next `draw`.

    It multiplies the weights, which has the same effect as multiplying the channels and is cheaper.
    """

    def __init__(self, network: nn.Module, share: float) -> None:
        self._share = share
        self._whole = [
            (module, [parameter.clone() for parameter in module.parameters()])
            for module in network.modules()
            if isinstance(module, nn.Conv2d)
        ]

    @torch.no_grad()
    def draw(self, rng: np.random.Generator | None) -> None:
        """Draws the channels to drop; with None, none are dropped."""
        for module, whole in self._whole:
            scale = torch.ones(module.out_channels)
            if rng is not None:
                kept = rng.random(module.out_channels) >= self._share
                scale = torch.from_numpy(kept / (1 - self._share)).float()
            for parameter, value in zip(module.parameters(), whole, strict=True):
                shape = [-1, *[1] * (value.dim() - 1)]
                parameter.copy_(value * scale.view(shape).to(value))
