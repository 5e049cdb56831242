"""Embeds the face in a file, whatever its size, and tells the certainty that there is a face.

A head reads latents and knows upright faces of one size. Before it is normalised, its embedding is
long for a face and short otherwise; the certainty is computed from this length. For a face of
another size, the head looks at the decoded picture in several sizes, and tilted if it is not
certain enough. Where it is most certain, the recogniser that taught it embeds the face. No torch is
needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from operator import attrgetter

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
from facecodec.families import Unrounded
from facecodec.frozen import has_head, model_path
from facecodec.head import Face
from facecodec.search.crops import Crop
from facecodec.template import scale_of, similarity

PER_OCTAVE = 2  # sizes of the picture per factor of two
LARGEST = 2.0  # the largest size, as a multiple of the picture's
LONGEST, SHORTEST = 1024, 64  # pixels; bounds of the sides of the resized picture
SURE = 0.5  # the least certainty of a face
KNOWN = (0.8, 1.9)  # pixels per pixel of the template: the head itself embeds these faces well
QUITE_SURE = 0.99
TILTS = (-15, 15)  # degrees, counterclockwise; turns of the picture that make tilted faces upright
LONGEST_TILTED = 512  # pixels; larger would take twice the time, and only finds small faces


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
        if face.certainty < SURE:
            raise ImageError(f"no face was found (certainty {face.certainty:.2f})")
        image = np.asarray(picture).transpose(2, 0, 1).astype(np.float32)
        crop = Crop(similarity(face.landmarks), (parsed.height, parsed.width))
        return Embedding(self._recognise(crop(image)), face.certainty)

    @cached_property
    def _recognise(self) -> Recogniser | FacenetRecogniser:
        return load_recogniser(find_recogniser(self.space, None))

    def find_face(self, picture: Image.Image) -> Face:
        """Returns the most certain face at any size of a picture, in the picture's pixels.

        The picture is also tilted if the head is not certain enough of an upright face.
        """
        best = self._find_face(picture, 0, LONGEST)
        if best.certainty >= QUITE_SURE:
            return best
        tilted = [self._find_face(picture, tilt, LONGEST_TILTED) for tilt in TILTS]
        return max([best, *tilted], key=attrgetter("certainty"))

    def _find_face(self, picture: Image.Image, tilt: float, longest: int) -> Face:
        family = self._head_codec.family
        assert isinstance(family, Unrounded)
        best = Face(np.empty((0, 2)), 0.0)
        for size in sizes(picture.size, longest):
            shown = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
            shown = shown.rotate(tilt, Image.Resampling.BICUBIC)
            face = self._head_codec.head.run(family.unrounded(np.asarray(shown))).face
            if face is not None and face.certainty > best.certainty:
                scale = np.array(picture.size) / size
                points = turned_back(face.landmarks, tilt, size)
                best = replace(face, landmarks=(points + 0.5) * scale - 0.5)
        return best


def turned_back(points: np.ndarray, tilt: float, size: tuple[int, int]) -> np.ndarray:
    """Maps points (N, 2) of a picture that Image.rotate has turned by `tilt` to the original."""
    cosine, sine = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    centre = np.array(size) / 2 - 0.5
    return (points - centre) @ [[cosine, sine], [-sine, cosine]] + centre


@lru_cache(maxsize=4)
def embedder_of(codec: Codec) -> Embedder:
    """Returns the embedder of a codec, which loads its networks once.

    A model without a head gets the default model's.
    """
    return Embedder(codec, codec if has_head(codec.card) else open_codec(model_path(None)))


def sizes(of: tuple[int, int], longest: int = LONGEST) -> list[tuple[int, int]]:
    """Returns the (width, height) to which a picture is resized, the largest first."""
    first = min(LARGEST, longest / max(of))
    count = math.floor(PER_OCTAVE * math.log2(max(first * min(of) / SHORTEST, 0.5))) + 1
    scales = [first * 2 ** (-step / PER_OCTAVE) for step in range(max(count, 0))]
    return [(round(of[0] * scale), round(of[1] * scale)) for scale in scales]
