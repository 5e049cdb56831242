"""The whole way from pixels to bytes and back."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facecodec import container, frozen
from facecodec.container import (
    DEFAULT_MAX_PIXELS,
    DEFAULT_QUALITY,
    MAX_QUALITY_BYTE,
    check_size,
    quality_byte,
)
from facecodec.errors import FormatError, ImageError, ModelError
from facecodec.families import Family, family_module
from facecodec.head import Head
from facecodec.images import as_rgb, info_of
from facecodec.sessions import Transforms
from facecodec.tensors import check


class Codec:
    """A loaded model. Keep one for many images; `threads` run on large pictures, 0 for one a core."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.card, tensors = frozen.load(path)
        self._tensors = tensors
        transforms = Transforms(tensors, threads)
        try:
            module = family_module(self.card.family)
        except KeyError:
            raise ModelError(
                f"{path}: of family '{self.card.family}', which this version does not know: update it"
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
    ) -> bytes:
        """A Pillow image, or a uint8 array (H, W, 3) or (H, W), -> the bytes of a .fic file.

        `chunks` are what images.read keeps of a file's metadata.
        """
        byte = quality_byte(quality)
        return self._coder(image, chunks)(byte)

    def encode_within(
        self, image: Image.Image | np.ndarray, limit: int, chunks: Sequence[tuple[str, bytes]] = ()
    ) -> bytes:
        """As `encode`, at the highest quality whose file has at most `limit` bytes.

        Raises ImageError where even q 1 has more.
        """
        coder = cache(self._coder(image, chunks))
        fitting = bisect_right(
            range(MAX_QUALITY_BYTE + 1), limit, key=lambda byte: len(coder(byte))
        )
        if fitting == 0:
            raise ImageError(
                f"{len(coder(0))} bytes at q 1 do not fit into {limit}: make the picture smaller, or try another model"
            )
        return coder(fitting - 1)

    def encode_accepted(
        self,
        image: Image.Image | np.ndarray,
        accepts: Callable[[Image.Image], bool],
        chunks: Sequence[tuple[str, bytes]] = (),
    ) -> bytes:
        """As `encode`, at the lowest quality whose decoded picture `accepts`, which is to accept all above it too.

        Raises ImageError where it does not even accept q 8, which it is asked last then.
        """
        coder = cache(self._coder(image, chunks))
        limit = container.MAX_SIDE**2

        def accepted(byte: int) -> bool:
            return accepts(self.decode(coder(byte), limit))

        lowest = bisect_left(range(MAX_QUALITY_BYTE + 1), True, key=accepted)
        if lowest > MAX_QUALITY_BYTE:
            raise ImageError("even q 8 is not good enough")
        return coder(lowest)

    def _coder(
        self, image: Image.Image | np.ndarray, chunks: Sequence[tuple[str, bytes]]
    ) -> Callable[[int], bytes]:
        """From a quality byte to the file of `image`, which is analysed once."""
        pixels = as_rgb(image)
        height, width = pixels.shape[:2]
        if max(height, width) > container.MAX_SIDE:
            raise ImageError(f"{width}x{height}: a side is longer than {container.MAX_SIDE} pixels")
        latents = self.family.analyse(pixels)
        mark = bytes.fromhex(self.card.fingerprint)

        def code(byte: int) -> bytes:
            try:
                streams = self.family.encode(latents, byte)
            except OverflowError as error:
                raise ImageError(str(error)) from None
            return container.pack(
                container.Container(mark, byte, width, height, streams, list(chunks))
            )

        return code

    def check(self, data: bytes, image: Image.Image | np.ndarray) -> None:
        """Raise FormatError unless a file of this model decodes to the very symbols that `image` is coded by."""
        parsed = container.unpack(data)
        self._check(parsed)
        latents = self.family.analyse(as_rgb(image))
        if not self.family.matches(
            parsed.streams, (parsed.height, parsed.width), latents, parsed.quality_byte
        ):
            raise FormatError("it does not decode to what was encoded, please report it")

    def decode(self, data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
        """The bytes of a .fic file of this model -> an RGB picture."""
        return self.decode_container(open_container(data, max_pixels))

    def decode_container(self, parsed: container.Container) -> Image.Image:
        """As `decode`, for a file that `open_container` has checked."""
        self._check(parsed)
        image = Image.fromarray(
            self.family.decode(parsed.streams, (parsed.height, parsed.width), parsed.quality_byte)
        )
        image.info |= info_of(parsed.chunks)
        return image

    @cached_property
    def digest(self) -> str:
        """SHA-256 over what decoding depends on, 64 hexadecimal digits."""
        return frozen.digest(self.card.family, self._tensors)

    @cached_property
    def head(self) -> Head:
        """What embeds files without decoding them. Raises ModelError for a model without one."""
        return Head(frozen.load_head(self.card), self._threads)

    def embed(self, parsed: container.Container) -> np.ndarray:
        """The embedding of the face in a file, float32 (D,) of length 1, in the space of `head.space`.

        It is made from the latents alone. Raises ModelError for a model without a head.
        """
        self._check(parsed)
        size = (parsed.height, parsed.width)
        return self.head.embed(
            self.family.decode_latents(parsed.streams, size, parsed.quality_byte)
        )

    def symbols(self, parsed: container.Container) -> Any:
        """The latents of a file as integers, before any floating point (the family's own type)."""
        self._check(parsed)
        return self.family.decode_symbols(
            parsed.streams, (parsed.height, parsed.width), parsed.quality_byte
        )

    def count_escapes(self, parsed: container.Container) -> dict[str, int]:
        """How many symbols of each stream lie beyond their table. Raises FormatError for damaged streams.

        It reads every symbol and keeps none, so it takes little memory for any file.
        """
        self._check(parsed)
        return self.family.count_escapes(
            parsed.streams, (parsed.height, parsed.width), parsed.quality_byte
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


def open_container(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> container.Container:
    """Parse a file and refuse a picture larger than the limit before anything is allocated for it."""
    parsed = container.unpack(bytes(data))
    check_size(parsed.width, parsed.height, max_pixels)
    return parsed


@lru_cache(maxsize=4)
def open_codec(path: Path) -> Codec:
    """The codec of a model file, loaded once a process."""
    return Codec(path)


def codec_of(parsed: container.Container, model: Path | None = None) -> Codec:
    """The installed codec that a file names, or that of the file `model`, where one is given.

    Raises ModelError, also where two installed models have the file's fingerprint and are different.
    """
    if model is not None:
        return open_codec(model)
    return _codec_of(parsed.fingerprint, tuple(frozen.search_path()))


@lru_cache(maxsize=4)
def _codec_of(fingerprint: bytes, folders: tuple[Path, ...]) -> Codec:
    """`folders` are where is looked, so that others have their own answer."""
    found: dict[Path, Codec] = {}
    damaged = None
    for path in frozen.paths_of_fingerprint(fingerprint):
        try:
            found[path] = open_codec(path)
        except ModelError as error:
            damaged = error  # another copy may be whole
    if not found:
        raise damaged or frozen.not_installed(fingerprint)
    if len(found) > 1:
        frozen.refuse_forgery({path: codec.digest for path, codec in found.items()})
    return next(iter(found.values()))
