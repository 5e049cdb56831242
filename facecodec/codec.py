"""From pixels to bytes and back: analysis, entropy coding and the container, in one place."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from facecodec import container, frozen
from facecodec.container import (
    DEFAULT_MAX_PIXELS,
    DEFAULT_QUALITY,
    DOUBLED_STEPS,
    MAX_QUALITY_BYTE,
    check_size,
    quality_byte,
    quality_of,
)
from facecodec.doubling import LONGEST, enlarged, halved
from facecodec.errors import FormatError, ImageError, ModelError, UsageError
from facecodec.families import Family, family_module
from facecodec.head import Head, HeadResult
from facecodec.images import as_rgb, info_of
from facecodec.search import DEFAULT_EFFORT, EFFORTS
from facecodec.search.fitting import fit
from facecodec.sessions import Transforms
from facecodec.tensors import check

if TYPE_CHECKING:
    from facecodec.search.efforts import Progress, Search

MISREAD = "it does not decode to what was encoded, please report it"
QUALITY_BYTES = range(MAX_QUALITY_BYTE + 1)
STEPS_TO_E = 75  # so many steps of the quality byte make files about e times as large
LIKELY_TRIES = 5


class Codec:
    """A loaded model, to be kept for many images.

    Large pictures are coded by `threads` threads; 0 means one per core. Raises ModelError for a
    file that is not a model, is damaged, or is of an unknown family.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.card, tensors = frozen.load(path)
        self._tensors = tensors
        transforms = Transforms(tensors, threads)
        try:
            module = family_module(self.card.family)
        except KeyError:
            raise ModelError(
                f"{path}: this version does not know the family '{self.card.family}': update it"
            ) from None
        try:
            check(tensors, module.expected(tensors))
            self.family: Family = module.build(tensors, transforms)
        except ValueError as error:
            raise ModelError(f"{path}: the model is malformed: {error}") from None
        self.stream_names: tuple[str, ...] = module.STREAMS
        self._threads = threads

    def encode(
        self,
        image: Image.Image | np.ndarray,
        quality: float = DEFAULT_QUALITY,
        chunks: Sequence[tuple[str, bytes]] = (),
        effort: int = DEFAULT_EFFORT,
    ) -> bytes:
        """Returns the bytes of a .fic file.

        `image` is a Pillow image, or a uint8 array (H, W, 3) or (H, W). `quality` is 1 (smallest)
        to 8, rounded to the nearest 1/32. `chunks` are the metadata that images.read has kept. An
        `effort` of 2 to 9 searches for a better file. Raises UsageError for another quality or
        effort, ModelError if the effort needs a search file and there is none, and ImageError for
        an image that cannot be coded.
        """
        byte = quality_byte(quality)
        return self.analyse(image, chunks, effort).at(byte).data

    def encode_within(
        self,
        image: Image.Image | np.ndarray,
        limit: int,
        chunks: Sequence[tuple[str, bytes]] = (),
        effort: int = DEFAULT_EFFORT,
    ) -> bytes:
        """Encodes as `encode`, at the highest quality whose file has at most `limit` bytes.

        Raises ImageError if the file is larger even at q 1.
        """
        return self.analyse(image, chunks, effort).within(limit).data

    def encode_accepted(
        self,
        image: Image.Image | np.ndarray,
        accepts: Callable[[Image.Image], bool],
        chunks: Sequence[tuple[str, bytes]] = (),
        effort: int = DEFAULT_EFFORT,
    ) -> bytes:
        """Encodes as `encode`, at the lowest quality whose decoded picture `accepts` accepts.

        If `accepts` returns True for a quality, it must do so for all higher ones. Raises
        ImageError if it returns False even for q 8.
        """
        return self.analyse(image, chunks, effort).accepted(accepts).data

    def analyse(
        self,
        image: Image.Image | np.ndarray,
        chunks: Sequence[tuple[str, bytes]] = (),
        effort: int = DEFAULT_EFFORT,
        progress: Progress | None = None,
    ) -> Analysed:
        """Returns an image that is ready to be coded at several qualities.

        `progress` is called during each search: see search.efforts.Progress.
        """
        return Analysed(self, image, chunks, effort, progress)

    def check(self, data: bytes, image: Image.Image | np.ndarray) -> None:
        """Raises FormatError unless a file decodes to the symbols that `image` is coded as.

        Raises ModelError if the file was made with another model.
        """
        parsed = container.unpack(data)
        self._check(parsed)
        pixels, size, byte = as_rgb(image), parsed.coded_size, parsed.coded_quality_byte
        latents = self.family.analyse(enlarged(pixels) if parsed.doubled else pixels, byte)
        if not self.family.matches(parsed.streams, size, latents, byte):
            raise FormatError(MISREAD)

    def decode(self, data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
        """Returns the RGB picture in the bytes of a .fic file of this model.

        Raises FormatError for a bad file, ModelError for a file of another model, and ImageError
        for more than `max_pixels`.
        """
        return self.decode_container(open_container(data, max_pixels))

    def decode_container(self, parsed: container.Container) -> Image.Image:
        """Decodes as `decode`, from a file that `open_container` has parsed."""
        self._check(parsed)
        pixels = self.family.decode(parsed.streams, parsed.coded_size, parsed.coded_quality_byte)
        image = Image.fromarray(halved(pixels) if parsed.doubled else pixels)
        image.info.update(info_of(parsed.chunks))
        return image

    @cached_property
    def digest(self) -> str:
        """Returns the SHA-256 of everything decoding depends on, 64 hexadecimal digits."""
        return frozen.digest(self.card.family, self._tensors)

    @cached_property
    def head(self) -> Head:
        """Returns the model's head, which embeds files without decoding them.

        Raises ModelError for a model without one.
        """
        return Head(frozen.load_head(self.card), self._threads)

    @cached_property
    def search(self) -> Search:
        """Returns the search for better latents.

        Raises ModelError for a model without a search file.
        """
        from facecodec.search.efforts import Search

        return Search(self.card, self._tensors, self.family)

    def embed(self, data: bytes) -> np.ndarray:
        """Returns the embedding of the face in the bytes of a .fic file, float32 (D,) of length 1.

        The head computes it from the latents alone, in the space of `head.space`. It is of little
        use without a face, or for a face of a size that the head was not trained for;
        faces.embedding handles every size. Raises ModelError for a model without a head.
        """
        return self.run_head(open_container(data)).embedding

    def run_head(self, parsed: container.Container) -> HeadResult:
        """Runs the head on a file's latents. Raises ModelError for a model without a head."""
        self._check(parsed)
        size, byte = parsed.coded_size, parsed.coded_quality_byte
        return self.head.run(self.family.decode_latents(parsed.streams, size, byte))

    def symbols(self, parsed: container.Container) -> Any:
        """Returns the decoded integer symbols of a file, as a type of the model's family.

        No floating-point arithmetic is involved. Raises FormatError.
        """
        self._check(parsed)
        return self.family.decode_symbols(
            parsed.streams, parsed.coded_size, parsed.coded_quality_byte
        )

    def count_escapes(self, parsed: container.Container) -> dict[str, int]:
        """Returns how many symbols of each stream lie beyond their table. Raises FormatError.

        Reads every symbol and keeps none, so that it needs little memory for any file.
        """
        self._check(parsed)
        return self.family.count_escapes(
            parsed.streams, parsed.coded_size, parsed.coded_quality_byte
        )

    def _check(self, parsed: container.Container) -> None:
        if parsed.fingerprint.hex() != self.card.fingerprint:
            raise ModelError(
                f"made with model {parsed.fingerprint.hex()}, not with {self.card.name}"
            )
        if len(parsed.streams) != len(self.stream_names):
            expected = len(self.stream_names)
            raise FormatError(
                f"{len(parsed.streams)} streams where a {self.card.family} file has {expected}"
            )


@dataclass(frozen=True)
class Encoded:
    """The bytes of a .fic file and its quality."""

    data: bytes
    quality_byte: int

    @property
    def q(self) -> float:
        """Returns the quality, 1 to 8."""
        return quality_of(self.quality_byte)


@dataclass(frozen=True)
class Coded:
    """The picture that a family codes, uint8 (H, W, 3), and its quality byte."""

    pixels: np.ndarray
    byte: int
    doubled: bool

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]


