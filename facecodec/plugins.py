"""Image formats that Pillow reads with the packages of the extra `formats`: HEIC and JPEG XL."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any, BinaryIO

from PIL import Image

from facecodec.container import check_size
from facecodec.errors import ImageError

PACKAGES = {  # each package and the suffixes of the files it reads
    "pillow_heif": frozenset({".heic", ".heif", ".hif"}),
    "pillow_jxl": frozenset({".jxl"}),
}
REMEDY = "pip install 'facecodec[formats]'"
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
JXL_CODESTREAM, JXL_CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # of ISO/IEC 18181-1, 9.2.2
BOX = 8  # bytes: the size and the type of a box of ISO base media


def suffixes() -> frozenset[str]:
    """Returns the suffixes of the files that the installed packages read."""
    return frozenset().union(*(PACKAGES[name] for name in PACKAGES if find_spec(name)))


def open_image(file: BinaryIO, max_pixels: int) -> Image.Image | None:
    """Returns a HEIC or JPEG XL picture, or None for another kind of file.

    Raises ImageError if the format's package is not installed. JPEG XL's package decodes a whole
    picture when it opens it, so this raises ImageError for more than `max_pixels` before that.
    """
    head = file.read(32)
    file.seek(0)
    if head.startswith((JXL_CODESTREAM, JXL_CONTAINER)):
        _import("pillow_jxl", "JPEG XL")
        content = file.read()
        check_size(*jpegxl_size(content), max_pixels)
        return Image.open(io.BytesIO(content), formats=["JXL"])
    if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS:
        _import("pillow_heif", "HEIC").register_heif_opener()
        return Image.open(file, formats=["HEIF"])
    return None


def _import(package: str, kind: str) -> Any:
    from importlib import import_module

    if find_spec(package) is None:
        raise ImageError(f"a {kind} image cannot be read yet: {REMEDY}")
    return import_module(package)


def jpegxl_size(content: bytes) -> tuple[int, int]:
    """Returns the width and height in a JPEG XL file's header. Raises ImageError without one."""
    stream = content if content.startswith(JXL_CODESTREAM) else _codestream(content)
    if not stream.startswith(JXL_CODESTREAM) or len(stream) < 12:
        raise ImageError("damaged image (JPEG XL without a size): fetch or copy it again")
    bits = int.from_bytes(stream[2:12], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio == 0:
        return side(), height
    across, down = RATIOS[ratio - 1]
    return height * across // down, height


def _codestream(content: bytes) -> bytes:
    """Returns the beginning of the codestream: the box jxlc, or the first jxlp, of a container."""
    start = 0
    while len(content) - start >= BOX:
        size, kind = (
            int.from_bytes(content[start : start + 4], "big"),
            content[start + 4 : start + 8],
        )
        header = BOX
        if size == 1:  # the size follows in 64 bits
            size, header = int.from_bytes(content[start + 8 : start + 16], "big"), 2 * BOX
        if kind in (b"jxlc", b"jxlp"):
            start += header + (4 if kind == b"jxlp" else 0)  # jxlp begins with its part number
            return content[start : start + 16]
        if size < header:  # a size of 0 marks the last box
            break
        start += size
    return b""
