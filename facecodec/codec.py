"""A model that encodes and decodes: from pixels to the bytes of a file, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from facecodec import container, frozen
from facecodec.container import DEFAULT_MAX_PIXELS, DEFAULT_QUALITY, check_size, quality_byte
from facecodec.doubling import enlarged, halved
from facecodec.encoding import MISREAD, Analysed
from facecodec.errors import FormatError, ModelError, UsageError
from facecodec.families import Family, family_module
from facecodec.head import Head, HeadResult
from facecodec.images import as_rgb, info_of
from facecodec.search import DEFAULT_EFFORT
from facecodec.sessions import Transforms
from facecodec.tensors import check

if TYPE_CHECKING:
    from facecodec.search.efforts import Progress, Search


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

        Raises ImageError if the file is larger even at q 1, UsageError for a limit below 1.
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

        Raises ModelError if the file was made with another model, UsageError if the image has
        another size.
        """
        parsed = container.unpack(data)
        self._check(parsed)
        pixels = as_rgb(image)
        if pixels.shape[:2] != (parsed.height, parsed.width):
            raise UsageError(
                f"the file's picture has {parsed.width}x{parsed.height} pixels, "
                f"not {pixels.shape[1]}x{pixels.shape[0]}: give the picture that was encoded"
            )
        pixels = enlarged(pixels) if parsed.doubled else pixels
        streams, size, byte = parsed.coded
        if not self.family.matches(streams, size, self.family.analyse(pixels, byte), byte):
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
        pixels = self.family.decode(*parsed.coded)
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
        return self.head.run(self.family.decode_latents(*parsed.coded))

    def symbols(self, parsed: container.Container) -> Any:
        """Returns the decoded integer symbols of a file, as a type of the model's family.

        No floating-point arithmetic is involved. Raises FormatError.
        """
        self._check(parsed)
        return self.family.decode_symbols(*parsed.coded)

    def count_escapes(self, parsed: container.Container) -> dict[str, int]:
        """Returns how many symbols of each stream lie beyond their table. Raises FormatError.

        Reads every symbol and keeps none, so that it needs little memory for any file.
        """
        self._check(parsed)
        return self.family.count_escapes(*parsed.coded)

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


def open_container(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> container.Container:
    """Parses a file.

    Raises FormatError for anything but a .fic file. Raises ImageError for more than `max_pixels`,
    before any memory is allocated for them.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        given = type(data).__name__
        raise TypeError(f"decoding takes the bytes of a file, not {given}: open(name, 'rb').read()")
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
