"""Codes the hyper-latent z (C, ceil(h/4), ceil(w/4)) as stream "z", and predicts y from it.

Each channel has one probability table per quality. z is coded in bands, from the top, so that
memory does not grow with the height of the picture.
"""

from __future__ import annotations

import numpy as np

from facecodec.container import MAX_QUALITY_BYTE
from facecodec.entropy import PRECISION, Decoder, Encoder, Tables, as_integers
from facecodec.exact import (
    FRACTION,
    GAIN_FRACTION,
    HyperSynthesis,
    IntegerNetwork,
    expected_layers,
    read_layers,
    rescale,
)
from facecodec.tensors import Tensor

HYPER = 4  # positions of y per position of z, along a side
QUALITIES = MAX_QUALITY_BYTE + 1
BAND = 4  # rows of z that are coded together
TABLES = {
    "table_counts": Tensor("int32", (None,), 1, 1 << PRECISION),
    "table_starts": Tensor("int32", (None,), 0),
}


def expected(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Returns the tensors that code z, and the tables that z and y share."""
    return (
        TABLES
        | expected_layers(tensors, "h_s")
        | {
            "z_inverse_gain": Tensor("int32", (QUALITIES, "C"), 1),
            "z_table": Tensor("uint8", (QUALITIES, "C")),
        }
    )


class HyperLatent:
    """Codes z with the tensors that `expected` names.

    `outputs` is the number of output channels of the hyper-synthesis. Raises ValueError for tensors
    that do not fit together.
    """

    def __init__(self, tensors: dict[str, np.ndarray], tables: Tables) -> None:
        self._tables = tables
        self.h_s: IntegerNetwork = HyperSynthesis(read_layers(tensors, "h_s"))
        self.inverse_gain = tensors["z_inverse_gain"].astype(np.int64)
        self.table = tensors["z_table"].astype(np.min_scalar_type(len(tables) - 1))
        self.channels, self.outputs = self.h_s.channels
        if self.table.shape[1] != self.channels:
            raise ValueError("the hyper-synthesis has other channels than the gains of z")
        if not (tensors["z_table"] < len(tables)).all():
            raise ValueError("a table index is out of range")

    def rounded(self, z: np.ndarray, quality_byte: int) -> np.ndarray:
        """Returns the symbols of float z at a quality byte."""
        gain = 2.0**GAIN_FRACTION / self.inverse_gain[quality_byte]
        return as_integers(np.rint(z * gain[:, None, None]))

    def encode(self, symbols: np.ndarray, quality_byte: int) -> bytes:
        """Returns the stream of z's symbols."""
        encoder = Encoder(self._tables)
        for rows in reversed(bands(symbols.shape[1], BAND)):
            part = symbols[:, rows]
            encoder.band(part, self._tables_of(part.shape, quality_byte))
        return encoder.finish()

    def decode(
        self, stream: bytes, size: tuple[int, int], quality_byte: int
    ) -> tuple[np.ndarray, int]:
        """Returns z's symbols, and how many of them are escapes. `size` is y's (h, w).

        Raises FormatError.
        """
        height, width = (-(-side // HYPER) for side in size)
        decoder = Decoder(self._tables, stream)
        z = np.empty((self.channels, height, width), np.int32)
        for rows in bands(height, BAND):
            z[:, rows] = decoder.band(self._tables_of(z[:, rows].shape, quality_byte))
        decoder.finish()
        return z, decoder.escapes

    def predict(
        self, symbols: np.ndarray, rows: slice, columns: slice, quality_byte: int
    ) -> np.ndarray:
        """Returns the hyper-synthesis of z for some rows and columns of y, which it predicts.

        The result is integers (outputs, ., .). Both slices must begin at a multiple of HYPER.
        """
        parts, skips = [], []
        for along in (rows, columns):
            first = along.start // HYPER
            above = max(0, first - self.h_s.margin)
            parts.append(slice(above, -(-along.stop // HYPER) + self.h_s.margin))
            skips.append(HYPER * (first - above))
        inverse = self.inverse_gain[quality_byte][:, None, None]
        z_hat = rescale(symbols[:, parts[0], parts[1]], inverse, GAIN_FRACTION - FRACTION)
        out = self.h_s(z_hat)[:, skips[0] :, skips[1] :]
        return out[:, : rows.stop - rows.start, : columns.stop - columns.start]

    def _tables_of(self, shape: tuple[int, ...], quality_byte: int) -> np.ndarray:
        return np.broadcast_to(self.table[quality_byte][:, None, None], shape)


def bands(length: int, size: int) -> list[slice]:
    """Divides a length into parts of a size; the last part may be shorter."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
