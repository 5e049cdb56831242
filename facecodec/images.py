"""Reads image files into RGB arrays and writes them, converting every mode as users expect."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from facecodec import plugins
from facecodec.container import check_size
from facecodec.errors import ImageError, UsageError

# What `encode` looks for in a folder; suffixes() adds those of optional packages.
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"}
    | {".gif", ".ppm", ".pgm", ".pnm", ".jp2", ".j2k", ".avif", ".tga"}
)
# Other pictures: `encode` reports that it passed them over.
UNREAD_SUFFIXES = frozenset(
    {".svg", ".eps", ".ico", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"}
).union(*plugins.PACKAGES.values())
# Formats that are read, whatever a file is called. Formats that run other programs (EPS), or
# allocate memory before the size can be checked (ICO), are left out.
COMMON = ("JPEG", "PNG", "BMP", "GIF", "PPM")
FURTHER = ("WEBP", "MPO", "TIFF", "JPEG2000", "TGA", "AVIF")
# Formats that are written: Pillow's name and options of each.
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {"compress_level": 1}),
    "jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "webp": ("WEBP", {"quality": 95}),
    "avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
    "tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "ppm": ("PPM", {}),
}
TRUSTED_MAX_PIXELS = 1 << 27  # limit for datasets; Pillow's own is a little higher
ORIENTATION = 0x0112  # in EXIF
EXIF, PROFILE = "EXIF", "ICCP"  # types of chunks
EXIF_PREFIX = b"Exif\0\0"  # EXIF begins with it in Pillow and in JPEG files
MAX_JPEG_EXIF = 65533  # bytes, with the prefix
SUFFIX_FORMATS = {f".{name}": name for name in WRITTEN} | {".jpeg": "jpg", ".tif": "tiff"}


class RgbImage(NamedTuple):
    """The picture of an image file, upright, as `pixels`, uint8 RGB (H, W, 3).

    `dropped` says in words what was left out; `metadata` are the chunks that were kept. The pixels
    are sRGB, or in the colour space of the ICCP chunk if there is one.
    """

    pixels: np.ndarray
    dropped: list[str]
    metadata: list[tuple[str, bytes]]


def read(file: BinaryIO, max_pixels: int, keep_metadata: bool = False) -> RgbImage:
    """Returns the picture in an image file.

    Raises ImageError for a file that is not an image, is cut short, or has more than `max_pixels`.
    """
    with _damage_as_image_error():
        try:
            image = _open(file, max_pixels)
        except UnidentifiedImageError:
            empty = not file.seek(0, os.SEEK_END)
            if empty:
                raise ImageError("the file is empty: fetch or copy it again") from None
            raise ImageError(
                "not an image that can be read: give JPEG, PNG, WebP, TIFF or the like"
            ) from None
        except Image.DecompressionBombError:
            raise ImageError(
                f"far more than {max_pixels} pixels", "raise {max_pixels} if you trust it"
            ) from None
        with image:
            check_size(*image.size, max_pixels)
            return _to_rgb(image, keep_metadata)


def load(path: Path) -> np.ndarray:
    """Returns the picture in a trusted file, upright, uint8 RGB (H, W, 3).

    Raises ImageError if it is not an image or is damaged, OSError if the file cannot be read.
    """
    with open(path, "rb") as file:
        return read(file, TRUSTED_MAX_PIXELS).pixels


def to_rgb(image: Image.Image, keep_metadata: bool = False) -> RgbImage:
    """Returns the picture in a Pillow image. Raises ImageError if it does not load."""
    with _damage_as_image_error():
        return _to_rgb(image, keep_metadata)


@contextmanager
def _damage_as_image_error() -> Iterator[None]:
    """Turns the exceptions of Pillow's decoders for damaged files into ImageError.

    It hides warnings.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"damaged image ({reason}): fetch or copy it again") from None


def suffixes() -> frozenset[str]:
    """Returns the suffixes of image files that can be read with the installed packages."""
    return SUFFIXES | plugins.suffixes()


def _open(file: BinaryIO, max_pixels: int) -> Image.Image:
    """Opens an image of a format that is read.

    It tries the common formats first, because loading all plugins takes time.
    """
    try:
        return Image.open(file, formats=COMMON)
    except UnidentifiedImageError:
        Image.init()
        file.seek(0)
    known = [name for name in (*COMMON, *FURTHER) if name in Image.OPEN]
    try:
        return Image.open(file, formats=known)
    except UnidentifiedImageError:
        file.seek(0)
        image = plugins.open_image(file, max_pixels)
        if image is None:
            raise
        return image


