"""A head: the embedding of the face in a picture from its latents alone, without making pixels.

It finds the face as a similarity from the recogniser's template to the picture, begins around it as the synthesis does,
goes on to half of the resolution, looks there at the template's points, and goes on as the recogniser does after its
first convolution; all of it is trained to give the recogniser's embedding. SPIC (Patwa et al., "Semantic Preserving
Image Compression", ICIP 2020) solves its task on the latents like this.
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

GRID = 56  # points along a side at which the face is looked at, as the recogniser's first convolution gives them
FEATURES = 64  # of the recogniser there
WINDOW = 12  # latent positions along a side around the face that are gone on with, enough for LFW's and somewhat more
CELL = 2  # pixels along a side of a place where it is looked at
COLOURS = 3
FINDING = (64, 4)  # channels and blocks of what finds the face: it sees nine positions along a side, and all vote
TYPICAL_SCALE = 1.2  # pixels of the picture to one of the template, as on LFW
CENTRE = (SIZE - 1) / 2


@dataclass
class Reading:
    """What a head gives: faces as similarities (B, 2, 3), embeddings (B, 128), features as the recogniser's first layer
    has them (B, FEATURES, GRID, GRID), scores of the classes (B, C). What was not asked for is None."""

    matrices: Tensor
    embedding: Tensor | None = None
    features: Tensor | None = None
    scores: Tensor | None = None


class Head(nn.Module):
    """y_hat (B, M, h, w) -> Reading. Widths are those of the synthesis, `blocks` at most as many; `classes` people."""

    def __init__(
        self, latents: int, coarse: int = 160, fine: int = 128, blocks: tuple[int, int] = (1, 2), classes: int = 0
    ) -> None:
        super().__init__()
        n_fine, n_coarse = blocks
        self.trunk = nn.Sequential(nn.Conv2d(latents, coarse, 1), *(DepthwiseBlock(coarse) for _ in range(n_coarse)))
        width, count = FINDING
        self.find = nn.Sequential(
            nn.Conv2d(latents, width, 1), *(DepthwiseBlock(width) for _ in range(count)), nn.Conv2d(width, 5, 1)
        )
        self.up = nn.Sequential(
            nn.Conv2d(coarse, 4 * fine, 1),
            nn.PixelShuffle(2),
            *(DepthwiseBlock(fine) for _ in range(n_fine)),
            nn.Conv2d(fine, COLOURS * 64, 1),
            nn.PixelShuffle(8 // CELL),
        )
        recogniser = MobileFaceNet()
        self.look = nn.Conv2d(COLOURS * CELL**2, FEATURES, 3, padding=1)
        self.first = recogniser.conv1[1:].eval()
        self.last = nn.Sequential(*_last(recogniser), nn.Flatten()).eval()
        self.classes = nn.Linear(recogniser.bn.num_features, classes) if classes else None
        with torch.no_grad():
            self.find[0].weight.div_(LATENT_SCALE)
            self.find[-1].weight.zero_()
            self.find[-1].bias.zero_()
        points = SIZE / GRID * (torch.arange(GRID) + 0.5) - 0.5
        y, x = torch.meshgrid(points, points, indexing="ij")
        self.register_buffer("points", torch.stack([x, y, torch.ones_like(x)], -1).reshape(1, -1, 3), persistent=False)
        self.register_buffer("cells", torch.arange(WINDOW) - (WINDOW - 1) / 2, persistent=False)

    @torch.no_grad()
    def start_from(self, recogniser: MobileFaceNet, synthesis: nn.Sequential) -> None:
        """Begin as a trained synthesis of the same widths and a trained recogniser behind it, with fewer blocks."""
        for mine, theirs in zip((self.first, *self.last), (recogniser.conv1[1:], *_last(recogniser)), strict=False):
            mine.load_state_dict(theirs.state_dict())
        middle = 1 + next(i for i, layer in enumerate(synthesis[1:]) if not isinstance(layer, DepthwiseBlock))
        for mine, theirs in zip(self.trunk, synthesis[:middle], strict=False):
            mine.load_state_dict(theirs.state_dict())
        for mine, theirs in zip(self.up[:-2], synthesis[middle:-2], strict=False):
            mine.load_state_dict(theirs.state_dict())
        # A place of 8x8 pixels as sixteen of 2x2.
        side = 8 // CELL
        order = torch.arange(COLOURS * 64).reshape(COLOURS, side, CELL, side, CELL).permute(0, 2, 4, 1, 3).reshape(-1)
        self.up[-2].load_state_dict({name: value[order] for name, value in synthesis[-2].state_dict().items()})
        # The first convolution, of stride 2, on places of 2x2; what the synthesis gives is centred on zero.
        weight = recogniser.conv1[0].weight / recogniser.std
        taps = torch.zeros(FEATURES, COLOURS, 6, 6).to(weight)
        taps[:, :, 1:4, 1:4] = weight
        parts = taps.reshape(FEATURES, COLOURS, 3, CELL, 3, CELL).permute(0, 1, 3, 5, 2, 4)
        self.look.weight.copy_(parts.reshape(self.look.weight.shape))
        self.look.bias.copy_((weight * (0.5 - recogniser.mean)).sum((1, 2, 3)))

    def train(self, mode: bool = True) -> Head:
        """The recogniser's normalisation stays as it was trained: batches here are small."""
        super().train(mode)
        self.first.eval()
        self.last.eval()
        return self

    def forward(self, y_hat: Tensor, matrices: Tensor | None = None) -> Reading:
        """With `matrices` (B, 2, 3) the face is looked at there and not where it is found; NaN says nowhere."""
        found = self.place(y_hat)
        seen = found if matrices is None else torch.where(matrices.isnan(), found, matrices)
        features = self.first(self.look(self._sample(y_hat, seen)))
        embedding = self.last(features)
        return Reading(found, embedding, features, None if self.classes is None else self.classes(embedding))

    def place(self, y_hat: Tensor) -> Tensor:
        """Where the face is, (B, 2, 3): every position votes for its centre, how large it is and how turned; the sum
        by their weights."""
        votes = self.find(y_hat)
        weight = votes[:, 0].flatten(1).softmax(1)
        across = (DOWNSAMPLING * votes[:, 1] + _centres(y_hat, 3)).flatten(1)
        down = (DOWNSAMPLING * votes[:, 2] + _centres(y_hat, 2)[:, None]).flatten(1)
        each = torch.stack([across, down, votes[:, 3].flatten(1), votes[:, 4].flatten(1)], 1)
        centre_x, centre_y, log_scale, angle = (each * weight[:, None]).sum(2).unbind(1)
        scale = TYPICAL_SCALE * torch.exp(log_scale)
        a, b = scale * torch.cos(angle), scale * torch.sin(angle)
        top = torch.stack([a, -b, centre_x - CENTRE * (a - b)], 1)
        return torch.stack([top, torch.stack([b, a, centre_y - CENTRE * (a + b)], 1)], 1)

    def _sample(self, y_hat: Tensor, matrices: Tensor) -> Tensor:
        """What the latents become at the template's points, (B, 3 CELL^2, GRID, GRID), of those near the face."""
        last = torch.stack([_centres(y_hat, 3)[-1], _centres(y_hat, 2)[-1]])
        extent = last + (DOWNSAMPLING + 1) / 2  # width and height in pixels
        middle = CENTRE * (matrices[:, :, 0] + matrices[:, :, 1]) + matrices[:, :, 2]
        # The window's centre lies between positions, as it has an even number of them.
        middle = DOWNSAMPLING * torch.round((middle.detach() + 0.5) / DOWNSAMPLING) - 0.5
        cells = DOWNSAMPLING * self.cells
        across = (middle[:, :1] + cells)[:, None].expand(-1, WINDOW, -1)
        down = (middle[:, 1:] + cells)[:, :, None].expand(-1, -1, WINDOW)
        place = torch.stack([across, down], 3)
        window = F.grid_sample(y_hat, (2 * place + 1) / extent - 1, mode="nearest", align_corners=False)
        face = (self.points @ matrices.transpose(1, 2) - middle[:, None]).reshape(-1, GRID, GRID, 2)
        return F.grid_sample(self.up(self.trunk(window)), 2 * face / (WINDOW * DOWNSAMPLING), align_corners=False)

    def frozen(self) -> dict[str, np.ndarray]:
        """The graph from y_hat (1, M, h, w) to the embedding (1, 128), and the classes' linear layer after it."""
        example = torch.zeros(1, self.trunk[0].in_channels, 8, 8)
        tensors = {"head.onnx": graph(_Embedding(self), example)}
        if self.classes is not None:
            tensors["weight"] = self.classes.weight.detach().numpy().astype(np.float16)
            tensors["bias"] = self.classes.bias.detach().numpy().astype(np.float16)
        return tensors


def _last(recogniser: MobileFaceNet) -> tuple[nn.Module, ...]:
    return recogniser.dw_conv, recogniser.features, recogniser.conv2, recogniser.gdconv, recogniser.conv3, recogniser.bn


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

    NaN where `matrices` are.
    """
    points = torch.cat([torch.from_numpy(TEMPLATE), torch.ones(len(TEMPLATE), 1)], 1).to(found)
    off = points @ (found - matrices).transpose(1, 2)
    scale = torch.linalg.vector_norm(matrices[:, 0, :2], dim=1)
    return torch.linalg.vector_norm(off, dim=2).mean(1) / scale
