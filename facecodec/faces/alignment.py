"""Five-point alignment to the ArcFace template: fitting, and a differentiable, area-correct warp.

Coordinates are (x, y) in pixels, whole numbers at pixel centres. Sampling a face of 1024 pixels at
112 points a side would alias. So it is sampled at a power-of-two multiple and averaged down, as in
figure 3 of Xiao et al. (2022). A face under twice the template's size, as on LFW, is sampled
plainly, as recognisers are commonly tested.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facecodec.faces.recognisers import Contract
from facecodec.template import SIZE, TEMPLATE, oversampling, similarity

CUT = 448  # pixels along a side of the picture that `cut_face` returns


def scaled_template(side: int) -> np.ndarray:
    """Returns the five points of the template in a crop of `side` pixels."""
    return (TEMPLATE + 0.5) * side / SIZE - 0.5


def jitter(matrices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shifts, turns and scales `matrices` (B, 2, 3) at random by a little.

    This imitates the errors of a landmark detector.
    """
    count = len(matrices)
    angle, scale = rng.normal(0, 0.05, count), np.exp(rng.normal(0, 0.04, count))
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    centre = (SIZE - 1) / 2
    shift = centre + rng.normal(0, 2, (count, 2))
    turn = np.stack([np.stack([a, -b], 1), np.stack([b, a], 1)], 1)
    offset = shift - (turn @ [centre, centre])
    linear = matrices[:, :, :2] @ turn
    moved = np.einsum("bij,bj->bi", matrices[:, :, :2], offset) + matrices[:, :, 2]
    return np.concatenate([linear, moved[:, :, None]], 2)


def align(images: Tensor, matrices: np.ndarray, side: int = SIZE) -> Tensor:
    """Returns crops (B, C, side, side) of `images` (B, C, H, W) by `matrices` (B, 2, 3).

    They are differentiable with respect to the images. Outside an image, pixels are zero.
    """
    samples = side
    while samples < SIZE * max(oversampling(matrix) for matrix in matrices):
        samples *= 2
    height, width = images.shape[2:]
    points = (torch.arange(samples, device=images.device, dtype=torch.float32) + 0.5) * (
        SIZE / samples
    ) - 0.5
    y, x = torch.meshgrid(points, points, indexing="ij")
    crop = torch.stack([x, y, torch.ones_like(x)], -1)
    transform = torch.from_numpy(np.ascontiguousarray(matrices)).to(images.device, torch.float32)
    place = torch.einsum("bij,yxj->byxi", transform, crop)
    # In grid_sample, -1 and 1 are the outer edges of the outermost pixels.
    extent = torch.tensor([width, height], device=images.device)
    grid = (2 * place + 1) / extent - 1
    sampled = F.grid_sample(
        images, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return F.avg_pool2d(sampled, samples // side) if samples > side else sampled


def crop(images: Tensor, matrices: np.ndarray, contract: Contract) -> Tensor:
    """Returns crops (B, C, size, size) as a recogniser's contract requires; see `align`."""
    if contract.template:
        matrices = matrices @ np.vstack([contract.turn(), [0, 0, 1]])
    return align(images, matrices, contract.size)


def crop_face(pixels: np.ndarray, points: np.ndarray, contract: Contract) -> np.ndarray:
    """Returns the crop that a recogniser takes of the face with the landmarks `points` (5, 2).

    `pixels` is uint8 (H, W, 3); the crop is float32 (3, size, size), in 0..255.
    """
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    return crop(image, similarity(points)[None], contract)[0].numpy()


def cut_face(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns the face with the landmarks `points` (5, 2), aligned, as uint8 (CUT, CUT, 3)."""
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    return align(image, similarity(points)[None], CUT)[0].round().byte().permute(1, 2, 0).numpy()
