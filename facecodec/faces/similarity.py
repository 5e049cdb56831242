"""The similarity of decoded faces to their originals: the cosine of their embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from facecodec.errors import ImageError
from facecodec.faces.alignment import crop_face
from facecodec.faces.detection import find_faces
from facecodec.faces.recognisers import load_recogniser


class FaceSimilarity:
    """Measures similarity by a recogniser, as from `find_recogniser`, at the original's landmarks.

    Raises UsageError for a recogniser that does not load.
    """

    def __init__(self, recogniser: str) -> None:
        self._embed = load_recogniser(recogniser)

    def to(self, pixels: np.ndarray) -> Callable[[np.ndarray], float]:
        """Returns a function from other pixels to the cosine, -1..1, of their faces and these.

        Both are uint8 (H, W, 3). With several faces, the cosine of the least similar one counts.
        Raises ImageError if `pixels` has no face.
        """
        faces = next(iter(find_faces([Image.fromarray(pixels)])))
        if not len(faces):
            raise ImageError(
                "no face was found, so no similarity can be kept: choose a quality instead"
            )

        def embeddings(of: np.ndarray) -> np.ndarray:
            contract = self._embed.contract
            return np.stack([self._embed(crop_face(of, points, contract)) for points in faces])

        original = embeddings(pixels)
        return lambda other: float((embeddings(other) * original).sum(1).min())