class Analysed:
    """A picture, ready to be coded. `pixels` is uint8 (H, W, 3)."""

    def __init__(
        self,
        codec: Codec,
        image: Image.Image | np.ndarray,
        chunks: Sequence[tuple[str, bytes]],
        effort: int = DEFAULT_EFFORT,
        progress: Progress | None = None,
        may_double: bool = True,
    ) -> None:
        if effort not in EFFORTS:
            raise UsageError(f"effort {effort} is not a whole number from 1 to {EFFORTS[-1]}")
        self.pixels = as_rgb(image)
        height, width = self.pixels.shape[:2]
        if max(height, width) > container.MAX_SIDE:
            raise ImageError(f"{width}x{height}: a side is longer than {container.MAX_SIDE} pixels")
        self._codec, self._chunks = codec, list(chunks)
        self._effort, self._progress = effort, progress
        self._search = codec.search if effort > DEFAULT_EFFORT else None
        self._doubles = may_double and codec.family.enlarges and max(height, width) <= LONGEST
        # Those of one quality alone: a large picture has large latents.
        self._latents: tuple[tuple[bool, int], Any] | None = None
        self._encoded: dict[int, Encoded] = {}

    def at(self, byte: int) -> Encoded:
        """Returns the file at a quality byte, 0 to 224.

        Raises ImageError for latents that are too large to be coded.
        """
        if byte not in self._encoded:
            self._encoded[byte] = self._file(self._best(byte), byte, self._search is not None)
        return self._encoded[byte]

    def unsearched(self, byte: int) -> Encoded:
        """Returns the file at a quality byte, without a search, as effort 1 gives it."""
        if self._search is None:
            return self.at(byte)
        return self._file(self._analysed(byte), byte, searched=False)

    def within(self, limit: int) -> Encoded:
        """Returns the file of the highest quality that has at most `limit` bytes.

        A small picture is doubled only if the limit allows it: in fewer bytes it is better coded as
        it is. Raises ImageError if the file is larger even at q 1.
        """
        if self._doubles and len(self.unsearched(DOUBLED_STEPS).data) > limit:
            return Analysed(
                self._codec, self.pixels, self._chunks, self._effort, self._progress, False
            ).within(limit)
        if self._search is not None:
            found = fit(
                limit,
                lambda byte: len(self.unsearched(byte).data),
                self._best,
                lambda latents, byte: self._file(latents, byte, searched=True).data,
                self._trimmed,
            )
            if found is not None:
                return Encoded(*found)
        else:
            fitting = highest_within(limit, lambda byte: len(self.at(byte).data))
            if fitting is not None:
                return self.at(fitting)
        raise ImageError(
            f"{len(self.at(0).data)} bytes at q 1 do not fit into {limit}: "
            "make the picture smaller, or try another model"
        )

    def _best(self, byte: int) -> Any:
        """Returns the latents to be coded at a quality byte, searched for if the effort says so."""
        latents = self._analysed(byte)
        if self._search is None:
            return latents
        coded = self._coded(byte)
        return self._search.improve(coded.pixels, latents, coded.byte, self._effort, self._progress)

    @cached_property
    def _enlarged(self) -> np.ndarray:
        return enlarged(self.pixels)

    def _coded(self, byte: int) -> Coded:
        """Returns what the family codes for a quality byte of the file."""
        if self._doubles and byte >= DOUBLED_STEPS:
            return Coded(self._enlarged, byte - DOUBLED_STEPS, doubled=True)
        return Coded(self.pixels, byte, doubled=False)

    def _analysed(self, byte: int) -> Any:
        """Returns the latents that the model's analysis gives for a quality byte."""
        family, coded = self._codec.family, self._coded(byte)
        key = (coded.doubled, coded.byte if family.sees_quality() else 0)
        if self._latents is None or self._latents[0] != key:
            self._latents = key, family.analyse(coded.pixels, coded.byte)
        return self._latents[1]

    def _trimmed(self, latents: Any, byte: int, bits: float) -> Any:
        assert self._search is not None
        return self._search.trimmed(latents, self._coded(byte).byte, bits)

    def _file(self, latents: Any, byte: int, searched: bool) -> Encoded:
        """Returns the file of latents at a quality byte.

        If a search has found the latents, the file is read back and compared with them.
        """
        family, coded = self._codec.family, self._coded(byte)
        height, width = self.pixels.shape[:2]
        try:
            streams = family.encode(latents, coded.byte)
        except OverflowError as error:
            raise ImageError(str(error)) from None
        if searched and not family.matches(streams, coded.size, latents, coded.byte):
            raise FormatError(MISREAD)
        mark = bytes.fromhex(self._codec.card.fingerprint)
        parts = container.Container(mark, byte, width, height, streams, self._chunks, coded.doubled)
        return Encoded(container.pack(parts), byte)

    def accepted(self, accepts: Callable[[Image.Image], bool]) -> Encoded:
        """Returns the file of the lowest quality whose decoded picture `accepts` accepts.

        Raises ImageError if it accepts not even that of q 8.
        """
        limit = container.MAX_SIDE**2

        def accepted(byte: int) -> bool:
            return accepts(self._codec.decode(self.at(byte).data, limit))

        lowest = bisect_left(QUALITY_BYTES, True, key=accepted)
        if lowest > MAX_QUALITY_BYTE:
            raise ImageError("even q 8 is not good enough")
        return self.at(lowest)


