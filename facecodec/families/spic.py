"""Quantised autoencoder: latents y (M, h, w), divided by a step QF and rounded <-> the stream "y".

Every channel has its own probability table at each quality. Nothing is predicted, so only these
tables must be exact. After Patwa et al., "Semantic Preserving Image Compression" (ICIP 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecodec.entropy import Decoder, Encoder, Tables
from facecodec.errors import ModelError
from facecodec.families.hyperlatent import QUALITIES, TABLES, bands
from facecodec.families.hyperprior import BAND, DOWNSAMPLING, positions
from facecodec.sessions import Transforms
from facecodec.tensors import Tensor, graphs

STREAMS = ("y",)
STEPS = (1e-30, 1e30)  # every step lies in this range, which excludes zero and infinity
FINEST = 2.0**-3  # the step of y at QF = 1


@dataclass(frozen=True)
class Symbols:
    """Rounded latents (M, h, w), and how many lay beyond their table."""

    y: np.ndarray
    escapes: dict[str, int]


def expected(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Returns the tensors of a model."""
    return (
        graphs(tensors, ("g_a", "g_s"))
        | TABLES
        | {
            "y_table": Tensor("uint8", (QUALITIES, None)),
            "step": Tensor("float32", (QUALITIES,), *STEPS),
        }
    )


class Spic:
    """Codes with one model's tensors and graphs.

    Raises ValueError for tensors that do not fit together.
    """

    enlarges = False

    def __init__(self, tensors: dict[str, np.ndarray], transforms: Transforms) -> None:
        self._transforms = transforms
        self.tables = Tables(tensors["table_counts"], tensors["table_starts"])
        self._y_table, self._step = tensors["y_table"], tensors["step"]
        if not (self._y_table < len(self.tables)).all():
            raise ValueError("a table index is out of range")

    def sees_quality(self) -> bool:
        return False

    def analyse(self, pixels: np.ndarray, quality_byte: int) -> np.ndarray:
        """Returns y of uint8 (H, W, 3)."""
        y = self._transforms.of_pixels("g_a.onnx", pixels, DOWNSAMPLING)
        if len(y) != self._y_table.shape[1]:
            raise ModelError("the model's analysis gives other channels than its tables have")
        return y

    def unrounded(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the latents as from `decode_latents`, but neither rounded nor coded."""
        return self.analyse(pixels, 0)

    def encode(self, latents: np.ndarray, quality_byte: int) -> list[bytes]:
        symbols = self._rounded(latents, quality_byte)
        encoder = Encoder(self.tables)
        for rows in reversed(bands(symbols.shape[1], BAND)):
            encoder.band(symbols[:, rows], self._indices(symbols[:, rows].shape, quality_byte))
        return [encoder.finish()]

    def matches(
        self, streams: list[bytes], size: tuple[int, int], latents: np.ndarray, quality_byte: int
    ) -> bool:
        return np.array_equal(
            self.decode_symbols(streams, size, quality_byte).y, self._rounded(latents, quality_byte)
        )

    def decode_symbols(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> Symbols:
        height, width = positions(size)
        decoder = Decoder(self.tables, streams[0])
        y = np.empty((self._y_table.shape[1], height, width), np.int32)
        for rows in bands(height, BAND):
            y[:, rows] = decoder.band(self._indices(y[:, rows].shape, quality_byte))
        decoder.finish()
        return Symbols(y, {"y": decoder.escapes})

    def count_escapes(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> dict[str, int]:
        """Returns the number of escapes by stream. Reads every symbol and keeps none."""
        height, width = positions(size)
        decoder = Decoder(self.tables, streams[0])
        for rows in bands(height, BAND):
            shape = (self._y_table.shape[1], rows.stop - rows.start, width)
            decoder.skip(self._indices(shape, quality_byte))
        decoder.finish()
        return {"y": decoder.escapes}

    def decode_latents(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> np.ndarray:
        """Returns y_hat, float32 (M, h, w)."""
        y_hat = self.decode_symbols(streams, size, quality_byte).y.astype(np.float32)
        y_hat *= self._step[quality_byte]
        return y_hat

    def decode(self, streams: list[bytes], size: tuple[int, int], quality_byte: int) -> np.ndarray:
        """Returns the picture, uint8 (*size, 3)."""
        y_hat = self.decode_latents(streams, size, quality_byte)
        return self._transforms.to_pixels("g_s.onnx", y_hat, size, DOWNSAMPLING)

    def _rounded(self, y: np.ndarray, quality_byte: int) -> np.ndarray:
        return np.rint(y / self._step[quality_byte])

    def _indices(self, shape: tuple[int, ...], quality_byte: int) -> np.ndarray:
        return np.broadcast_to(self._y_table[quality_byte][:, None, None], shape)


build = Spic
