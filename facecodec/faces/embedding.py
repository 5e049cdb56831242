"""The embedding of the face in a file, whatever its size, and how sure it is that there is one.

A head reads latents and knows faces of one size. Where it sees one, its embedding is long before it
is normalised, and short elsewhere: that is how sure it is. A face of another size it is shown in
the decoded picture, made smaller and larger, and turned where the head is not quite sure, as it
learned upright faces; where it is surest the recogniser that taught it embeds the face. Nothing
here needs torch.
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

PER_OCTAVE = 2  # sizes that the picture is shown in
LARGEST = 2.0  # times the picture's size
LONGEST, SHORTEST = 1024, 64  # pixels along a side of the picture that is shown
SURE = 0.5  # the least certainty of a face
KNOWN = (0.8, 1.9)  # pixels to one of the template, of a face that the head embeds well itself
QUITE_SURE = 0.99
TILTS = (-15, 15)  # degrees against the clock, by which a picture is turned to find a tilted head
LONGEST_TILTED = 512  # pixels, as larger ones would double the time and show faces of few pixels


@dataclass(frozen=True)
class Embedding:
    """`vector`, float32 (D,), of length 1; `certainty` of a face, 0 to 1, or None.

    A head that was not measured for its certainty gives None.
    """

    vector: np.ndarray
    certainty: float | None


class Embedder:
    """Embeds faces in files of the model of `codec`, seen by the head of `seer`'s model.

    Where that is another model the files are decoded. Raises ModelError if `seer` has no head.
    """

    def __init__(self, codec: Codec, seer: Codec | None = None) -> None:
        self._codec, self._seer = codec, seer or codec
        self.space = self._seer.head.space

    def __call__(self, parsed: Container) -> Embedding:
        """Raises ImageError where there is no face."""
        if self._seer is self._codec:
            sight = self._codec.see(parsed)
            face = sight.face
            if face is None:
                return Embedding(sight.embedding, None)
            scale = scale_of(similarity(face.landmarks))
            if face.certainty >= QUITE_SURE and KNOWN[0] <= scale <= KNOWN[1]:
                return Embedding(sight.embedding, face.certainty)
        picture = self._codec.decode_container(parsed)
        face = self.surest(picture)
        if face.certainty < SURE:
            raise ImageError(f"no face was found (certainty {face.certainty:.2f})")
        image = np.asarray(picture).transpose(2, 0, 1).astype(np.float32)
        crop = Crop(similarity(face.landmarks), (parsed.height, parsed.width))
        return Embedding(self._recognise(crop(image)), face.certainty)

    @cached_property
    def _recognise(self) -> Recogniser | FacenetRecogniser:
        return load_recogniser(find_recogniser(self.space, None))

    def surest(self, picture: Image.Image) -> Face:
        """The face that the head is surest of at any size of a picture, in the picture's pixels.

        The picture is turned too if the head is not quite sure of a face that is upright.
        """
        best = self._surest(picture, 0, LONGEST)
        if best.certainty >= QUITE_SURE:
            return best
        tilted = [self._surest(picture, tilt, LONGEST_TILTED) for tilt in TILTS]
        return max([best, *tilted], key=attrgetter("certainty"))

    def _surest(self, picture: Image.Image, tilt: float, longest: int) -> Face:
        family = self._seer.family
        assert isinstance(family, Unrounded)
        best = Face(np.empty((0, 2)), 0.0)
        for size in sizes(picture.size, longest):
            shown = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
            shown = shown.rotate(tilt, Image.Resampling.BICUBIC)
            face = self._seer.head.look(family.unrounded(np.asarray(shown))).face
            if face is not None and face.certainty > best.certainty:
                scale = np.array(picture.size) / size
                points = turned_back(face.landmarks, tilt, size)
                best = replace(face, landmarks=(points + 0.5) * scale - 0.5)
        return best


def turned_back(points: np.ndarray, tilt: float, size: tuple[int, int]) -> np.ndarray:
    """Points (N, 2) of a picture that Image.rotate turned by `tilt`, in the picture before that."""
    cosine, sine = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    centre = np.array(size) / 2 - 0.5
    return (points - centre) @ [[cosine, sine], [-sine, cosine]] + centre


@lru_cache(maxsize=4)
def embedder_of(codec: Codec) -> Embedder:
    """Returns the embedder of a codec, which loads its networks once.

    For a model without a head the default one sees the faces.
    """
    return Embedder(codec, codec if has_head(codec.card) else open_codec(model_path(None)))


def sizes(of: tuple[int, int], longest: int = LONGEST) -> list[tuple[int, int]]:
    """Width and height that a picture is shown in, the largest first."""
    first = min(LARGEST, longest / max(of))
    count = math.floor(PER_OCTAVE * math.log2(max(first * min(of) / SHORTEST, 0.5))) + 1
    scales = [first * 2 ** (-step / PER_OCTAVE) for step in range(max(count, 0))]
    return [(round(of[0] * scale), round(of[1] * scale)) for scale in scales]
