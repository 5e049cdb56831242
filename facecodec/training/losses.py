"""Loss functions. The rate is in bits per pixel of the original image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim
from torch import Tensor, nn

from facecodec.faces.alignment import align
from facecodec.faces.mobilefacenet import MobileFaceNet
from facecodec.faces.teachers import Teacher
from facecodec.networks.head import HeadOutputs, landmark_error
from facecodec.search.objective import AREA, COLOR
from facecodec.training.config import TeacherConfig
from facecodec.training.views import ChannelDropout, View, plain_view, random_view

# Weights relative to 1 - cosine; docs/training.md says how they were chosen.
DISTORTION_WEIGHT = {"l2": 60.0, "msssim": 1.2}
MSSSIM_MIN_SIDE = 161  # five scales of an 11-pixel window


def rate_weight(quality: Tensor, ends: tuple[float, float]) -> Tensor:
    """Returns lambda_rate at `quality` (B,) in 1..8.

    It changes geometrically, from ends[0] at 1 to ends[1] at 8.
    """
    low, high = ends
    return low * torch.exp((quality - 1) / 7 * torch.log(torch.tensor(high / low)))


def distortion(x_hat: Tensor, x: Tensor, kind: str, averages: float = 0.0) -> Tensor:
    """Returns the weighted distortion (B,) of images (B, 3, H, W) in 0..1.

    `kind` is l2, for k times the mean squared error, or msssim, for k times 1 - MS-SSIM, which
    needs sides of at least MSSSIM_MIN_SIDE. `averages` is the weight, beside each pixel's, of the
    squared error of averages over AREA x AREA pixels, so that a wall keeps its colour. The error of
    their colour, which is what remains without the mean over channels, counts COLOR times more.
    """
    x_hat, x = x_hat.float(), x.float()
    if kind == "l2":
        error = (x_hat - x).square().flatten(1).mean(1)
    else:
        error = 1 - ms_ssim(x_hat, x, data_range=1, size_average=False)
    total = DISTORTION_WEIGHT[kind] * error
    if averages:
        apart = F.avg_pool2d(x_hat - x, AREA)
        colors = apart - apart.mean(1, keepdim=True)
        unlike = (apart.square() + COLOR * colors.square()).flatten(1).mean(1)
        total = total + averages * DISTORTION_WEIGHT["l2"] * unlike
    return total


class IdentityLoss:
    """The distance of decoded faces from their originals, by frozen teachers.

    The outputs of a teacher's `features`, which are inner layers, are compared as well. Faces that
    are alike to them are also alike to networks against which the codec was not trained.
    """

    def __init__(
        self,
        teachers: Sequence[tuple[TeacherConfig, Teacher]],
        drawn: int = 1,
        dropout: float = 0.0,
        varied: bool = False,
        adapted: nn.Module | None = None,
    ) -> None:
        """Sets up the teachers.

        Each step uses `drawn` teachers, with `dropout`, and with random views if `varied`.
        `adapted` embeds decoded faces in place of the only teacher, and is trained with the codec.
        """
        self._teachers = teachers
        self._weights = np.array([recogniser.weight for recogniser, _ in teachers])
        self._weights = self._weights / self._weights.sum()
        self._drawn, self._varied, self._adapted = drawn, varied, adapted
        self._maps: list[Tensor] = []
        self._dropouts = [ChannelDropout(teacher, dropout) for _, teacher in teachers if dropout]
        looking = [(recogniser, teacher) for recogniser, teacher in teachers]
        if adapted is not None:
            module: Any = adapted  # or the module in DDP's wrapper
            looking.append((teachers[0][0], getattr(module, "module", module)))
        for recogniser, teacher in looking:
            for name in recogniser.features:
                teacher.layer(name).register_forward_hook(
                    lambda module, inputs, output: self._maps.append(output)
                )

    def __call__(
        self, x_hat: Tensor, x: Tensor, matrices: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns 1 - cosine of embeddings (eq. 6), and its mean over channels of features, (B,).

        `x_hat` and `x` are (B, 3, H, W) in 0..1; `matrices` (B, 2, 3) are from faces/alignment.py.
        Without a face they are NaN, and both results are 0. Only x_hat gets a gradient. With `rng`,
        teachers are drawn by their weights. Without it, the results are weighted means over all
        teachers, with plain views.
        """
        has_face = torch.from_numpy(~np.isnan(matrices[:, 0, 0])).to(x.device)
        embedding, features = torch.zeros(2, len(x), device=x.device)
        if not has_face.any():
            return embedding, features
        kept = matrices[~np.isnan(matrices[:, 0, 0])]
        asked = np.arange(len(self._teachers))
        shares = self._weights
        view: View = plain_view
        if rng is not None:
            asked = rng.choice(len(asked), self._drawn, replace=False, p=self._weights)
            shares = np.full(len(self._teachers), 1 / self._drawn)
            if self._varied:
                view = random_view(rng)
        for index in asked.tolist():
            if self._dropouts:
                self._dropouts[index].draw(rng)
            one, maps = self._distances(index, x_hat[has_face], x[has_face], kept, view)
            embedding = embedding + torch.zeros_like(embedding).masked_scatter(
                has_face, float(shares[index]) * one
            )
            if maps is not None:
                features = features + torch.zeros_like(features).masked_scatter(
                    has_face, float(shares[index]) * maps
                )
        return embedding, features

    def _distances(
        self, index: int, x_hat: Tensor, x: Tensor, matrices: np.ndarray, view: View
    ) -> tuple[Tensor, Tensor | None]:
        """Returns both distances by one teacher. All images must have a face."""
        _, teacher = self._teachers[index]
        with torch.autocast(x.device.type, enabled=False):
            with torch.no_grad():
                crops = view(x.float(), matrices, teacher.contract)
                wanted, wanted_maps = self._run(teacher, crops)
            crops = view(x_hat.float(), matrices, teacher.contract)
            found, found_maps = self._run(self._adapted or teacher, crops)
        embedding = 1 - F.cosine_similarity(found, wanted)
        if not found_maps:
            return embedding, None
        pairs = zip(found_maps, wanted_maps, strict=True)
        distances = [(1 - F.cosine_similarity(a, b)).flatten(1).mean(1) for a, b in pairs]
        return embedding, torch.stack(distances).mean(0)

    def _run(self, teacher: nn.Module, crops: Tensor) -> tuple[Tensor, list[Tensor]]:
        self._maps.clear()
        return teacher(crops), list(self._maps)


