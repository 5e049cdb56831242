"""The five-point ArcFace template, and the similarity that lays it on a face. NumPy alone.

Coordinates are (x, y) in pixels, whole numbers at pixel centres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SIZE = 112
# Left eye, right eye, nose, left and right corner of the mouth, in a crop of 112x112.
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
MAX_OVERSAMPLING = 16  # sampling points per pixel of the crop along a side, at most


@dataclass(frozen=True)
class Face:
    """Five landmarks (x, y), (5, 2), in pixels, and the probability that they are a face's."""

    landmarks: np.ndarray
    certainty: float


def similarity(landmarks: np.ndarray, template: np.ndarray = TEMPLATE) -> np.ndarray:
    """Returns the similarity transform from crop to image coordinates, a matrix (2, 3).

    `landmarks` (5, 2) are in the image, `template` (5, 2) in a crop of 112x112. The least-squares
    fit goes from image to crop, so that errors are pixels of the crop, and is then inverted.
    """
    x, y = landmarks.T
    ones, zeros = np.ones(len(landmarks)), np.zeros(len(landmarks))
    equations = np.concatenate(
        [np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)]
    )
    a, b, c, d = np.linalg.lstsq(equations, template.T.ravel(), rcond=None)[0]
    forward = np.array([[a, -b, c], [b, a, d], [0, 0, 1]])
    return np.linalg.inv(forward)[:2]


def oversampling(matrix: np.ndarray) -> int:
    """Returns the number of sampling points along each side of a pixel of the crop.

    It is the largest power of two that does not exceed the image's own pixels there.
    """
    step = scale_of(matrix)
    return min(MAX_OVERSAMPLING, 2 ** max(0, math.floor(math.log2(step) + 1e-6)))


def scale_of(matrix: np.ndarray) -> float:
    """Returns the pixels of the image per pixel of the crop, from the crop's matrix."""
    return math.hypot(matrix[0, 0], matrix[1, 0])