def _to_rgb(image: Image.Image, keep_metadata: bool) -> RgbImage:
    dropped: list[str] = []
    metadata: list[tuple[str, bytes]] = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        dropped.append(f"{frames - 1} further frame{'s' if frames > 2 else ''}")
    # Read before load(), which empties it.
    deep = any(
        ";16" in str(tile[3] if len(tile) > 3 else "") for tile in getattr(image, "tile", ())
    )
    image.load()
    profile = image.info.get("icc_profile")
    if keep_metadata:
        metadata += exif_chunk(image.getexif())
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image, deep = _to_8_bits(image), True
    if deep:
        dropped.append("depth beyond 8 bits")
    if image.has_transparency_data:
        dropped.append("alpha")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    if profile and keep_metadata and image.mode in ("RGB", "RGBA"):
        metadata.append((PROFILE, profile))
    elif profile:
        image = _to_srgb(image, profile, dropped)
    return RgbImage(
        np.asarray(image if image.mode == "RGB" else image.convert("RGB")), dropped, metadata
    )


def exif_chunk(data: Image.Exif | bytes) -> list[tuple[str, bytes]]:
    """Returns the EXIF chunk without the orientation, which is applied; none if nothing is left.

    Raises ImageError for bytes that are no EXIF.
    """
    exif = Image.Exif()
    content = data if isinstance(data, bytes) else data.tobytes()
    try:
        exif.load(content)  # a copy, so that the caller's EXIF keeps its orientation
    except SyntaxError as error:
        raise ImageError(f"malformed EXIF ({error}): leave it out") from None
    exif.pop(ORIENTATION, None)
    return [(EXIF, exif.tobytes().removeprefix(EXIF_PREFIX))] if exif else []


def _upright(image: Image.Image) -> Image.Image:
    try:
        if image.getexif().get(ORIENTATION, 1) == 1:
            return image
        from PIL import ImageOps

        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block does not make the picture a damaged one
        return image


def as_rgb(image: Image.Image | np.ndarray) -> np.ndarray:
    """Returns an image as uint8 RGB (H, W, 3).

    `image` is a Pillow image or a uint8 array, (H, W, 3) RGB or (H, W) grey. Raises ImageError for
    anything else.
    """
    if isinstance(image, Image.Image):
        image = to_rgb(image).pixels
    if not isinstance(image, np.ndarray):
        raise ImageError(
            f"expected a Pillow image or an array, not {type(image).__name__}: "
            "open a file with PIL.Image.open"
        )
    if image.dtype == np.uint8 and image.size:
        if image.ndim == 3 and image.shape[2] == 3:
            return image
        if image.ndim == 2:
            return np.repeat(image[..., None], 3, axis=2)
    raise ImageError(f"expected a uint8 array (H, W, 3) or (H, W), not {image.dtype} {image.shape}")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Converts 16-bit integers, and floats in 0..1. Pillow's `convert` would clip both at 255."""
    values = np.asarray(image)
    scaled = values.astype(np.float64) * (255 if image.mode == "F" else 255 / 65535)
    return Image.fromarray(np.clip(np.rint(np.nan_to_num(scaled)), 0, 255).astype(np.uint8), "L")


def _to_srgb(image: Image.Image, profile: bytes, dropped: list[str]) -> Image.Image:
    from PIL import ImageCms

    if image.mode == "RGBA":
        image = image.convert("RGB")
    elif image.mode == "LA":
        image = image.convert("L")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        converted = None
    if converted is None:
        dropped.append("a colour profile that does not fit the image")
        return image
    return converted


def info_of(chunks: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    """Returns a file's chunks as the `info` of a Pillow image. Of each type, the first counts."""
    found = dict(reversed(chunks))
    info = {"exif": EXIF_PREFIX + found[EXIF]} if EXIF in found else {}
    return info | ({"icc_profile": found[PROFILE]} if PROFILE in found else {})


def reduce(image: Image.Image, max_side: int) -> None:
    """Shrinks a picture, in place, to at most `max_side` pixels along each side."""
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)


def check_written(format: str) -> None:
    """Raises UsageError if this Pillow was built without a format of WRITTEN."""
    Image.init()
    name, _ = WRITTEN[format]
    if name not in Image.SAVE:
        raise UsageError(f"this Pillow does not write {name}: update it, or choose another format")


def write(image: Image.Image, format: str) -> bytes:
    """Returns the bytes of an RGB picture as a file of a format in WRITTEN.

    The file includes the metadata in the picture's info. PNG, PPM and TIFF are lossless; the others
    have quality 95. Raises ImageError for a picture or EXIF that is too large for the format.
    """
    buffer = io.BytesIO()
    name, options = WRITTEN[format]
    exif = image.info.get("exif", b"")
    if format == "jpg" and len(exif) > MAX_JPEG_EXIF:
        raise ImageError(f"{len(exif)} bytes of EXIF do not fit into a JPEG file: decode to png")
    metadata = {"exif": exif, "icc_profile": image.info.get("icc_profile", b"")}
    if format == "tiff" and exif:
        options = {}  # libtiff, which compresses, cannot write EXIF's inner tables
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.save(buffer, name, **options, **(metadata if format != "ppm" else {}))
    except MemoryError:
        raise
    except Exception as error:  # TIFF and AVIF parse the EXIF, which may be malformed
        width, height = image.size
        raise ImageError(
            f"a picture of {width}x{height} cannot be a {name} file ({error}): decode to png"
        ) from None
    return buffer.getvalue()
