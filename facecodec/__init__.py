"""facecodec: images of faces at a fraction of the bits, still recognisable.

    data = facecodec.encode(image, quality=4)  # PIL image or uint8 array -> bytes of a .fic file
    image = facecodec.decode(data)             # -> PIL.Image.Image, RGB
    codec = facecodec.open_model("l2-ipr")     # for many images: a Codec, loaded once
    facecodec.register_pillow_opener()         # Image.open("x.fic"), image.save("x.fic", quality=3)

Nothing heavy is imported before the first call, and torch never is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from facecodec.errors import FacecodecError, FormatError, ImageError, ModelError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from facecodec.codec import Codec

# ONNX Runtime's official builds send telemetry unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "FacecodecError",
    "FormatError",
    "ImageError",
    "ModelError",
    "UsageError",
    "decode",
    "encode",
    "open_model",
    "register_pillow_opener",
]


def encode(
    image: Image.Image | np.ndarray,
    quality: float = 4,
    model: str | None = None,
    keep_metadata: bool = False,
    effort: int = 1,
) -> bytes:
    """Returns the bytes of a .fic file.

    `image` is a Pillow image, converted as the command line converts files, or a uint8 array, (H,
    W, 3) RGB or (H, W) grey. `quality` is 1 (smallest) to 8, rounded to the nearest 1/32. `model`
    is the name of an installed model or the path of a model file. `keep_metadata` keeps EXIF and
    the colour profile of a Pillow image; otherwise its pixels become sRGB. An `effort` of 2 to 9
    searches for a better file; the model needs a search file for it (docs/effort.md).

    Raises UsageError for a quality, effort or model that does not exist, ModelError for a model
    without a search file, ImageError for an array of another type or shape.
    """
    if keep_metadata and not hasattr(image, "dtype"):
        from facecodec.images import to_rgb

        pixels, _, metadata = to_rgb(image, keep_metadata=True)
        return open_model(model).encode(pixels, quality, metadata, effort)
    return open_model(model).encode(image, quality, effort=effort)


def decode(data: bytes) -> Image.Image:
    """Returns the RGB picture in the bytes of a .fic file.

    Raises FormatError for bytes that are not a whole .fic file, ModelError if the model that made
    it is not installed, and ImageError for more than 2^25 pixels. `open_model(...).decode` takes
    another limit as `max_pixels`.
    """
    from facecodec.codec import codec_of, open_container

    parsed = open_container(data)
    return codec_of(parsed).decode_container(parsed)


def open_model(name: str | None = None) -> Codec:
    """Returns a model by name or path; None is the default model. It is loaded once per process.

    Raises UsageError for a model that is not there, ModelError for a damaged one.
    """
    from facecodec.codec import open_codec
    from facecodec.frozen import model_path

    return open_codec(model_path(name))


def register_pillow_opener() -> None:
    """Makes .fic a format of Pillow.

    Image.open reads files, with EXIF and the colour profile in `info` if they were kept. image.save
    writes files and takes `quality`, `effort`, `model`, `exif` and `icc_profile`. The error for a
    bad file is both a FacecodecError and, like Pillow's own errors, an OSError.
    """
    from facecodec.pillow_plugin import register

    register()
