"""The loss of a decoded picture: the error of its pixels, and of its face's embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecodec.search.crops import Crop, jitter
from facecodec.search.graphs import Graph
from facecodec.template import SIZE, scale_of

SURROUNDINGS = 4.0  # a face counts for so many areas of its crop in the loss, as on LFW


class GradientRecogniser:
    """A recogniser with the gradient of its cosine, as graphs of ONNX Runtime."""

    def __init__(self, graph: Graph, size: int) -> None:
        """Takes the graph, and the length D of its embeddings as `size`."""
        self._graph = graph
        self._nothing = np.zeros((1, size), np.float32)

    def embedding(self, crop: np.ndarray) -> np.ndarray:
        """Returns the embedding (D,), of length 1, of a crop plus its mirror image.

        The crop is (3, 112, 112), 0..1.
        """
        both = [
            self._graph.only("embedding", 255 * each[None], self._nothing)[0]
            for each in (crop, crop[:, :, ::-1])
        ]
        return sum(both) / np.linalg.norm(sum(both))

    def distance(self, crop: np.ndarray, wanted: np.ndarray) -> float:
        """Returns 1 - cosine of the crop's embedding and the wanted one."""
        return float(self._graph.only("distance", 255 * crop[None], wanted[None])[0])

    def gradient(self, crop: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Returns the gradient of `distance` with respect to the crop."""
        return 255 * self._graph(255 * crop[None], wanted[None])[2][0]


@dataclass(frozen=True)
class Weights:
    """The weights of the training loss at one quality, in bits.

    `pixels` is the weight of a pixel's mean squared error, of values 0..1. `identity` is the weight
    of a face's 1 - cosine, per pixel that the face counts for.
    """

    pixels: float
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
        self._wanted: list[tuple[GradientRecogniser, np.ndarray]] = []
        if matrix is not None:
            self._matrix = matrix
            size = (pixels.shape[0], pixels.shape[1])
            area = SURROUNDINGS * (SIZE * scale_of(matrix)) ** 2
            self._face = weights.identity * min(size[0] * size[1], area)
            crop = Crop(matrix, size)(self._original)
            self._wanted = [(each, each.embedding(crop)) for each in recognisers or []]
        self._turn = 0

    def gradient(self, decoded: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the gradient of the loss, in bits, with respect to `decoded`.

        `decoded` is float32 (3, 16h, 16w), 0..1. Each call takes another recogniser.
        """
        height, width = self._original.shape[1:]
        seen = decoded[:, :height, :width]
        gradient = np.zeros_like(decoded)
        inner = gradient[:, :height, :width]
        np.subtract(seen, self._original, out=inner)
        inner *= 2 / 3 * self._weights.pixels
        if self._wanted:
            recogniser, wanted = self._wanted[self._turn % len(self._wanted)]
            self._turn += 1
            crop = Crop(jitter(self._matrix, rng), (height, width))
            towards = recogniser.gradient(crop(np.clip(seen, 0, 1)), wanted)
            inner += crop.gradient(towards * np.float32(self._face))
        return gradient

    def loss(self, decoded: np.ndarray) -> float:
        """Returns the loss, in bits, over all recognisers and without jitter."""
        height, width = self._original.shape[1:]
        seen = decoded[:, :height, :width]
        squares = np.square(seen - self._original).sum(dtype=np.float64) / 3
        total = self._weights.pixels * float(squares)
        if self._wanted:
            crop = Crop(self._matrix, (height, width))(np.clip(seen, 0, 1))
            apart = [recogniser.distance(crop, wanted) for recogniser, wanted in self._wanted]
            total += self._face * sum(apart) / len(apart)
        return total
