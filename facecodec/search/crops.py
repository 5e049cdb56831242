"""Aligned crops of a face and the gradient through them, in NumPy.

The warp is that of facecodec/faces/alignment.py, which uses torch: bilinear, with zeros beyond the
edge. A large face is sampled at a power-of-two multiple of the crop and averaged down.
"""

from __future__ import annotations

import math

import numpy as np

from facecodec.template import SIZE, oversampling


def jitter(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shifts, turns and scales a matrix at random by a little, and mirrors it half the time."""
    angle, scale = rng.normal(0, 0.05), math.exp(rng.normal(0, 0.04))
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[a, -b], [b, a]])
    if rng.random() < 0.5:
        turn = turn @ np.diag([-1.0, 1.0])
    centre = np.full(2, (SIZE - 1) / 2)
    offset = centre + rng.normal(0, 2, 2) - turn @ centre
    return np.concatenate(
        [matrix[:, :2] @ turn, (matrix[:, :2] @ offset + matrix[:, 2])[:, None]], 1
    )


class Crop:
    """The warp by one matrix of pictures of a `size` (H, W)."""

    def __init__(self, matrix: np.ndarray, size: tuple[int, int]) -> None:
        self._size = size
        self._over = oversampling(matrix)
        count = SIZE * self._over
        points = ((np.arange(count) + 0.5) / self._over - 0.5).astype(np.float32)
        m = matrix.astype(np.float32)
        x = (m[0, 0] * points[None, :] + m[0, 1] * points[:, None] + m[0, 2]).ravel()
        y = (m[1, 0] * points[None, :] + m[1, 1] * points[:, None] + m[1, 2]).ravel()
        left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        right, below = x - left, y - top
        height, width = size
        places, weights = [], []
        for down, across in np.ndindex(2, 2):
            row, column = top + down, left + across
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            share = (below if down else 1 - below) * (right if across else 1 - right)
            places.append(np.where(inside, row * width + column, 0))
            weights.append(np.where(inside, share, 0).astype(np.float32))
        self._places, self._weights = np.concatenate(places), np.concatenate(weights)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Returns the crop (3, SIZE, SIZE) of a picture, float32 (3, H, W)."""
        taken = image.reshape(3, -1)[:, self._places]
        taken *= self._weights
        over = self._over
        sampled = taken.reshape(3, 4, SIZE, over, SIZE, over)
        return sampled.sum(axis=1).mean(axis=(2, 4))

    def gradient(self, cotangent: np.ndarray) -> np.ndarray:
        """Returns the gradient (3, H, W) of the sum of the crop times `cotangent`, of its shape."""
        over = self._over
        spread = np.broadcast_to(
            cotangent[:, None, :, None, :, None] / over**2, (3, 4, SIZE, over, SIZE, over)
        ).reshape(3, -1)
        height, width = self._size
        back = np.empty((3, height, width), np.float32)
        for channel, values in enumerate(spread * self._weights):
            back[channel] = np.bincount(self._places, values, height * width).reshape(height, width)
        return back
