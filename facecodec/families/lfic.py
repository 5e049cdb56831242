"""Regionally adaptive pooling: regions of y keep all samples, or their mean, or none.

The streams are "z", "levels" and "y". What is pooled is y minus its prediction from z
(families/hyperprior.py), so that even a region without samples shows what z predicts. A decoder
needs the levels to undo the pooling. After Chen and He, "Learning based Facial Image Compression
with Semantic Fidelity Metric" (2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecodec.entropy import PRECISION, Decoder, Encoder, Tables
from facecodec.errors import FormatError
from facecodec.families import hyperprior
from facecodec.families.hyperlatent import QUALITIES, bands
from facecodec.families.hyperprior import (
    BAND,
    DOWNSAMPLING,
    Hyperprior,
    positions,
)
from facecodec.sessions import Transforms
from facecodec.tensors import Tensor, graphs

STREAMS = ("z", "levels", "y")
REGION = 2  # positions of y along each side of a region
KEEP, POOL, DROP = range(3)  # the levels
# The share of samples that a region keeps at each level. float16 is exact and saves memory.
SHARES = np.array([1, 1 / REGION**2, 0], np.float16)
NONE_ABOVE = 3  # takes the place of the level above for the topmost regions
LARGEST_SCORE = 1e30  # far above any score, and finite


@dataclass(frozen=True)
class Symbols(hyperprior.Symbols):
    """A hyperprior's symbols, and `levels` (ceil(h/2), ceil(w/2)).

    In a pooled region, every symbol is the region's mean.
    """

    levels: np.ndarray


def expected(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Returns the tensors of a model: a hyperprior's, and those that choose and code levels."""
    return (
        hyperprior.expected(tensors)
        | graphs(tensors, ("h_a.scores",))
        | {
            "h_a.bias": Tensor("float32", (QUALITIES, 3), -LARGEST_SCORE, LARGEST_SCORE),
            "level_counts": Tensor("int32", (QUALITIES, NONE_ABOVE + 1, 4), 1, 1 << PRECISION),
        }
    )


