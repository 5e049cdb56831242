"""Embeds the face in a file, whatever its size, and tells the certainty that there is a face.

A head reads latents and knows upright faces of one size. Before it is normalised, its embedding is
long for a face and short otherwise; the certainty is computed from this length. If the head is not
certain of a face that it knows, a detector finds the main face of the decoded picture, and the
recogniser that taught the head embeds this face. No torch is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image

from facecodec.codec import Codec, open_codec
from facecodec.container import Container
from facecodec.errors import ImageError
from facecodec.faces.recognisers import (
    FacenetRecogniser,
    Recogniser,
    find_recogniser,
    load_recogniser,
)
from facecodec.frozen import has_head, model_path
from facecodec.search.crops import Crop
from facecodec.search.detector import SURE, Detector
from facecodec.search.files import load_faces
from facecodec.template import Face, scale_of, similarity

KNOWN = (0.8, 1.9)  # pixels per pixel of the template: the head itself embeds these faces well
QUITE_SURE = 0.95  # the head's certainty from which it embeds the face itself


@dataclass(frozen=True)
class Embedding:
    """`vector` is float32 (D,) of length 1; `certainty`, 0 to 1, is that there is a face.

    `certainty` is None if the head's certainty was not measured.
    """

    vector: np.ndarray
    certainty: float | None


class Embedder:
    """Embeds the faces in files of `codec` with the head of `head_codec`, by default its own.

    With another model's head, files are decoded first. Raises ModelError if there is no head.
    """

    def __init__(self, codec: Codec, head_codec: Codec | None = None) -> None:
        self._codec, self._head_codec = codec, head_codec or codec
        self.space = self._head_codec.head.space

    def __call__(self, parsed: Container) -> Embedding:
        """Returns the embedding of the face in a file. Raises ImageError without a face."""
        if self._head_codec is self._codec:
            seen = self._codec.run_head(parsed)
            face = seen.face
            if face is None:
                return Embedding(seen.embedding, None)
            scale = scale_of(similarity(face.landmarks))
            if face.certainty >= QUITE_SURE and KNOWN[0] <= scale <= KNOWN[1]:
                return Embedding(seen.embedding, face.certainty)
        picture = self._codec.decode_container(parsed)
        face = self.find_face(picture)
        image = np.asarray(picture).transpose(2, 0, 1).astype(np.float32)
        crop = Crop(similarity(face.landmarks), (parsed.height, parsed.width))
        return Embedding(self._recognise(crop(image)), face.certainty)

    @cached_property
    def _detector(self) -> Detector:
        return Detector(load_faces(self._head_codec.card).graphs)

    @cached_property
    def _recognise(self) -> Recogniser | FacenetRecogniser:
        return load_recogniser(find_recogniser(self.space, None))

    def find_face(self, picture: Image.Image) -> Face:
        """Returns a picture's main face. Raises ImageError if the detector is not sure of one."""
        face = self._detector.face(np.asarray(picture))
        certainty = 0.0 if face is None else face.certainty
        if face is None or certainty < SURE:
            raise ImageError(f"no face was found (certainty {certainty:.2f}): leave this file out")
        return face


@lru_cache(maxsize=4)
def embedder_of(codec: Codec) -> Embedder:
    """Returns the embedder of a codec, which loads its networks once.

    A model without a head gets the default model's.
    """
    return Embedder(codec, codec if has_head(codec.card) else open_codec(model_path(None)))
