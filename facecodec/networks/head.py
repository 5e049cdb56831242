"""A head: the embedding of the face in a picture from its latents alone, without making pixels.

It finds the face as a similarity from the recogniser's template to the picture, looks at the latents through it as
the recogniser looks at the picture, and ends in the recogniser's own last layers, trained on. SPIC (Patwa et al.,
"Semantic Preserving Image Compression", ICIP 2020) solves its task on the latents like this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facecodec.faces.alignment import SIZE, TEMPLATE
from facecodec.faces.mobilefacenet import MobileFaceNet
from facecodec.networks.export import graph
from facecodec.networks.transforms import DOWNSAMPLING, LATENT_SCALE, DepthwiseBlock

GRID = 14  # points along a side at which a face is looked at, as in the recogniser's middle layers
FEATURES = 128  # of the recogniser there
LAST = slice(12, 14)  # the recogniser's blocks that follow; one more would make the model file too large
TYPICAL_SCALE = 1.2  # pixels of the picture to one of the template, as on LFW
CENTRE = (SIZE - 1) / 2


@dataclass
class Reading:
    """What a head gives: embeddings (B, 128), faces as similarities (B, 2, 3), scores of the classes (B, C)."""

    embedding: Tensor
    matrices: Tensor
    middle: Tensor  # (B, FEATURES, GRID, GRID), like the recogniser's own
    scores: Tensor | None = None


class Head(nn.Module):
    """y_hat (B, M, h, w) -> Reading. `coarse` channels at 1/16, `fine` at 1/8 of the resolution; `classes` people."""

    def __init__(self, latents: int, coarse: int = 80, fine: int = 56, classes: int = 0) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(latents, coarse, 1), *(DepthwiseBlock(coarse) for _ in range(2)))
        self.find = nn.Sequential(
            nn.Conv2d(coarse, coarse, 3, padding=1, groups=coarse), nn.LeakyReLU(), nn.Conv2d(coarse, 5, 1)
        )
        self.up = nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2), DepthwiseBlock(fine))
        self.look = nn.Sequential(nn.Conv2d(fine, FEATURES, 1), DepthwiseBlock(FEATURES))
        recogniser = MobileFaceNet()
        self.last = nn.Sequential(*_last(recogniser), nn.Flatten()).eval()
        self.classes = nn.Linear(recogniser.bn.num_features, classes) if classes else None
        with torch.no_grad():
            self.trunk[0].weight /= LATENT_SCALE
            self.find[-1].weight.zero_()
            self.find[-1].bias.zero_()
        points = SIZE / GRID * (torch.arange(GRID) + 0.5) - 0.5
        y, x = torch.meshgrid(points, points, indexing="ij")
        self.register_buffer("points", torch.stack([x, y, torch.ones_like(x)], -1), persistent=False)

    def start_from(self, recogniser: MobileFaceNet) -> None:
        """Take the last layers of a trained recogniser."""
        for mine, each in zip(self.last, _last(recogniser), strict=False):
            mine.load_state_dict(each.state_dict())

    def train(self, mode: bool = True) -> Head:
        """The recogniser's normalisation stays as it was trained: batches here are small."""
        super().train(mode)
        self.last.eval()
        return self

    def forward(self, y_hat: Tensor, matrices: Tensor | None = None) -> Reading:
        """With `matrices` (B, 2, 3) the face is looked at there and not where it is found; NaN says nowhere."""
        trunk = self.trunk(y_hat)
        x, y = _centres(trunk, 3), _centres(trunk, 2)
        found = self._place(self.find(trunk), x, y)
        seen = found
        if matrices is not None:
            seen = torch.where(matrices.isnan(), found.detach(), matrices)
        middle = self.look(self._sample(self.up(trunk), seen, torch.stack([x[-1], y[-1]])))
        embedding = self.last(middle)
        return Reading(embedding, found, middle, None if self.classes is None else self.classes(embedding))

    def _place(self, votes: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Every place votes for where the face's centre is, how large and how turned; the sum by their weights."""
        weight = votes[:, 0].flatten(1).softmax(1)
        across = (DOWNSAMPLING * votes[:, 1] + x).flatten(1)
        down = (DOWNSAMPLING * votes[:, 2] + y[:, None]).flatten(1)
        each = torch.stack([across, down, votes[:, 3].flatten(1), votes[:, 4].flatten(1)], 1)
        centre_x, centre_y, log_scale, angle = (each * weight[:, None]).sum(2).unbind(1)
        scale = TYPICAL_SCALE * torch.exp(log_scale)
        a, b = scale * torch.cos(angle), scale * torch.sin(angle)
        top = torch.stack([a, -b, centre_x - CENTRE * (a - b)], 1)
        return torch.stack([top, torch.stack([b, a, centre_y - CENTRE * (a + b)], 1)], 1)

    def _sample(self, features: Tensor, matrices: Tensor, last: Tensor) -> Tensor:
        """`features` at 1/8 of the resolution, at the template's points; `last` is the last place's centre."""
        points = self.points.reshape(1, -1, 3)
        place = (points @ matrices.transpose(1, 2)).reshape(-1, GRID, GRID, 2)
        return F.grid_sample(features, (2 * place + 1) / (last + (DOWNSAMPLING + 1) / 2) - 1, align_corners=False)

    def frozen(self) -> dict[str, np.ndarray]:
        """The graph from y_hat (1, M, h, w) to the embedding (1, 128), and the classes' linear layer after it."""
        example = torch.zeros(1, self.trunk[0].in_channels, 8, 8)
        tensors = {"head.onnx": graph(_Embedding(self), example, eight_bits=True)}
        if self.classes is not None:
            tensors["head.weight"] = self.classes.weight.detach().numpy().astype(np.float16)
            tensors["head.bias"] = self.classes.bias.detach().numpy().astype(np.float16)
        return tensors


def _last(recogniser: MobileFaceNet) -> tuple[nn.Module, ...]:
    return recogniser.features[LAST], recogniser.conv2, recogniser.gdconv, recogniser.conv3, recogniser.bn


def _centres(features: Tensor, axis: int) -> Tensor:
    """Of the places along an axis, in pixels; so that an exported graph takes any size."""
    return DOWNSAMPLING * (torch.arange(features.shape[axis], device=features.device) + 0.5) - 0.5


class _Embedding(nn.Module):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, y_hat: Tensor) -> Tensor:
        return self.head(y_hat).embedding


def landmark_error(found: Tensor, matrices: Tensor) -> Tensor:
    """Mean distance of the five points of faces that lie by `found` and by `matrices`, in the template's pixels, (B,).

    0 where `matrices` are NaN.
    """
    points = torch.cat([torch.from_numpy(TEMPLATE), torch.ones(len(TEMPLATE), 1)], 1).to(found)
    there = ~matrices[:, 0, 0].isnan()
    off = points @ (found - matrices.nan_to_num()).transpose(1, 2)
    scale = torch.linalg.vector_norm(matrices[:, 0, :2].nan_to_num(1.0), dim=1)
    return torch.linalg.vector_norm(off, dim=2).mean(1) / scale * there
