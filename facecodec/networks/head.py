"""A head: embeds the face in a picture from its latents alone, without making pixels.

It finds the face's landmarks. Around them it runs the first layers of the synthesis, up to half of
the resolution. It samples the result at the points of the recogniser's template, corrects the
landmarks, and samples again. Then it runs the recogniser's layers after the first one. All layers
are trained to give the recogniser's embedding. SPIC also solves its task on the latents (Patwa et
al., "Semantic Preserving Image Compression", ICIP 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facecodec.faces.mobilefacenet import MobileFaceNet
from facecodec.networks.export import graph
from facecodec.networks.transforms import DOWNSAMPLING, LATENT_SCALE, Mixing, linear
from facecodec.template import SIZE, TEMPLATE

GRID = 56  # sampling points along a side of a face: the size of the recogniser's first layer
FEATURES = 64  # channels of the recogniser's first layer
WINDOW = 12  # latent positions along a side of the window around the face; LFW's faces fit
CELL = 2  # pixels along a side of a sampling point
COLOURS = 3
# Channels and blocks of the layers that find the face. Each position sees nine along a side.
FINDING = (64, 4)
TYPICAL_SCALE = 1.2  # pixels of the picture per pixel of the template, as on LFW
# The template's centre and points, in homogeneous coordinates.
CENTRE = torch.tensor([(SIZE - 1) / 2, (SIZE - 1) / 2, 1])
POINTS = torch.from_numpy(np.c_[TEMPLATE, np.ones(len(TEMPLATE))]).float()


@dataclass
class HeadOutputs:
    """The outputs of a head. Outputs that were not computed are None.

    They are landmarks (B, 5, 2) in pixels, the first and the corrected ones; embeddings (B, 128);
    features of the recogniser's first layer (B, FEATURES, GRID, GRID); and scores of the classes
    (B, C).
    """

    landmarks: Tensor
    closer: Tensor
    embedding: Tensor | None = None
    features: Tensor | None = None
    scores: Tensor | None = None


class HeadNetwork(nn.Module):
    """Turns y_hat (B, M, h, w) into HeadOutputs.

    `fine` is the synthesis's width at 1/8 of the resolution; `classes` is the number of people.
    Blocks have no gated half, which would not improve them.
    """

    # Buffers, in order: the points of the recogniser's first grid and of its template; the
    # landmarks of a face at the usual place; the matrix that fits a similarity to landmarks; the
    # template's centre; and the positions of a window.
    points: Tensor
    template: Tensor
    typical: Tensor
    fit: Tensor
    centre: Tensor
    cells: Tensor

    def __init__(self, latents: int, fine: int = 128, classes: int = 0) -> None:
        super().__init__()
        self.channels = latents
        width, count = FINDING
        self.find = nn.Sequential(
            nn.Conv2d(latents, width, 1),
            *(Mixing(width) for _ in range(count)),
            nn.Conv2d(width, 3 * len(TEMPLATE), 1),
        )
        self.up = nn.Sequential(
            nn.Conv2d(latents, 4 * fine, 1),
            nn.PixelShuffle(2),
            Mixing(fine),
            nn.Conv2d(fine, COLOURS * 64, 1),
            nn.PixelShuffle(8 // CELL),
        )
        self.refine = nn.Sequential(
            *_halving(COLOURS * CELL**2, 24), *_halving(24, 48), *_halving(48, 64), nn.Flatten(),
            nn.Linear(64 * (GRID // 8) ** 2, 2 * len(TEMPLATE)),
        )  # fmt: skip
        recogniser = MobileFaceNet()
        self.look = nn.Sequential(
            nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(COLOURS * CELL**2, FEATURES, 2)
        )
        self.first = recogniser.conv1[1:].eval()
        self.last = nn.Sequential(*_last(recogniser), nn.Flatten()).eval()
        self.classes = nn.Linear(recogniser.bn.num_features, classes) if classes else None
        with torch.no_grad():
            linear(self.find[0]).weight.div_(LATENT_SCALE)
            for last in (linear(self.find[-1]), linear(self.refine[-1])):
                last.weight.zero_()
                last.bias.zero_()
        points = SIZE / GRID * (torch.arange(GRID) + 0.5) - 0.5
        y, x = torch.meshgrid(points, points, indexing="ij")
        self.register_buffer(
            "points",
            torch.stack([x, y, torch.ones_like(x)], -1).reshape(1, -1, 3),
            persistent=False,
        )
        self.register_buffer("template", POINTS, persistent=False)
        self.register_buffer(
            "typical", TYPICAL_SCALE * (POINTS - POINTS.mean(0))[:, :2], persistent=False
        )
        self.register_buffer("fit", torch.from_numpy(_least_squares()).float(), persistent=False)
        self.register_buffer("centre", CENTRE, persistent=False)
        self.register_buffer("cells", torch.arange(WINDOW), persistent=False)

    @torch.no_grad()
    def start_from(self, recogniser: MobileFaceNet, synthesis: nn.Module) -> None:
        """Takes the parameters of a trained synthesis of the same width, and of a recogniser.

        Only half of one of the synthesis's blocks is used.
        """
        taught = (recogniser.conv1[1:], *_last(recogniser))
        for part, teacher in zip((self.first, *self.last), taught, strict=False):
            part.load_state_dict(teacher.state_dict())
        assert isinstance(synthesis, nn.Sequential)
        # Without the blocks at 1/16, the layers there are linear, so they become one layer.
        shuffle = next(i for i, layer in enumerate(synthesis) if isinstance(layer, nn.PixelShuffle))
        into, out = linear(synthesis[0]), linear(synthesis[shuffle - 1])
        up = linear(self.up[0])
        up.weight.copy_(torch.einsum("ocxy,clxy->olxy", out.weight, into.weight))
        up.bias.copy_(out.weight[..., 0, 0] @ into.bias + out.bias)
        mine, theirs = self.up[2], synthesis[shuffle + 1]
        assert isinstance(mine, Mixing)
        assert isinstance(theirs, Mixing)
        mine.mix.load_state_dict(theirs.mix.state_dict())
        # A position of 8x8 pixels becomes sixteen positions of 2x2.
        side = 8 // CELL
        order = (
            torch.arange(COLOURS * 64)
            .reshape(COLOURS, side, CELL, side, CELL)
            .permute(0, 2, 4, 1, 3)
            .reshape(-1)
        )
        self.up[-2].load_state_dict(
            {name: value[order] for name, value in synthesis[-2].state_dict().items()}
        )
        # The recogniser's first convolution has stride 2, so it reads positions of 2x2 pixels. The
        # synthesis's output is centred on zero.
        weight = linear(recogniser.conv1[0]).weight / recogniser.std
        taps = (
            F.pad(weight, (1, 0, 1, 0))
            .reshape(FEATURES, COLOURS, 2, CELL, 2, CELL)
            .permute(0, 1, 3, 5, 2, 4)
        )
        look = linear(self.look[1])
        look.weight.copy_(taps.reshape(look.weight.shape))
        look.bias.copy_((weight * (0.5 - recogniser.mean)).sum((1, 2, 3)))

    def train(self, mode: bool = True) -> HeadNetwork:
        """Keeps the recogniser's batch statistics, because batches are small here."""
        super().train(mode)
        self.first.eval()
        self.last.eval()
        return self

    def forward(self, y_hat: Tensor, matrices: Tensor | None = None) -> HeadOutputs:
        """Reads latents.

        With `matrices` (B, 2, 3), it first looks there and not where it finds the face. A matrix of
        NaN has no effect.
        """
        landmarks, closer, window = self.look_twice(y_hat, matrices)
        features = self.first(self.look(self._sample(*window, self.similarity(closer))))
        embedding = self.last(features)
        return HeadOutputs(
            landmarks,
            closer,
            embedding,
            features,
            None if self.classes is None else self.classes(embedding),
        )

    def look_twice(
        self, y_hat: Tensor, matrices: Tensor | None = None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Returns the first and the corrected landmarks, (B, 5, 2), and the result of `_window`."""
        landmarks = self.landmarks(y_hat)
        about = self.similarity(landmarks)
        if matrices is not None:
            about = torch.where(matrices.isnan(), about, matrices)
        window = self._window(y_hat, about)
        moved = self.refine(self._sample(*window, about)).unflatten(1, (-1, 2))
        closer = _moved(F.pad(moved, (0, 1)) + self.template, about)
        return landmarks, closer, window

    def landmarks(self, y_hat: Tensor) -> Tensor:
        """Returns the face's landmarks, (B, 5, 2).

        Every position votes for each landmark's place; the result is the weighted sum of votes.
        """
        found = (
            self.find(y_hat).flatten(2).unflatten(1, (3, -1))
        )  # weights, and offsets across and down
        height, width = y_hat.shape[2:]
        across = torch.arange(width, device=y_hat.device).repeat(height)
        down = torch.arange(height, device=y_hat.device)[:, None].expand(-1, width).flatten()
        places = torch.stack([across, down])[:, None]
        votes = ((found[:, 1:] + places) * found[:, :1].softmax(3)).sum(3)
        return DOWNSAMPLING * (votes.transpose(1, 2) + 0.5) - 0.5 + self.typical

    def similarity(self, landmarks: Tensor) -> Tensor:
        """Returns the similarity transform (B, 2, 3) that best maps the template to landmarks."""
        return _product(landmarks.flatten(1), self.fit).unflatten(1, (2, 3))

    def _window(self, y_hat: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features around a face, (B, 3 CELL^2, 8 WINDOW, 8 WINDOW), and their centre."""
        height, width = y_hat.shape[2:]
        centre = _product(matrices, self.centre)
        # The window has an even number of positions, so its centre is between two. Outside the
        # picture there are zeros.
        corner = torch.round((centre.detach() + 0.5) / DOWNSAMPLING) - WINDOW // 2
        across, down = (corner[:, :, None] + self.cells).long().unbind(1)
        inside = ((down >= 0) & (down < height))[:, :, None] & ((across >= 0) & (across < width))[
            :, None
        ]
        index = torch.where(
            inside, width * down[:, :, None] + across[:, None], height * width
        ).flatten(1)
        cells = F.pad(y_hat.flatten(2), (0, 1)).gather(
            2, index[:, None].expand(-1, y_hat.shape[1], -1)
        )
        seen = self.up(cells.unflatten(2, (WINDOW, WINDOW)))
        return seen, DOWNSAMPLING * (corner + WINDOW // 2) - 0.5

    def _sample(self, seen: Tensor, middle: Tensor, matrices: Tensor) -> Tensor:
        """Samples a window at the template's points, (B, 3 CELL^2, GRID, GRID)."""
        within = (matrices - F.pad(middle[:, :, None], (2, 0))) * (2 / (WINDOW * DOWNSAMPLING))
        return F.grid_sample(
            seen, _moved(self.points, within).unflatten(1, (GRID, GRID)), align_corners=False
        )

    def frozen(self) -> dict[str, np.ndarray]:
        """Returns the graph of the head and the linear layer from embeddings to scores.

        The graph turns y_hat (1, M, h, w) into the embedding (1, 128) and the landmarks (1, 5, 2).
        """
        example = torch.zeros(1, self.channels, 8, 8)
        tensors = {"head.onnx": graph(_Seen(self), example, ("output", "landmarks"))}
        if self.classes is not None:
            tensors["weight"] = self.classes.weight.detach().numpy().astype(np.float16)
            tensors["bias"] = self.classes.bias.detach().numpy().astype(np.float16)
        return tensors


def _last(recogniser: MobileFaceNet) -> tuple[nn.Module, ...]:
    return (
        recogniser.dw_conv,
        recogniser.features,
        recogniser.conv2,
        recogniser.gdconv,
        recogniser.conv3,
        recogniser.bn,
    )


def _halving(channels: int, wider: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, wider, 3, 2, 1), nn.LeakyReLU()


def _moved(points: Tensor, matrices: Tensor) -> Tensor:
    """Applies matrices (B, 2, 3) to homogeneous points (..., N, 3). Returns (B, N, 2)."""
    return _product(points, matrices.transpose(1, 2))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Multiplies matrices in float32, because autocast would round positions to whole pixels."""
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float()


class _Seen(nn.Module):
    def __init__(self, head: HeadNetwork) -> None:
        super().__init__()
        self.head = head

    def forward(self, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.head(y_hat)
        return outputs.embedding, outputs.closer


def landmark_error(landmarks: Tensor, matrices: Tensor) -> Tensor:
    """Returns the mean distance (B,) of landmarks (B, 5, 2) from their true places.

    `matrices` (B, 2, 3) map the template's points to the true places. The distance is in pixels of
    the template. It is NaN where `matrices` are NaN.
    """
    off = landmarks - _moved(POINTS.to(landmarks), matrices)
    scale = torch.linalg.vector_norm(matrices[:, 0, :2], dim=1)
    return torch.linalg.vector_norm(off, dim=2).mean(1) / scale


def _least_squares() -> np.ndarray:
    """Returns the matrix (10, 6) from landmarks to the similarity transform that fits them.

    Both are rows: x, y, x, y, ..., and the rows of [[a, -b, c], [b, a, d]].
    """
    x, y = TEMPLATE.T
    one, zero = np.ones(len(x)), np.zeros(len(x))
    equations = np.stack(
        [np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)], 1
    ).reshape(-1, 4)
    a, b, c, d = np.linalg.pinv(equations)
    return np.stack([a, -b, c, b, a, d], 1)