class HeadLoss:
    """The loss of a head: of the recogniser's embedding, its inner layer, and the landmarks.

    The embedding is that of the original plus its mirror image, as in the bench.
    """

    def __init__(self, recogniser: MobileFaceNet) -> None:
        self._recogniser = recogniser
        self._features: list[Tensor] = []
        recogniser.conv1.register_forward_hook(
            lambda module, inputs, output: self._features.append(output)
        )

    def __call__(
        self, outputs: HeadOutputs, x: Tensor, matrices: np.ndarray, labels: np.ndarray
    ) -> dict[str, Tensor]:
        """Returns the terms by name, (B,). They are 0 without a face.

        `landmarks` and `closer` are in pixels of the template. If all outputs were computed, there
        are also `embedding`, 1 - cosine; `inner`, the same over the channels of the inner layer;
        and `classes`, the cross-entropy of `labels`, where -1 means none.
        """
        has_face = torch.from_numpy(~np.isnan(matrices[:, 0, 0])).to(x.device)
        places = torch.from_numpy(matrices).to(x.device, torch.float32)
        found = {"landmarks": outputs.landmarks, "closer": outputs.closer}
        terms = {
            name: landmark_error(each.float(), places.nan_to_num(1.0))
            for name, each in found.items()
        }
        if outputs.embedding is not None:
            terms |= self._embedded(outputs, x, matrices, labels)
        return {name: torch.where(has_face, each, 0.0) for name, each in terms.items()}

    def _embedded(
        self, outputs: HeadOutputs, x: Tensor, matrices: np.ndarray, labels: np.ndarray
    ) -> dict[str, Tensor]:
        with torch.autocast(x.device.type, enabled=False), torch.no_grad():
            self._features.clear()
            crops = align(x.float(), np.nan_to_num(matrices, nan=1.0))
            wanted = self._recogniser(crops) + self._recogniser(crops.flip(3))
        assert outputs.embedding is not None
        assert outputs.features is not None
        terms = {
            "embedding": 1 - F.cosine_similarity(outputs.embedding.float(), wanted),
            "inner": (1 - F.cosine_similarity(outputs.features.float(), self._features[0]))
            .flatten(1)
            .mean(1),
        }
        if outputs.scores is not None:
            known = torch.from_numpy(labels).to(x.device)
            terms["classes"] = F.cross_entropy(
                outputs.scores.float(), known, reduction="none", ignore_index=-1
            )
        return terms


# Weights of HeadLoss's terms, such that each is between 0.1 and 1 when training begins.
HEAD_TERMS = {"embedding": 1.0, "inner": 0.5, "landmarks": 0.05, "closer": 0.05, "classes": 0.2}


def objective(
    kind: str, bpp: Tensor, distortion: Tensor, identity: Tensor, weight: Tensor
) -> Tensor:
    """Returns the loss (B,) of each image by Xiao et al. (2022), eq. 1 (rec), 5 (ip) or 7 (ipr).

    rec: lambda_rate R + D; ip: lambda_rate R + I; ipr: lambda_rate R + D + I. All arguments are
    (B,). The weights of one network differ by a factor of a hundred. Each loss is divided by the
    root of its weight, so that low rates, whose terms are larger, do not dominate.
    """
    terms = weight * bpp
    if kind != "ip":
        terms = terms + distortion
    if kind in ("ip", "ipr"):
        terms = terms + identity
    return terms / weight.sqrt()