class Pooling:
    """The sampling of a file by the `levels` (ceil(h/2), ceil(w/2)) of its regions.

    `tables` code the levels.
    """

    def __init__(self, levels: np.ndarray, tables: Tables, quality_byte: int) -> None:
        self.levels = levels
        self._tables, self._quality = tables, quality_byte

    def streams(self) -> list[bytes]:
        encoder = Encoder(self._tables)
        for row in reversed(range(len(self.levels))):
            encoder.band(self.levels[row] - POOL, _contexts(self.levels, row, self._quality))
        return [encoder.finish()]

    def rounded(self, residual: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Rounds, with the mean for every symbol of a pooled region and 0 for a dropped one."""
        regions = slice(columns.start // REGION, -(-columns.stop // REGION))
        return _pooled(residual, self._of(rows)[:, regions])

    def encode(
        self, encoder: Encoder, symbols: np.ndarray, tables: np.ndarray, rows: slice
    ) -> None:
        coded = _coded(self._of(rows), tables.shape[1:])
        encoder.band(symbols[:, coded], tables[:, coded])

    def decode(self, decoder: Decoder, tables: np.ndarray, rows: slice) -> np.ndarray:
        return _read(decoder, tables, self._of(rows))

    def skip(self, decoder: Decoder, tables: np.ndarray, rows: slice) -> None:
        decoder.skip(tables[:, _coded(self._of(rows), tables.shape[1:])])

    def _of(self, rows: slice) -> np.ndarray:
        """Returns the levels of a band of y. The band must begin at the edge of a region."""
        return self.levels[rows.start // REGION : -(-rows.stop // REGION)]


class Lfic(Hyperprior):
    """Codes with one model's tensors and graphs.

    Raises ValueError for tensors that do not fit together.
    """

    streams = STREAMS

    def __init__(self, tensors: dict[str, np.ndarray], transforms: Transforms) -> None:
        super().__init__(tensors, transforms)
        counts, self._bias = tensors["level_counts"], tensors["h_a.bias"]
        self._level_tables = Tables(counts.ravel(), np.arange(0, counts.size + 1, 4))

    def choose_sampling(self, y: np.ndarray, z_symbols: np.ndarray, quality_byte: int) -> Pooling:
        """Chooses each region's level by its y and the bits that all its samples would take."""
        bits = np.empty((1, *y.shape[1:]), np.float32)
        for rows in bands(y.shape[1], BAND):
            band = self.predict_band(z_symbols, rows, y.shape[2], quality_byte)
            for columns, prediction in band.strips():
                residual = self.residual(y[:, band.rows, columns], prediction)
                taken = self.tables.bits(np.rint(residual), prediction.tables)
                bits[0, band.rows, columns] = taken.sum(0)
        relative = np.log2((1 + bits) / (1 + bits.mean()))
        seen = np.concatenate([y, relative])
        scores = self._transforms.of_latents("h_a.scores.onnx", seen, DOWNSAMPLING, REGION)
        levels = (scores + self._bias[quality_byte][:, None, None]).argmax(0)
        return Pooling(levels, self._level_tables, quality_byte)

    def decode_sampling(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> Pooling:
        levels = self._decode_levels(streams[0], size, quality_byte)
        return Pooling(levels, self._level_tables, quality_byte)

    def decode_symbols(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> Symbols:
        symbols = super().decode_symbols(streams, size, quality_byte)
        levels = self._decode_levels(streams[1], positions(size), quality_byte)
        return Symbols(**vars(symbols), levels=levels)

    def allocation(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> np.ndarray:
        """Returns, for each pixel, the share of samples its region keeps, 0..1, float16 (*size)."""
        shares = SHARES[self._decode_levels(streams[1], positions(size), quality_byte)]
        side = REGION * DOWNSAMPLING
        return shares.repeat(side, 0).repeat(side, 1)[: size[0], : size[1]]

    def _decode_levels(self, stream: bytes, size: tuple[int, int], quality_byte: int) -> np.ndarray:
        """Returns the level of each region. `size` is y's (h, w). Raises FormatError."""
        decoder = Decoder(self._level_tables, stream)
        levels = np.empty([-(-side // REGION) for side in size], np.int64)
        for row in range(len(levels)):
            levels[row] = decoder.band(_contexts(levels, row, quality_byte)) + POOL
            if decoder.escapes:  # checked here because the levels choose the next row's tables
                raise FormatError("a region has a level that does not exist")
        decoder.finish()
        return levels


def _contexts(levels: np.ndarray, row: int, quality_byte: int) -> np.ndarray:
    """Returns the table of each level of a row, which depends on the level above it."""
    above = levels[row - 1] if row else np.full(levels.shape[1], NONE_ABOVE)
    return quality_byte * (NONE_ABOVE + 1) + above


def _spread(regions: np.ndarray) -> np.ndarray:
    """Repeats each value of regions (..., h, w) for its four positions, to (..., 2h, 2w)."""
    return regions.repeat(REGION, -2).repeat(REGION, -1)


def _coded(levels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Returns which positions (rows, w) are coded: all of a region, its first one, or none."""
    first = np.zeros(size, bool)
    first[::REGION, ::REGION] = True
    spread = _spread(levels)[: size[0], : size[1]]
    return (spread == KEEP) | (spread == POOL) & first


def _pooled(residual: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Returns rounded residuals (M, rows, w): the mean in pooled regions, 0 in dropped ones."""
    channels, height, width = residual.shape
    padded = np.zeros((channels, *(REGION * side for side in levels.shape)))
    padded[:, :height, :width] = residual
    there = np.zeros(padded.shape[1:])
    there[:height, :width] = 1
    split = (levels.shape[0], REGION, levels.shape[1], REGION)
    means = padded.reshape(channels, *split).sum((2, 4)) / there.reshape(split).sum((1, 3))
    spread = _spread(levels)
    return np.rint(np.where(spread == KEEP, padded, np.where(spread == POOL, _spread(means), 0)))[
        :, :height, :width
    ]


def _read(decoder: Decoder, tables: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Returns a band's symbols, int32 (M, rows, w), with a pooled region's at all its positions."""
    _, height, width = tables.shape
    coded = _coded(levels, (height, width))
    symbols = np.zeros(tables.shape, np.int32)
    symbols[:, coded] = decoder.band(tables[:, coded])
    pooled = _spread(levels)[:height, :width] == POOL
    return np.where(pooled, _spread(symbols[:, ::REGION, ::REGION])[:, :height, :width], symbols)


build = Lfic
