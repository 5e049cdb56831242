"""Finds the main face by MTCNN (Zhang et al., 2016), with ONNX Runtime and NumPy.

The networks and the steps between them are those of facenet-pytorch (MIT), which training and
measuring use (facecodec/faces/detection.py). So the search sees the same crops.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from PIL import Image

from facecodec.search.files import Graphs
from facecodec.template import Face

MIN_FACE = 40  # pixels
MAX_PIXELS = 1 << 23  # larger pictures are reduced before the detection
FACTOR = 0.709  # between levels of the pyramid
THRESHOLDS = (0.6, 0.7, 0.7)
SURE = 0.95  # the last network's probability from which a face is more than a candidate
NETWORKS = ("pnet.onnx", "rnet.onnx", "onet.onnx")


class Detector:
    """The three networks, by name. Raises ModelError if one does not load."""

    def __init__(self, graphs: Graphs) -> None:
        self._first, self._second, self._third = (graphs.open(name) for name in NETWORKS)

    def landmarks(self, pixels: np.ndarray) -> np.ndarray | None:
        """Returns the landmarks (5, 2), (x, y), of the main face, or None. See `face`."""
        face = self.face(pixels)
        return None if face is None else face.landmarks

    def face(self, pixels: np.ndarray) -> Face | None:
        """Returns the main face, with the last network's probability, or None.

        `pixels` is uint8 (H, W, 3). The main face is large and central.
        """
        factor = reduction(pixels.shape[1], pixels.shape[0])
        if factor > 1:
            pixels = np.asarray(Image.fromarray(pixels).reduce(factor))
        found = self._face(pixels)
        return found and replace(found, landmarks=enlarged(found.landmarks, factor))

    def _face(self, pixels: np.ndarray) -> Face | None:
        size = (pixels.shape[0], pixels.shape[1])
        if min(size) < MIN_FACE:
            return None
        sums = _integral(pixels)
        boxes = _square(self._proposed(sums, size))
        crops = _resized(sums, size, boxes, 24)
        if not len(crops):
            return None
        moves, chances = self._second(crops)
        kept = chances[:, 1] > THRESHOLDS[1]
        boxes, moves, scores = boxes[kept], moves[kept], chances[kept, 1]
        picked = _suppressed(boxes, scores, 0.7)
        boxes = _square(_moved(boxes[picked], moves[picked]))
        crops = _resized(sums, size, boxes, 48)
        if not len(crops):
            return None
        moves, points, chances = self._third(crops)
        kept = chances[:, 1] > THRESHOLDS[2]
        boxes, moves, points, scores = boxes[kept], moves[kept], points[kept], chances[kept, 1]
        if not len(boxes):
            return None
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        places = points.reshape(-1, 2, 5) * sides[:, :, None] + boxes[:, :2, None] - 1
        boxes = _moved(boxes, moves)
        picked = _suppressed(boxes, scores, 0.7, by_smaller=True)
        main = picked[main_face(boxes[picked], (size[1], size[0]))]
        return Face(places[main].T, float(scores[main]))

    def _proposed(self, sums: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns the boxes (N, 4), x, y, x, y, that the first network takes for faces."""
        scale = 12 / MIN_FACE
        found, scores = [np.empty((0, 8))], [np.empty(0)]
        while min(size) * scale >= 12:
            to = (int(size[0] * scale + 1), int(size[1] * scale + 1))
            level = _averaged(sums, (0, 0, size[1], size[0]), to)
            moves, chances = self._first(_centred(level)[None])
            rows, columns = np.nonzero(chances[0, 1] >= THRESHOLDS[0])
            score = chances[0, 1, rows, columns]
            corner = np.stack([columns, rows], 1) * 2.0
            box = np.concatenate(
                [np.floor((corner + 1) / scale), np.floor((corner + 12) / scale)], 1
            )
            picked = _suppressed(box, score, 0.5)
            side = box[:, 2:] - box[:, :2]
            # The regressions come last, because suppression across levels needs the plain boxes.
            moved = box + moves[0][:, rows, columns].T * np.concatenate([side, side], 1)
            found.append(np.concatenate([box, moved], 1)[picked])
            scores.append(score[picked])
            scale *= FACTOR
        boxes = np.concatenate(found)
        picked = _suppressed(boxes[:, :4], np.concatenate(scores), 0.7)
        return boxes[picked, 4:]


