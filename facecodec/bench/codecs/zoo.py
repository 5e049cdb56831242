"""CompressAI's pretrained hyperprior for general images; the setting is its quality, 1 to 8.

It is that of Ballé et al. (2018). Its entropy decoder trusts its input, so it must only get files
of this bench.
"""

from __future__ import annotations

import struct
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.error import URLError

import numpy as np

from facecodec.bench.codecs.codec import BenchCodec

QUALITIES = (1, 2, 3, 4, 5, 6)
HEADER = struct.Struct("<BHHI")  # quality, height and width of the picture, bytes of y
MULTIPLE = 64


@cache
def network(quality: int) -> Any:
    from compressai.zoo import bmshj2018_hyperprior

    return bmshj2018_hyperprior(quality, metric="mse", pretrained=True).eval()


def encode(pixels: np.ndarray, quality: float) -> bytes:
    import torch

    bottom, right = (-side % MULTIPLE for side in pixels.shape[:2])
    padded = np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge")
    with torch.no_grad():
        coded = network(int(quality)).compress(
            torch.from_numpy(padded).permute(2, 0, 1)[None] / 255
        )
    (y,), (z,) = coded["strings"]
    return HEADER.pack(int(quality), *pixels.shape[:2], len(y)) + y + z


def decode(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    import torch

    quality, height, width, length = HEADER.unpack_from(data)
    of_z = (-(-height // MULTIPLE), -(-width // MULTIPLE))
    streams = data[HEADER.size :]
    with torch.no_grad():
        strings = [[streams[:length]], [streams[length:]]]
        x_hat = network(quality).decompress(strings, of_z)["x_hat"][0]
    pixels = (x_hat.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return pixels[:height, :width]


def missing() -> str | None:
    try:
        for quality in QUALITIES:
            network(quality)
    except ImportError:
        return "compressai, of the 'train' extra, is not installed"
    except (URLError, OSError) as error:
        return f"CompressAI's weights could not be downloaded: {error}"
    return None


def zoo_version() -> str:
    try:
        return f"compressai {version('compressai')}"
    except PackageNotFoundError:
        return ""


CODECS = (
    BenchCodec(
        "bmshj2018-hyperprior",
        "Ballé et al. 2018",
        QUALITIES,
        range(1, 9),
        encode,
        decode,
        zoo_version,
        missing,
    ),
)