def open_container(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> container.Container:
    """Parses a file.

    Raises FormatError for anything but a .fic file. Raises ImageError for more than `max_pixels`,
    before any memory is allocated for them.
    """
    if isinstance(data, str):
        raise TypeError("decoding takes the bytes of a file, not its name: open(name, 'rb').read()")
    parsed = container.unpack(bytes(data))
    check_size(parsed.width, parsed.height, max_pixels)
    return parsed


@lru_cache(maxsize=4)
def open_codec(path: Path) -> Codec:
    """Returns the codec of a model file. It is loaded once per process. Raises ModelError."""
    return Codec(path)


def codec_of(parsed: container.Container, model: Path | None = None) -> Codec:
    """Returns the codec for a file: that of `model`, or of the installed model that it names.

    Raises ModelError if no installed model, or two different ones, have the file's fingerprint.
    """
    if model is not None:
        return open_codec(model)
    return _codec_of(parsed.fingerprint, tuple(frozen.search_path()))


@lru_cache(maxsize=4)
def _codec_of(fingerprint: bytes, folders: tuple[Path, ...]) -> Codec:
    """Returns the codec of the installed model with a fingerprint.

    `folders` is part of the cache key, so that changing the search path invalidates it.
    """
    path = frozen.path_of_fingerprint(fingerprint)
    if path is None:
        raise frozen.not_installed(fingerprint)
    return open_codec(path)


def highest_within(limit: int, size: Callable[[int], int]) -> int | None:
    """Returns the highest quality byte whose `size` is at most `limit`, or None.

    Each size costs an encoding. So the first tries go where files usually reach the limit; then
    each halves what is left.
    """
    low, high = -1, len(QUALITY_BYTES)  # `low` fits, `high` does not
    byte, tries = high // 2, 0
    while high - low > 1:
        taken = size(byte)
        low, high = (byte, high) if taken <= limit else (low, byte)
        tries += 1
        likely = byte + round(STEPS_TO_E * math.log(limit / taken))
        byte = min(max(likely, low + 1), high - 1) if tries < LIKELY_TRIES else (low + high) // 2
    return None if low < 0 else low
