"""`.fic` as a format of Pillow: Image.open("x.fic"), image.save("x.fic", quality=3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from PIL import Image, ImageFile

from facecodec.codec import codec_of, open_codec, open_container
from facecodec.container import DEFAULT_QUALITY, MAGIC, Container
from facecodec.errors import FacecodecError
from facecodec.images import PROFILE, exif_chunk, info_of, to_rgb
from facecodec.search import DEFAULT_EFFORT

FORMAT, SUFFIX, MEDIA_TYPE = "FIC", ".fic", "image/x-facecodec"


class FicError(FacecodecError, OSError):
    """The error for a bad file. It is also an OSError, which users of Pillow expect."""


@contextmanager
def _as_pillow_does() -> Iterator[None]:
    try:
        yield
    except FacecodecError as error:
        raise FicError(str(error)) from error


class FicImageFile(ImageFile.ImageFile):
    """A .fic file as Pillow opens it: size and metadata at once, pixels when they are loaded."""

    format = FORMAT
    format_description = "facecodec"

    fp: IO[bytes]

    def _open(self) -> None:
        with _as_pillow_does():
            container = open_container(self.fp.read())
        self._size = (container.width, container.height)
        self._mode = "RGB"
        self.info.update(info_of(container.chunks), quality=container.q)
        self._container: Container | None = container

    def load(self) -> Image.core.PixelAccess | None:
        if self._container is not None:
            with _as_pillow_does():
                self.im = codec_of(self._container).decode_container(self._container).im
            self._container = None
            if self._exclusive_fp:
                self.fp.close()
        return super().load()


def save(image: Image.Image, file: IO[bytes], name: str | bytes) -> None:
    """Saves an image for image.save.

    Options are `quality`, `effort`, `model`, `exif` and `icc_profile`.
    """
    from facecodec.frozen import model_path

    options = image.encoderinfo
    chunks = exif_chunk(options["exif"]) if options.get("exif") else []
    if options.get("icc_profile"):  # the pixels stay in the profile's colour space
        chunks.append((PROFILE, options["icc_profile"]))
        image = image.copy()
        image.info.pop("icc_profile", None)
    codec = open_codec(model_path(options.get("model")))
    quality = options.get("quality", DEFAULT_QUALITY)
    effort = options.get("effort", DEFAULT_EFFORT)
    file.write(codec.encode(to_rgb(image).pixels, quality, chunks, effort))


def register() -> None:
    Image.register_open(FORMAT, FicImageFile, lambda start: start[: len(MAGIC)] == MAGIC)
    Image.register_save(FORMAT, save)
    Image.register_extension(FORMAT, SUFFIX)
    Image.register_mime(FORMAT, MEDIA_TYPE)