def reduction(width: int, height: int) -> int:
    """Returns the factor that reduces a picture's sides so that it has at most MAX_PIXELS."""
    return math.ceil(math.sqrt(width * height / MAX_PIXELS))


def enlarged(points: np.ndarray, factor: int) -> np.ndarray:
    """Maps points (..., 2) of a picture that was reduced by a factor to the whole picture."""
    return (points + 0.5) * factor - 0.5


def _integral(pixels: np.ndarray) -> np.ndarray:
    """Returns the sums of all values above and to the left, uint32 (H + 1, W + 1, 3), modulo 2^32.

    Differences of sums are exact over up to 2^24 pixels.
    """
    sums = np.zeros((pixels.shape[0] + 1, pixels.shape[1] + 1, 3), np.uint32)
    inner = np.cumsum(pixels, axis=0, dtype=np.uint32, out=sums[1:, 1:])
    np.cumsum(inner, axis=1, out=inner)
    return sums


def _averaged(sums: np.ndarray, box: tuple[int, int, int, int], to: tuple[int, int]) -> np.ndarray:
    """Returns the averages (*to, 3) over the cells of a grid on a box of whole pixels."""
    x, y, right, bottom = box

    def edges(start: int, stop: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        at, length = np.arange(count), stop - start
        return start + at * length // count, start + -(-(at + 1) * length // count)

    (top, low), (left, far) = edges(y, bottom, to[0]), edges(x, right, to[1])
    total = sums[low][:, far] - sums[top][:, far] - sums[low][:, left] + sums[top][:, left]
    return total / ((low - top)[:, None] * (far - left))[:, :, None]


def _centred(values: np.ndarray) -> np.ndarray:
    return ((values - 127.5) * 0.0078125).astype(np.float32).transpose(2, 0, 1)


def _resized(sums: np.ndarray, size: tuple[int, int], boxes: np.ndarray, side: int) -> np.ndarray:
    """Returns the content (N, 3, side, side) of each box, clipped to the picture."""
    whole = np.trunc(boxes).astype(int)
    start = np.maximum(whole[:, :2], 1) - 1
    stop = np.minimum(whole[:, 2:], size[::-1])
    crops = []
    for (x, y), (right, bottom) in zip(start, stop, strict=True):
        # A box outside the picture gets a pixel of the edge, so that there is one result per box.
        x, y = min(x, size[1] - 1), min(y, size[0] - 1)
        box = (x, y, max(right, x + 1), max(bottom, y + 1))
        crops.append(_centred(_averaged(sums, box, (side, side))))
    return np.stack(crops) if crops else np.empty((0, 3, side, side), np.float32)


def _square(boxes: np.ndarray) -> np.ndarray:
    """Makes boxes square, about their centres."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + sides / 2 - longest / 2
    return np.concatenate([corner, corner + longest], 1)


def _moved(boxes: np.ndarray, moves: np.ndarray) -> np.ndarray:
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + moves * np.concatenate([sides, sides], 1)


def _suppressed(
    boxes: np.ndarray, scores: np.ndarray, most: float, by_smaller: bool = False
) -> np.ndarray:
    """Returns the indices of boxes, best first, that overlap no better box by more than `most`.

    The overlap is a share of the area of the union, or of the smaller box.
    """
    extra = 1.0 if by_smaller else 0.0
    area = np.prod(boxes[:, 2:] - boxes[:, :2] + extra, axis=1)
    order, kept = np.argsort(-scores, kind="stable"), []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        start = np.maximum(boxes[best, :2], boxes[order, :2])
        stop = np.minimum(boxes[best, 2:], boxes[order, 2:])
        both = np.prod(np.maximum(stop - start + extra, 0), axis=1)
        smaller = np.minimum(area[best], area[order])
        whole = smaller if by_smaller else area[best] + area[order] - both
        order = order[both <= most * whole]
    return np.array(kept, np.int64)


def main_face(boxes: np.ndarray, size: tuple[int, int]) -> int:
    """Returns the index of the main face, by InsightFace's rule.

    A face's score is its area minus twice the squared distance of its box from the centre.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array(size) / 2
    return int(np.argmax(area - 2 * np.square(offset).sum(axis=1)))
