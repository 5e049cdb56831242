"""Compact PNG: one network turns a picture into a small image, another one turns it back.

The compact image has three channels and is stored as a PNG file. Its size and bit depth depend on
the quality: each quality byte takes the nearest of STEPS. After Bian et al., "A Deep Image
Compression Framework for Face Recognition" (2019).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

from facecodec.container import QUALITY_STEPS
from facecodec.errors import FormatError, ModelError
from facecodec.sessions import Transforms
from facecodec.tensors import Tensor, graphs

STREAMS = ("png",)
# For q = 1, 2, ...: by how much each side shrinks, and the bits per value of the compact image.
STEPS = ((16, 5), (16, 6), (16, 8), (8, 3), (8, 4), (8, 5), (8, 6), (8, 8))
GRAPHS = ("g_a8", "g_a16", "g_s8", "g_s16")

# Takes a shrink factor and returns the compact image (3, h, w), 0..1, before rounding.
Latents = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Symbols:
    """The compact image as numbers from 0 to 2^bits - 1, (3, h, w)."""

    image: np.ndarray
    escapes: dict[str, int] = field(default_factory=lambda: {"png": 0})


def expected(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Returns the tensors of a model."""
    return graphs(tensors, GRAPHS)


class CompactPng:
    """Codes with one model, whose tensors are its graphs."""

    enlarges = False

    def __init__(self, tensors: dict[str, np.ndarray], transforms: Transforms) -> None:
        self._transforms = transforms

    def sees_quality(self) -> bool:
        return False

    def analyse(self, pixels: np.ndarray, quality_byte: int) -> Latents:
        """Returns a function that makes the compact image of uint8 (H, W, 3), once per step."""

        @cache
        def compact(step: int) -> np.ndarray:
            image = self._transforms.of_pixels(f"g_a{step}.onnx", pixels, step)
            if len(image) != 3 or not np.isfinite(image).all():
                raise ModelError(f"the model's g_a{step}.onnx graph gives no image")
            return image

        return compact

    def encode(self, latents: Latents, quality_byte: int) -> list[bytes]:
        """Returns the PNG file."""
        step, bits = step_of(quality_byte)
        return [png(latents(step), bits)]

    def matches(
        self, streams: list[bytes], size: tuple[int, int], latents: Latents, quality_byte: int
    ) -> bool:
        step, bits = step_of(quality_byte)
        return np.array_equal(
            self.decode_symbols(streams, size, quality_byte).image, _rounded(latents(step), bits)
        )

    def decode_symbols(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> Symbols:
        """Raises FormatError unless the stream is a PNG file of the right size and depth."""
        step, bits = step_of(quality_byte)
        expected = tuple(-(-side // step) for side in size)
        try:
            with Image.open(io.BytesIO(streams[0]), formats=["PNG"]) as image:
                if image.mode != "RGB" or image.size != expected[::-1]:
                    raise FormatError(
                        f"its compact image is {image.mode} of {image.size}, "
                        f"not RGB of {expected[::-1]}"
                    )
                shown = np.asarray(image).transpose(2, 0, 1)
        except FormatError:
            raise
        except Exception as error:  # Pillow's decoders raise almost anything for damaged files
            raise FormatError(
                f"its compact image is damaged: {' '.join(str(error).split())}"
            ) from None
        values = np.rint(shown * ((2**bits - 1) / 255)).astype(np.uint8)
        if not np.array_equal(_scaled(values, bits), shown):
            raise FormatError(f"its compact image has values that {bits} bits do not give")
        return Symbols(values)

    def count_escapes(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> dict[str, int]:
        """Returns no escapes, as there are none, after reading every value."""
        return self.decode_symbols(streams, size, quality_byte).escapes

    def decode(self, streams: list[bytes], size: tuple[int, int], quality_byte: int) -> np.ndarray:
        """Returns the picture, uint8 (*size, 3)."""
        step, _ = step_of(quality_byte)
        values = self.decode_latents(streams, size, quality_byte)
        return self._transforms.to_pixels(f"g_s{step}.onnx", values, size, step)

    def decode_latents(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> np.ndarray:
        """Returns the compact image, 0..1, float32 (3, h, w)."""
        _, bits = step_of(quality_byte)
        return self.decode_symbols(streams, size, quality_byte).image.astype(
            np.float32
        ) / np.float32(2**bits - 1)

    def images(self, streams: list[bytes]) -> dict[str, bytes]:
        """Returns the compact image as a file, which any image viewer shows."""
        return {"compact.png": streams[0]}


def step_of(quality_byte: int) -> tuple[int, int]:
    """Returns the shrink factor and the bits of a quality byte."""
    return STEPS[round(quality_byte / QUALITY_STEPS)]


def png(compact: np.ndarray, bits: int) -> bytes:
    """Returns a compact image (3, h, w), 0..1, rounded to `bits`, as a PNG file."""
    buffer = io.BytesIO()
    shown = _scaled(_rounded(compact, bits), bits)
    Image.fromarray(shown.transpose(1, 2, 0)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _rounded(compact: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(np.clip(compact, 0, 1) * (2**bits - 1)).astype(np.uint8)


def _scaled(values: np.ndarray, bits: int) -> np.ndarray:
    """Scales integers of `bits` to 0..255, so that the PNG file looks like a picture."""
    return np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)


build = CompactPng
