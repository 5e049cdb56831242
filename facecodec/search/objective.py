"""The loss of a decoded picture: the error of its pixels, and of its face's embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecodec.search.crops import Crop, jitter
from facecodec.search.graphs import Transform
from facecodec.template import SIZE, scale_of

AREA = 16  # pixels along a side of the areas whose averages count
COLOR = 4.0  # weight of an average's error of colour, without its brightness, beside the whole
SURROUNDINGS = 4.0  # a face counts for so many areas of its crop in the loss, as on LFW


class GradientRecogniser:
    """A recogniser with the gradient of its cosine. Crops are (3, 112, 112), 0..1."""

    def __init__(self, network: Transform) -> None:
        self._network = network

    def embedding(self, crop: np.ndarray) -> np.ndarray:
        """Returns the embedding (D,), of length 1, of a crop."""
        raw = self._network(255 * crop).result
        return raw / np.linalg.norm(raw)

    def distance(self, crop: np.ndarray, wanted: np.ndarray) -> float:
        """Returns 1 - cosine of the crop's embedding and the wanted one, of length 1."""
        return 1 - float(self.embedding(crop) @ wanted)

    def gradient(self, crop: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Returns the gradient of `distance` with respect to the crop."""
        applied = self._network(255 * crop)
        length = np.linalg.norm(applied.result)
        unit = applied.result / length
        return 255 * applied.gradient((unit * (unit @ wanted) - wanted) / length)


@dataclass(frozen=True)
class Weights:
    """The weights of the training loss at one quality, in bits.

    `pixels` is the weight of a pixel's mean squared error, of values 0..1, and `averages` that of
    the error of its area's average; an error of its colour counts COLOR times more. `identity` is
    the weight of a face's 1 - cosine, per pixel that the face counts for.
    """

    pixels: float
    averages: float
    identity: float


class Objective:
    """The loss of decoded pictures of `pixels`, uint8 (H, W, 3), and its gradient.

    `matrix` is the face's alignment, or None.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        weights: Weights,
        matrix: np.ndarray | None = None,
        recognisers: list[GradientRecogniser] | None = None,
    ) -> None:
        self._original = pixels.transpose(2, 0, 1).astype(np.float32) / 255
        self._weights = weights
        self._recognisers: list[GradientRecogniser] = []
        if matrix is not None:
            self._matrix, self._recognisers = matrix, recognisers or []
            size = (pixels.shape[0], pixels.shape[1])
            area = SURROUNDINGS * (SIZE * scale_of(matrix)) ** 2
            self._face = weights.identity * min(size[0] * size[1], area)
            crop = Crop(matrix, size)(self._original)
            self._wanted = [each.embedding(crop) for each in self._recognisers]
        self._turn = 0

    def gradient(self, decoded: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the gradient of the loss, in bits, with respect to `decoded`.

        `decoded` is float32 (3, 16h, 16w), 0..1. Each call takes another recogniser and another
        view of the face. It compares with the original in the same view: a crop that is shifted by
        a pixel is further from the original than a well coded face is.
        """
        height, width = self._original.shape[1:]
        seen = decoded[:, :height, :width]
        gradient = np.zeros_like(decoded)
        inner = gradient[:, :height, :width]
        np.subtract(seen, self._original, out=inner)
        averages = averaged(inner) if self._weights.averages else None
        inner *= 2 / 3 * self._weights.pixels
        if averages is not None:
            averages += np.float32(COLOR) * colors(averages)
            inner += np.float32(2 / 3 * self._weights.averages) * averages
        if self._recognisers:
            recogniser = self._recognisers[self._turn % len(self._recognisers)]
            self._turn += 1
            crop = Crop(jitter(self._matrix, rng), (height, width))
            wanted = recogniser.embedding(crop(self._original))
            towards = recogniser.gradient(crop(np.clip(seen, 0, 1)), wanted)
            inner += crop.gradient(towards * np.float32(self._face))
        return gradient

    def loss(self, decoded: np.ndarray) -> float:
        """Returns the loss, in bits, over all recognisers and without jitter."""
        height, width = self._original.shape[1:]
        seen = decoded[:, :height, :width]
        apart = seen - self._original
        total = self._weights.pixels * _squares(apart)
        if self._weights.averages:
            averages = averaged(apart)
            unlike = _squares(averages) + COLOR * _squares(colors(averages))
            total += self._weights.averages * unlike
        if self._recognisers:
            crop = Crop(self._matrix, (height, width))(np.clip(seen, 0, 1))
            pairs = zip(self._recognisers, self._wanted, strict=True)
            far = [recogniser.distance(crop, wanted) for recogniser, wanted in pairs]
            total += self._face * sum(far) / len(far)
        return total


def averaged(values: np.ndarray) -> np.ndarray:
    """Returns (C, H, W) with every value replaced by the average of its area.

    Areas have AREA x AREA values; those at the right and at the bottom may have fewer.
    """
    for axis in (1, 2):
        starts = np.arange(0, values.shape[axis], AREA)
        sizes = np.diff(starts, append=values.shape[axis])
        sums = np.add.reduceat(values, starts, axis)
        shape = [1, 1, 1]
        shape[axis] = -1
        values = np.repeat(sums / sizes.astype(np.float32).reshape(shape), sizes, axis)
    return values


def colors(values: np.ndarray) -> np.ndarray:
    """Returns (3, H, W) without the brightness, the mean over red, green and blue."""
    return values - values.mean(0)


def _squares(values: np.ndarray) -> float:
    """Returns the sum over places of the mean square over colours."""
    return float(np.square(values).sum(dtype=np.float64)) / 3
