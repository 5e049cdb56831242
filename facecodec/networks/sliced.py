"""Hyperprior whose latents are coded slice by slice, each predicted from those before it.

Minnen and Singh, "Channel-wise Autoregressive Entropy Models for Learned Image Compression" (ICIP
2020), with the uneven slices of ELIC (He et al., CVPR 2022): the first slices are small and tell
most about the rest. As in the family `hyperprior`, the hyper-synthesis predicts scales and means of
all latents. For each later slice, a small network corrects them, given the slices before it. With
corrections of zero this is the hyperprior, so training can start from a hyperprior's parameters.
All of it is later frozen to integers (facecodec/exact.py).

The synthesis also gets the quality of each position.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from compressai.ops import quantize_ste
from torch import Tensor, nn

from facecodec.exact import SCALE_STEPS
from facecodec.networks.coded import Coded
from facecodec.networks.export import of_latents, of_pixels, to_pixels
from facecodec.networks.hyperprior import (
    HYPER_DOWNSAMPLING,
    GainedNetwork,
    hyper_synthesis,
    interpolate,
)
from facecodec.networks.integers import (
    SCALE_MIN,
    frozen_gains,
    frozen_network,
    gaussian_tables,
    inverse_gains,
    stored_qualities,
)
from facecodec.networks.transforms import (
    DOWNSAMPLING,
    FullPrecision,
    Mixing,
    QualityAnalysis,
    Uncentred,
    depthwise_transforms,
    from_zero,
    linear,
)


class SlicedNetwork(GainedNetwork):
    """The whole codec. Images are (B, 3, H, W) in 0..1, H and W multiples of 16.

    `slices` are the numbers of channels of each slice of y, M in all; `hyper` is that of z, and
    `features` that of further outputs of the hyper-synthesis, which the slices' networks take.
    `context` is the width of these networks. `far` is the number of further layers at 1/64 of the
    resolution, before and after z, which widen the hyperprior's view. `span` is the ratio of the
    largest to the smallest rate weight.
    """

    def __init__(
        self,
        slices: tuple[int, ...] = (16, 32, 48, 64),
        fine: int = 128,
        coarse: int = 160,
        blocks: tuple[int, int] = (3, 3),
        hyper: int = 64,
        hyper_width: int = 96,
        features: int = 32,
        context: int = 96,
        far: int = 2,
        span: float = 160.0,
    ) -> None:
        super().__init__()
        self.slices, self.features, self.far = tuple(slices), features, far
        latents = sum(slices)
        self.channels = latents + 1  # of the input of the synthesis and the head
        parts: Any = depthwise_transforms(latents, fine, coarse, (blocks[0], blocks[1]))
        analysis, synthesis, log_scale = parts
        synthesis[0] = _with_quality(synthesis[0])
        self.g_a = QualityAnalysis(analysis)
        self.g_s = Uncentred(synthesis)
        width = hyper_width
        self.h_a = nn.Sequential(
            nn.Conv2d(latents, width, 1),
            nn.LeakyReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.LeakyReLU(),
            FullPrecision(width, hyper, 3, 2, 1),
            *(Mixing(hyper) for _ in range(far)),
        )
        self.h_s = hyper_synthesis(hyper, width, 2 * latents + features + 1, far)
        starts = np.cumsum([0, *slices[:-1]]).tolist()
        self.predict: Any = nn.ModuleList(
            correction(features + 1 + 2 * size + start, context, 2 * size)
            for start, size in zip(starts[1:], slices[1:], strict=True)
        )
        with torch.no_grad():
            first, last = linear(self.h_a[0]), linear(self.h_s[-1])
            first.weight.mul_(torch.exp2(-log_scale)[:, None, None])
            last.bias[:latents] = log_scale
            last.bias[latents:] = 0
            last.weight[-1] = 0
        self.add_gains(latents, hyper, span)

    def forward(self, x: Tensor, quality: Tensor, noisy_rate: bool = False) -> Coded:
        """Codes `x` at `quality` (B,), real numbers from 1 to 8."""
        y_hat, y_bits, z_bits = self.latents(x, quality, noisy_rate)
        return Coded(self.g_s(y_hat), y_bits, z_bits, y_hat)

    def latents(
        self, x: Tensor, quality: Tensor, noisy_rate: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the input of the synthesis, (B, M + 1, h, w), and the bits of y and z.

        The input is y_hat and, as the last channel, q - 1 of each position.
        """
        y = self.g_a(x, quality).float()
        quality = quality[:, None, None]
        z_hat, z_bits = self.hyper_latent(y, quality, noisy_rate)
        out = self.h_s(z_hat)[..., : y.shape[-2], : y.shape[-1]]
        places = (quality + out[:, -1]).clamp(1, 8)
        gain = torch.exp2(interpolate(self.y_log_gain, places))
        places = places[:, None] - 1
        latents = y.shape[1]
        seen = [out[:, 2 * latents : -1], places]
        y_bits, start = torch.zeros_like(z_bits), 0
        for number, size in enumerate(self.slices):
            part = slice(start, start + size)
            parameters = torch.cat(
                [out[:, part], out[:, latents + start : latents + start + size]], 1
            )
            if number > 0:
                parameters = parameters + self.predict[number - 1](
                    torch.cat([*seen[:2], parameters, *seen[2:]], 1)
                )
            log_scale, mean = parameters.chunk(2, 1)
            scale = torch.exp2(log_scale.clamp(-8, 8)) * gain[:, part]
            mean = mean * gain[:, part]
            residual = y[:, part] * gain[:, part] - mean
            symbols = quantize_ste(residual)
            y_bits = y_bits + self.bits(residual, scale, noisy_rate).flatten(1).sum(1)
            seen.append((symbols + mean) / gain[:, part])
            start += size
        return torch.cat([*seen[2:], places], 1), y_bits, z_bits

    def learn_rate_alone(self) -> None:
        """Freezes all but scales, means and their corrections; the quality map is frozen too."""
        self.requires_grad_(False)
        self.predict.requires_grad_(True)
        for parameter in linear(self.h_s[-1]).parameters():
            parameter.requires_grad_(True)
            parameter.register_hook(_without_last)

    @torch.no_grad()
    def adopted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Converts parameters of a smaller network to this one, which then gives the same results.

        The other network may have fewer blocks, or be a hyperprior. Parameters that it lacks keep
        their values here. A head that read a hyperprior's latents gets weights for the qualities.
        """
        latents = self.channels - 1
        state, mine = dict(state), dict(self.state_dict())
        for name in ("g_a.body", "g_s.body"):
            state = _deepened(state, name, mine)
        for name in ("g_s.body.0.weight", "head.find.0.weight", "head.up.0.weight"):
            if name in state and state[name].shape[1] == latents:  # they do not see the qualities
                state[name] = torch.cat([state[name], torch.zeros_like(state[name][:, :1])], 1)
        if any(name.startswith("predict.") for name in state):
            return state
        theirs = dict(state)
        for name in state:
            if name.startswith("h_s."):
                _, layer, kind = name.split(".")
                moved = int(layer) + (2 * self.far if layer != "0" else 0)
                mine[f"h_s.{moved}.{kind}"] = theirs.pop(name)
        last = len(self.h_s) - 1
        for kind in ("weight", "bias"):
            given = mine[f"h_s.{last}.{kind}"]
            fresh = linear(self.h_s[-1]).state_dict()[kind][2 * latents : -1]
            mine[f"h_s.{last}.{kind}"] = torch.cat([given[:-1], fresh, given[-1:]])
        return mine | theirs

    @torch.no_grad()
    def frozen(self) -> dict[str, np.ndarray]:
        """Returns the tensors that coding needs, by name (docs/format.md, "Family `sliced`")."""
        counts, starts = gaussian_tables()
        quality = stored_qualities()[:, None, None]
        y_log, z_log, z_scale = (
            interpolate(each.double(), quality)[..., 0, 0].numpy()
            for each in (self.y_log_gain, self.z_log_gain, self.z_log_scale)
        )
        latents = self.channels - 1
        tensors = {
            **of_pixels("g_a", self.g_a, DOWNSAMPLING, by_quality=True),
            **of_latents("h_a", self.h_a, latents, HYPER_DOWNSAMPLING),
            **to_pixels("g_s", self.g_s, self.channels, DOWNSAMPLING),
            "table_counts": counts,
            "table_starts": starts,
            "slices": np.array(self.slices, np.int32),
            **frozen_gains(y_log, z_log, z_scale),
            "y_inverse_gain": inverse_gains(y_log),
            **frozen_network("h_s", self.h_s, scales=latents, maps=1),
        }
        for number, (size, predict) in enumerate(
            zip(self.slices[1:], self.predict, strict=True), start=1
        ):
            scales = slice(self.features + 1, self.features + 1 + size)
            network = _seeing_indices(predict, scales)
            tensors |= frozen_network(f"slice{number}", network, corrections=size)
        return tensors


def _deepened(state: dict[str, Tensor], name: str, mine: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns `state` with further blocks of `mine` at the end of each stage of a transform.

    A state that has no such transform, more blocks or other layers is returned unchanged.
    """
    theirs, ours = _layers(state, name), _layers(mine, name)
    if not theirs or not theirs.keys() <= ours.keys():
        return state
    moved = {f"{name}.{layer}.": f"{name}.{ours[place]}." for place, layer in theirs.items()}
    added = tuple(f"{name}.{ours[place]}." for place in ours.keys() - theirs.keys())
    kept = {key: value for key, value in mine.items() if key.startswith(added)}
    for key, value in state.items():
        place = next((place for place in moved if key.startswith(place)), "")
        kept[moved.get(place, "") + key.removeprefix(place)] = value
    return kept


