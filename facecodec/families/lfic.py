"""Regionally adaptive pooling: regions of y keep all their samples, or their mean, or none; streams "z", "levels", "y".

After Chen and He, "Learning based Facial Image Compression with Semantic Fidelity Metric" (2018). What is pooled is
the difference of y to what z predicts of it (families/hyperprior.py), so that a region without samples is still
painted as z says. The levels are what a decoder needs to undo the pooling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecodec.entropy import PRECISION, Decoder, Encoder, Tables
from facecodec.errors import FormatError
from facecodec.families import hyperprior
from facecodec.families.hyperprior import (
    DOWNSAMPLING,
    QUALITIES,
    BandPrediction,
    Hyperprior,
    Latents,
    bands,
    positions,
)
from facecodec.sessions import Transforms
from facecodec.tensors import GRAPH, Tensor

STREAMS = ("z", "levels", "y")
REGION = 2  # positions of y along each side of a region
KEEP, POOL, DROP = range(3)  # levels
SHARES = np.array(
    [1, 1 / REGION**2, 0], np.float32
)  # of its samples that a region keeps at each level
NONE_ABOVE = 3  # what the topmost regions have above them
LARGEST_SCORE = 1e30  # far above any, and finite
REACH = 4  # positions of y to each side that the scores look at (networks/lfic.py)


@dataclass(frozen=True)
class Symbols:
    """What a file holds: z and y as coded, pooled regions with their mean everywhere, y's means and quality bytes, and
    the levels (ceil(h/2), ceil(w/2)); escapes by stream."""

    z: np.ndarray
    y: np.ndarray
    means: np.ndarray
    qualities: np.ndarray
    levels: np.ndarray
    escapes: dict[str, int]


def expected(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The tensors of a model: those of a hyperprior, and what chooses and codes the levels."""
    return hyperprior.expected(tensors) | {
        "h_a.scores.onnx": GRAPH,
        "h_a.bias": Tensor("float32", (QUALITIES, 3), -LARGEST_SCORE, LARGEST_SCORE),
        "level_counts": Tensor("int32", (QUALITIES, NONE_ABOVE + 1, 4), 1, 1 << PRECISION),
    }


