"""The similarity of a decoded face to its original: the cosine of a recogniser's embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from facecodec.errors import ImageError
from facecodec.faces.alignment import crop
from facecodec.faces.detection import find_landmarks
from facecodec.faces.recognisers import load_recogniser
from facecodec.template import similarity


class Likeness:
    """Of one recogniser, as `find_recogniser` gives it; landmarks are those of the original."""

    def __init__(self, recogniser: str) -> None:
        self._embed = load_recogniser(recogniser)

    def to(self, pixels: np.ndarray) -> Callable[[np.ndarray], float]:
        """Returns the cosine, -1..1, of other pixels' face to that in `pixels`, uint8 (H, W, 3).

        Raises ImageError if there is no face.
        """
        points = next(iter(find_landmarks([Image.fromarray(pixels)])))
        if points is None:
            raise ImageError(
                "no face was found whose similarity could be kept: choose a quality instead"
            )
        matrix = similarity(points)[None]

        def embedding(of: np.ndarray) -> np.ndarray:
            return self._embed(
                crop(
                    torch.from_numpy(of.copy()).permute(2, 0, 1)[None].float(),
                    matrix,
                    self._embed.contract,
                )[0].numpy()
            )

        original = embedding(pixels)
        return lambda other: float(embedding(other) @ original)