def _layers(state: dict[str, Tensor], name: str) -> dict[tuple[int, int], int]:
    """Returns the layers of a transform by (stage, block).

    Each layer that is not a block begins a stage, and is its block 0.
    """
    numbers = {int(key.split(".")[2]) for key in state if key.startswith(f"{name}.")}
    layers, stage, block = {}, 0, 0
    for number in sorted(numbers):
        if f"{name}.{number}.mix.0.weight" in state:
            block += 1
        else:
            stage, block = stage + 1, 0
        layers[stage, block] = number
    return layers


def _without_last(gradient: Tensor) -> Tensor:
    """Returns the gradient with its last row, the quality map's, set to zero."""
    return torch.cat([gradient[:-1], torch.zeros_like(gradient[-1:])])


def _with_quality(layer: Any) -> nn.Conv2d:
    """Returns the layer with one more input, the quality, whose weights start at zero."""
    wider = linear(FullPrecision(layer.in_channels + 1, layer.out_channels, 1))
    with torch.no_grad():
        wider.weight.zero_()
        wider.weight[:, :-1] = layer.weight
        wider.bias.copy_(layer.bias)
    return wider


def correction(seen: int, width: int, outputs: int) -> nn.Sequential:
    """Returns the network that corrects a slice, at the start by zero.

    Its outputs are added to log2 of scales and to means.
    """
    return nn.Sequential(
        nn.Conv2d(seen, width, 1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, groups=width),
        nn.ReLU(),
        from_zero(FullPrecision(width, outputs, 1)),
    )


def _seeing_indices(network: nn.Sequential, scales: slice) -> nn.Sequential:
    """Returns the same network with table indices, and not log2 of scales, as inputs `scales`."""
    network = copy.deepcopy(network).double()
    first = linear(network[0])
    weight = first.weight[:, scales, 0, 0]
    first.bias += math.log2(SCALE_MIN) * weight.sum(1)
    weight /= SCALE_STEPS
    return network


build = SlicedNetwork
