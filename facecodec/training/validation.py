"""Validation: rate, quality and identity on held-back people, with rounded latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

from facecodec.errors import UsageError
from facecodec.networks.coded import QUALITIES, FamilyNetwork
from facecodec.sessions import pad
from facecodec.template import similarity
from facecodec.training.config import Config
from facecodec.training.data import GRID, LandmarkFinder, load_pictures, validation_photos
from facecodec.training.losses import DISTORTION_WEIGHT, MSSSIM_MIN_SIDE, objective, rate_weight
from facecodec.training.terms import Terms


def to_tensor(pixels: np.ndarray, device: torch.device) -> Tensor:
    """Turns uint8 (B, H, W, 3) into floats (B, 3, H, W) in 0..1, in channels_last format."""
    return torch.tensor(pixels, device=device).permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True)
class HeldBack:
    """A validation picture, uint8 (H, W, 3), and the alignment (2, 3) of its face, or NaN."""

    pixels: np.ndarray
    matrix: np.ndarray


def load_held_back(
    config: Config,
    data: Path | None,
    landmarks: LandmarkFinder | None,
    unreadable: dict[str, str],
) -> list[HeldBack]:
    """Returns the validation pictures. Files that cannot be read are added to `unreadable`."""
    photos = validation_photos(config.data, data, config.validation_images)
    points: list[np.ndarray | None] = [None] * len(photos)
    if landmarks is not None:
        points = landmarks([photo.path for photo in photos])
    none = np.full((2, 3), np.nan)
    held_back = [
        HeldBack(picture.pixels, none if picture.points is None else similarity(picture.points))
        for picture in load_pictures(photos, points, config.data[0].faces, unreadable)
    ]
    if not held_back:
        raise UsageError("none of the validation pictures can be read")
    if (
        config.distortion == "msssim"
        and min(min(each.pixels.shape[:2]) for each in held_back) < MSSSIM_MIN_SIDE
    ):
        raise UsageError(
            f"msssim needs pictures with sides of at least {MSSSIM_MIN_SIDE} pixels to validate on"
        )
    return held_back


@torch.no_grad()
def validate(
    network: FamilyNetwork,
    images: list[HeldBack],
    device: torch.device,
    terms: Terms | None = None,
    is_over: Callable[[], bool] = lambda: False,
) -> list[dict[str, float]] | None:
    """Returns bpp, PSNR and MS-SSIM at q = 1..8, with rounded latents, on whole images.

    It returns None as soon as `is_over` returns True before an image. Images are padded as the
    codec pads them. MS-SSIM is missing if no image is large enough. With `terms`, the result also
    has the terms on images with a face: `identity`, `features`, and those of a head, which must
    find the face itself here.
    """
    network.eval()
    identity, head = (terms.identity, terms.head) if terms else (None, None)
    nobody = np.array([-1])
    rows = []
    for q in range(1, QUALITIES + 1):
        values: dict[str, list[float]] = {}
        for image in images:
            if is_over():
                network.train()
                return None
            height, width = image.pixels.shape[:2]
            padded = to_tensor(pad(image.pixels, GRID)[None], device)
            coded = network(padded, torch.tensor([float(q)], device=device))
            x = padded[..., :height, :width]
            x_hat = (coded.x_hat[..., :height, :width].float().clamp(0, 1) * 255).round() / 255
            error = (x_hat - x).double().square().mean().item()
            measured = {
                "bpp": (coded.y_bits + coded.z_bits).item() / (height * width),
                "psnr": -10 * math.log10(max(error, 1e-15)),
            }
            if min(height, width) >= MSSSIM_MIN_SIDE:
                measured["ms_ssim"] = ms_ssim(x_hat, x, data_range=1).item()
            if identity is not None and not np.isnan(image.matrix).any():
                distances = identity(x_hat, x, image.matrix[None])
                measured |= dict(
                    zip(("identity", "features"), (d.item() for d in distances), strict=True)
                )
            if head is not None and not np.isnan(image.matrix).any():
                read = head(network.head(coded.y_hat), padded, image.matrix[None], nobody)
                measured |= {name: each.item() for name, each in read.items() if name != "classes"}
            for name, value in measured.items():
                values.setdefault(name, []).append(value)
        rows.append({"q": q} | {name: float(np.mean(each)) for name, each in values.items()})
    network.train()
    return rows


def validation_loss(rows: list[dict[str, float]], config: Config) -> float:
    """Returns the objective over all qualities, from the means at each quality."""
    losses = []
    for row in rows:
        error = 10 ** (-row["psnr"] / 10) if config.distortion == "l2" else 1 - row["ms_ssim"]
        identity = config.identity_weight * (row.get("identity", 0.0) + row.get("features", 0.0))
        bpp, distortion, kept = map(
            torch.tensor, (row["bpp"], DISTORTION_WEIGHT[config.distortion] * error, identity)
        )
        weight = rate_weight(torch.tensor(float(row["q"])), config.rate_weights)
        loss = (
            0.0
            if config.trains_head_alone
            else objective(config.objective, bpp, distortion, kept, weight)
        )
        losses.append(float(loss) + config.head_weight * row.get("embedding", 0.0))
    return float(np.mean(losses))