class Lfic:
    """Built from the tensors that `expected` names, and graphs. Raises ValueError where they do not fit."""

    def __init__(self, tensors: dict[str, np.ndarray], transforms: Transforms) -> None:
        self._transforms = transforms
        self._base = Hyperprior(tensors, transforms)
        counts, self._bias = tensors["level_counts"], tensors["h_a.bias"]
        self._tables = Tables(counts.ravel(), np.arange(0, counts.size + 1, 4))

    def analyse(self, pixels: np.ndarray) -> Latents:
        """y and z of uint8 (H, W, 3)."""
        return self._base.analyse(pixels)

    def encode(self, latents: Latents, quality: int) -> list[bytes]:
        y, z = latents
        z_symbols = self._base.rounded_z(z, quality)
        levels = self._levels(y, z_symbols, quality)
        level_encoder, encoder = Encoder(self._tables), Encoder(self._base.tables)
        for row in reversed(range(len(levels))):
            level_encoder.band(levels[row] - POOL, _contexts(levels, row, quality))
        for rows in reversed(bands(y.shape[1])):
            band = self._base.predict_band(z_symbols, rows, y.shape[2], quality)
            coded = _coded(_of(levels, band.rows), y[0, band.rows].shape)
            encoder.band(self._pooled(y, band, levels)[:, coded], band.tables()[:, coded])
        return [self._base.encode_z(z_symbols, quality), level_encoder.finish(), encoder.finish()]

    def matches(
        self, streams: list[bytes], size: tuple[int, int], latents: Latents, quality: int
    ) -> bool:
        y, z = latents
        z_symbols, _ = self._base.decode_z(streams[0], positions(size), quality)
        levels = self._decode_levels(streams[1], positions(size), quality)
        if not np.array_equal(z_symbols, self._base.rounded_z(z, quality)):
            return False
        same = np.array_equal(levels, self._levels(y, z_symbols, quality))
        decoder = Decoder(self._base.tables, streams[2])
        for rows in bands(y.shape[1]):
            band = self._base.predict_band(z_symbols, rows, y.shape[2], quality)
            decoded = _read(decoder, band.tables(), _of(levels, band.rows))
            same &= np.array_equal(decoded, self._pooled(y, band, levels))
        decoder.finish()
        return same

    def decode_symbols(self, streams: list[bytes], size: tuple[int, int], quality: int) -> Symbols:
        size = positions(size)
        z, z_escapes = self._base.decode_z(streams[0], size, quality)
        levels = self._decode_levels(streams[1], size, quality)
        decoder = Decoder(self._base.tables, streams[2])
        y = np.empty((self._base.channels, *size), np.int32)
        means = np.empty(y.shape, np.int64)
        qualities = np.empty(size, np.uint8)
        for rows in bands(size[0]):
            band = self._base.predict_band(z, rows, size[1], quality)
            y[:, band.rows] = _read(decoder, band.tables(), _of(levels, band.rows))
            for columns, prediction in band.strips():
                means[:, band.rows, columns] = prediction.means
                qualities[band.rows, columns] = prediction.qualities
        decoder.finish()
        return Symbols(
            z, y, means, qualities, levels, {"z": z_escapes, "levels": 0, "y": decoder.escapes}
        )

    def count_escapes(
        self, streams: list[bytes], size: tuple[int, int], quality: int
    ) -> dict[str, int]:
        """Reads every symbol and keeps none."""
        size = positions(size)
        z, z_escapes = self._base.decode_z(streams[0], size, quality)
        levels = self._decode_levels(streams[1], size, quality)
        decoder = Decoder(self._base.tables, streams[2])
        for rows in bands(size[0]):
            band = self._base.predict_band(z, rows, size[1], quality)
            tables = band.tables()
            decoder.skip(tables[:, _coded(_of(levels, band.rows), tables.shape[1:])])
        decoder.finish()
        return {"z": z_escapes, "levels": 0, "y": decoder.escapes}

    def decode_latents(
        self, streams: list[bytes], size: tuple[int, int], quality: int
    ) -> np.ndarray:
        """y_hat, float32 (M, h, w)."""
        size = positions(size)
        z, _ = self._base.decode_z(streams[0], size, quality)
        levels = self._decode_levels(streams[1], size, quality)
        decoder = Decoder(self._base.tables, streams[2])
        y_hat = np.empty((self._base.channels, *size), np.float32)
        for rows in bands(size[0]):
            band = self._base.predict_band(z, rows, size[1], quality)
            symbols = _read(decoder, band.tables(), _of(levels, band.rows))
            self._base.restore(symbols, band, out=y_hat[:, band.rows])
        decoder.finish()
        return y_hat

    def decode(self, streams: list[bytes], size: tuple[int, int], quality: int) -> np.ndarray:
        """The picture, uint8 (*size, 3)."""
        return self._base.synthesise(self.decode_latents(streams, size, quality), size)

    def allocation(self, streams: list[bytes], size: tuple[int, int], quality: int) -> np.ndarray:
        """The share of its samples that each pixel's region keeps, 0..1 (*size)."""
        shares = SHARES[self._decode_levels(streams[1], positions(size), quality)]
        side = REGION * DOWNSAMPLING
        return shares.repeat(side, 0).repeat(side, 1)[: size[0], : size[1]]

    def images(self, streams: list[bytes]) -> dict[str, bytes]:
        """None."""
        return {}

    def _levels(self, y: np.ndarray, z_symbols: np.ndarray, quality: int) -> np.ndarray:
        """The level of each region, by what y is and what it would take to keep all of it."""
        bits = np.empty((1, *y.shape[1:]), np.float32)
        for rows in bands(y.shape[1]):
            band = self._base.predict_band(z_symbols, rows, y.shape[2], quality)
            for columns, prediction in band.strips():
                residual = self._base.residual(y[:, band.rows, columns], prediction)
                taken = self._base.tables.bits(np.rint(residual), prediction.tables)
                bits[0, band.rows, columns] = taken.sum(0)
        relative = np.log2((1 + bits) / (1 + bits.mean()))
        seen = np.concatenate([y, relative])
        scores = self._transforms.of_latents("h_a.scores.onnx", seen, DOWNSAMPLING, REGION, REACH)
        return (scores + self._bias[quality][:, None, None]).argmax(0)

    def _pooled(self, y: np.ndarray, band: BandPrediction, levels: np.ndarray) -> np.ndarray:
        """The symbols of a band, as floats: those of pooled regions the rounded mean, of dropped ones 0."""
        symbols = np.empty_like(y[:, band.rows])
        for columns, prediction in band.strips():
            residual = self._base.residual(y[:, band.rows, columns], prediction)
            regions = _of(levels, band.rows)[
                :, columns.start // REGION : -(-columns.stop // REGION)
            ]
            symbols[..., columns] = _pooled(residual, regions)
        return symbols

    def _decode_levels(self, stream: bytes, size: tuple[int, int], quality: int) -> np.ndarray:
        """The level of each region, of a y of a `size`."""
        decoder = Decoder(self._tables, stream)
        levels = np.empty([-(-side // REGION) for side in size], np.int64)
        for row in range(len(levels)):
            levels[row] = decoder.band(_contexts(levels, row, quality)) + POOL
            if decoder.escapes:  # at once: the level above chooses the next row's table
                raise FormatError("a region has a level that there is not")
        decoder.finish()
        return levels


def _contexts(levels: np.ndarray, row: int, quality: int) -> np.ndarray:
    """The table of each level of a row: by the level above."""
    above = levels[row - 1] if row else np.full(levels.shape[1], NONE_ABOVE)
    return quality * (NONE_ABOVE + 1) + above


def _of(levels: np.ndarray, rows: slice) -> np.ndarray:
    """Levels of a band of y, which begins with a region."""
    return levels[rows.start // REGION : -(-rows.stop // REGION)]


def _spread(regions: np.ndarray) -> np.ndarray:
    """(..., h, w) of regions to (..., 2h, 2w) of positions."""
    return regions.repeat(REGION, -2).repeat(REGION, -1)


def _coded(levels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Which positions (rows, w) have samples: all of a region, or the first for all, or none."""
    first = np.zeros(size, bool)
    first[::REGION, ::REGION] = True
    spread = _spread(levels)[: size[0], : size[1]]
    return (spread == KEEP) | (spread == POOL) & first


def _pooled(residual: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Rounded residuals (M, rows, w), those of pooled regions the rounded mean, those of dropped ones 0."""
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
    """A band's symbols, int32 (M, rows, w), pooled regions with theirs everywhere."""
    _, height, width = tables.shape
    coded = _coded(levels, (height, width))
    symbols = np.zeros(tables.shape, np.int32)
    symbols[:, coded] = decoder.band(tables[:, coded])
    pooled = _spread(levels)[:height, :width] == POOL
    return np.where(pooled, _spread(symbols[:, ::REGION, ::REGION])[:, :height, :width], symbols)


build = Lfic
