"""Mean-scale hyperprior: latents y (M, h, w), z (C, ceil(h/4), ceil(w/4)) <-> streams "z" and "y".

families/hyperlatent.py codes z. The hyper-synthesis of z predicts a mean and a table for each value
of y, and y minus its mean is coded with that table. It may also shift the quality of each position.
So that memory hardly grows with the size of the picture, y is coded in bands of BAND rows, and the
hyper-synthesis runs in strips of STRIP columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from facecodec.container import MAX_QUALITY_BYTE, quality_of
from facecodec.entropy import Decoder, Encoder, Tables
from facecodec.errors import ModelError
from facecodec.exact import FRACTION, GAIN_FRACTION, rescale
from facecodec.families import hyperlatent
from facecodec.families.hyperlatent import HYPER, QUALITIES, HyperLatent, bands
from facecodec.sessions import Transforms
from facecodec.tensors import Tensor, graphs

STREAMS = ("z", "y")
DOWNSAMPLING = 16  # pixels per position of y
BAND = 16  # rows of y coded together
STRIP = 64  # columns of y that the hyper-synthesis predicts together; a multiple of HYPER

GAINS = ("y_log_gain", "y_gain")

Latents = tuple[np.ndarray, np.ndarray]  # y (M, h, w) and z (C, ceil(h/4), ceil(w/4)), float32


@dataclass(frozen=True)
class Symbols:
    """The integers in a file: z (C, ., .) and y (M, h, w) as coded, and escapes by stream.

    `tables` has the probability table of each symbol of y. `means` are y's, in units of 2^-10.
    `qualities` (h, w) has the quality byte of each position.
    """

    z: np.ndarray
    y: np.ndarray
    tables: np.ndarray
    means: np.ndarray
    qualities: np.ndarray
    escapes: dict[str, int]


@dataclass(frozen=True)
class Prediction:
    """The prediction of a part of y from z.

    `tables` and `means`, in units of 2^-10, are (M, rows, columns). `qualities` (rows, columns) has
    the quality byte of each position.
    """

    tables: np.ndarray
    means: np.ndarray
    qualities: np.ndarray


def expected(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Returns the tensors of a model."""
    return (
        graphs(tensors, ("g_a", "h_a", "g_s"))
        | hyperlatent.expected(tensors)
        | {
            "y_log_gain": Tensor("int32", (QUALITIES, "M")),
            "y_gain": Tensor("int32", (QUALITIES, "M"), 1),
        }
    )


class BandPrediction:
    """The prediction of a band of y, strip by strip.

    Only the last strip is kept. So a band of one strip is predicted once, and a wider band each
    time that it is read, which costs time but no memory.
    """

    def __init__(
        self, family: Hyperprior, z_symbols: np.ndarray, rows: slice, width: int, quality_byte: int
    ) -> None:
        self.rows = rows
        self._shape = (family.channels, rows.stop - rows.start, width)
        self._index = family.table_index
        self._strips = [slice(at, min(at + STRIP, width)) for at in range(0, width, STRIP)]
        self._predict = lru_cache(maxsize=1)(
            lambda number: family.prediction(z_symbols, rows, self._strips[number], quality_byte)
        )

    def strips(self) -> Iterator[tuple[slice, Prediction]]:
        """Yields the columns of each strip and their prediction."""
        for number, columns in enumerate(self._strips):
            yield columns, self._predict(number)

    def tables(self) -> np.ndarray:
        """Returns the table of each symbol of the band, (M, rows, w)."""
        tables = np.empty(self._shape, self._index)
        for columns, prediction in self.strips():
            tables[..., columns] = prediction.tables
        return tables


class Sampling(Protocol):
    """Which samples of y a file contains, and how the others are filled in.

    `rows` are the rows of a band of y; `tables` (M, rows, w) are the tables of its samples.
    """

    def streams(self) -> list[bytes]:
        """Returns the streams that describe the sampling. They lie between those of z and y."""

    def rounded(self, residual: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Rounds a `residual` of `Hyperprior.residual` to symbols, as floats."""

    def encode(
        self, encoder: Encoder, symbols: np.ndarray, tables: np.ndarray, rows: slice
    ) -> None:
        """Writes those symbols of a band that the file contains."""

    def decode(self, decoder: Decoder, tables: np.ndarray, rows: slice) -> np.ndarray:
        """Returns all symbols of a band, int32 (M, rows, w), read or filled in."""

    def skip(self, decoder: Decoder, tables: np.ndarray, rows: slice) -> None:
        """Reads the symbols of a band and keeps none."""


class AllSamples:
    """The sampling of a file that contains all samples of y."""

    def streams(self) -> list[bytes]:
        return []

    def rounded(self, residual: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        return np.rint(residual)

    def encode(
        self, encoder: Encoder, symbols: np.ndarray, tables: np.ndarray, rows: slice
    ) -> None:
        encoder.band(symbols, tables)

    def decode(self, decoder: Decoder, tables: np.ndarray, rows: slice) -> np.ndarray:
        return decoder.band(tables)

    def skip(self, decoder: Decoder, tables: np.ndarray, rows: slice) -> None:
        decoder.skip(tables)


class StreamReader:
    """Reads the streams of a file: z and the sampling at once, y band by band."""

    def __init__(
        self, family: Hyperprior, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> None:
        self.size = positions(size)  # of y
        self.z, z_escapes = family.z.decode(streams[0], self.size, quality_byte)
        self.sampling = family.decode_sampling(streams[1:-1], self.size, quality_byte)
        self.decoder = Decoder(family.tables, streams[-1])
        self._family, self._quality, self._z_escapes = family, quality_byte, z_escapes

    def bands(self) -> Iterator[BandPrediction]:
        """Yields the bands of y from the top. Each must be read before the next is asked for.

        Raises FormatError after the last one if the stream contains more.
        """
        height, width = self.size
        for rows in bands(height, BAND):
            yield self._family.predict_band(self.z, rows, width, self._quality)
        self.decoder.finish()

    def escapes(self) -> dict[str, int]:
        """Returns how many of the symbols read so far lie beyond their table, by stream."""
        found = dict.fromkeys(self._family.streams, 0)
        return found | {"z": self._z_escapes, "y": self.decoder.escapes}


class Hyperprior:
    """Codes with one model's tensors and graphs.

    Raises ValueError for tensors that do not fit together. A family that omits samples of y
    overrides `choose_sampling` and `decode_sampling`.
    """

    enlarges = False

    streams: tuple[str, ...] = STREAMS

    def __init__(self, tensors: dict[str, np.ndarray], transforms: Transforms) -> None:
        self._transforms = transforms
        self.tables = Tables(tensors["table_counts"], tensors["table_starts"])
        self.z = HyperLatent(tensors, self.tables)
        self.gains = {name: tensors[name].astype(np.int64) for name in GAINS}
        self.channels = self.gains["y_gain"].shape[1]
        self.has_quality_map = self.z.outputs == 2 * self.channels + 1
        if self.z.outputs - self.has_quality_map != 2 * self.channels:
            raise ValueError("the hyper-synthesis has other channels than the gains")
        if self.z.h_s.largest * self.gains["y_gain"].max() >= 2.0**62:
            raise ValueError("a mean could overflow")
        # By channel, (M, 225), because they are looked up for every position.
        self._by_channel = {name: np.ascontiguousarray(g.T) for name, g in self.gains.items()}
        steps = 2.0 ** (GAIN_FRACTION - FRACTION) / self._by_channel["y_gain"]
        self._steps = steps.astype(np.float32)
        # The smallest type that can number the tables takes the least memory and sorts fastest.
        self.table_index = np.min_scalar_type(len(self.tables) - 1)

    def sees_quality(self) -> bool:
        return self._transforms.sees_quality("g_a.onnx")

    def analyse(self, pixels: np.ndarray, quality_byte: int) -> Latents:
        """Returns y and z of uint8 (H, W, 3) for a quality byte."""
        channels = (self.channels, self.z.channels)
        return analysed(self._transforms, pixels, quality_byte, channels)

    def synthesise(self, y_hat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns the picture, uint8 (*size, 3), of y_hat (M, h, w)."""
        return self._transforms.to_pixels("g_s.onnx", y_hat, size, DOWNSAMPLING)

    def choose_sampling(self, y: np.ndarray, z_symbols: np.ndarray, quality_byte: int) -> Sampling:
        """Returns the sampling with which latents are encoded."""
        return AllSamples()

    def decode_sampling(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> Sampling:
        """Returns the sampling that streams describe. `size` is y's (h, w). Raises FormatError."""
        return AllSamples()

    def unrounded(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the latents as from `decode_latents`, but neither rounded nor coded."""
        return finest(self._transforms, pixels)

    def encode(self, latents: Latents, quality_byte: int) -> list[bytes]:
        """Returns the streams of float latents at a quality byte."""
        y, z = latents
        z_symbols = self.z.rounded(z, quality_byte)
        sampling = self.choose_sampling(y, z_symbols, quality_byte)
        encoder = Encoder(self.tables)
        for rows in reversed(bands(y.shape[1], BAND)):
            band = self.predict_band(z_symbols, rows, y.shape[2], quality_byte)
            sampling.encode(encoder, self.rounded_y(y, band, sampling), band.tables(), rows)
        z_stream = self.z.encode(z_symbols, quality_byte)
        return [z_stream, *sampling.streams(), encoder.finish()]

    def matches(
        self, streams: list[bytes], size: tuple[int, int], latents: Latents, quality_byte: int
    ) -> bool:
        """Returns whether the streams decode to what the latents round to. Raises FormatError."""
        y, z = latents
        z_symbols = self.z.rounded(z, quality_byte)
        reader = StreamReader(self, streams, size, quality_byte)
        if not np.array_equal(reader.z, z_symbols):
            return False
        sampling = self.choose_sampling(y, z_symbols, quality_byte)
        same = sampling.streams() == streams[1:-1]
        for band in reader.bands():
            symbols = reader.sampling.decode(reader.decoder, band.tables(), band.rows)
            same &= np.array_equal(symbols, self.rounded_y(y, band, sampling))
        return same

    def rounded_y(self, y: np.ndarray, band: BandPrediction, sampling: Sampling) -> np.ndarray:
        """Returns the symbols, as floats, of a band of y."""
        symbols = np.empty_like(y[:, band.rows])
        for columns, prediction in band.strips():
            residual = self.residual(y[:, band.rows, columns], prediction)
            symbols[..., columns] = sampling.rounded(residual, band.rows, columns)
        return symbols

    def residual(self, y: np.ndarray, prediction: Prediction) -> np.ndarray:
        """Returns y minus its mean, in quantisation steps of its position's quality."""
        y_gain = self._by_channel["y_gain"][:, prediction.qualities] / 2.0**GAIN_FRACTION
        return y * y_gain - prediction.means * 2.0**-FRACTION

    def decode_symbols(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> Symbols:
        """Returns the integers in the streams. Raises FormatError."""
        reader = StreamReader(self, streams, size, quality_byte)
        y = np.empty((self.channels, *reader.size), np.int32)
        tables = np.empty(y.shape, self.table_index)
        means = np.empty(y.shape, np.int64)
        qualities = np.empty(reader.size, np.uint8)
        for band in reader.bands():
            tables[:, band.rows] = band.tables()
            y[:, band.rows] = reader.sampling.decode(
                reader.decoder, tables[:, band.rows], band.rows
            )
            for columns, prediction in band.strips():
                means[:, band.rows, columns] = prediction.means
                qualities[band.rows, columns] = prediction.qualities
        return Symbols(reader.z, y, tables, means, qualities, reader.escapes())

    def count_escapes(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> dict[str, int]:
        """Returns the number of escapes by stream. Reads every symbol and keeps none."""
        reader = StreamReader(self, streams, size, quality_byte)
        for band in reader.bands():
            reader.sampling.skip(reader.decoder, band.tables(), band.rows)
        return reader.escapes()

    def decode(self, streams: list[bytes], size: tuple[int, int], quality_byte: int) -> np.ndarray:
        """Returns the picture, uint8 (*size, 3).

        Raises FormatError for streams that no encoder writes.
        """
        return self.synthesise(self.decode_latents(streams, size, quality_byte), size)

    def decode_latents(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> np.ndarray:
        """Returns y_hat, float32 (M, h, w)."""
        reader = StreamReader(self, streams, size, quality_byte)
        y_hat = np.empty((self.channels, *reader.size), np.float32)
        for band in reader.bands():
            symbols = reader.sampling.decode(reader.decoder, band.tables(), band.rows)
            self.restore(symbols, band, out=y_hat[:, band.rows])
        return y_hat

    def restore(self, symbols: np.ndarray, band: BandPrediction, out: np.ndarray) -> None:
        """Writes y_hat, float32 (M, rows, w), of a band's symbols to `out`."""
        for columns, prediction in band.strips():
            values = np.left_shift(symbols[..., columns], FRACTION, dtype=np.int64)
            values += prediction.means
            steps = self._steps[:, prediction.qualities]
            np.multiply(values.astype(np.float32), steps, out=out[..., columns])

    def predict_band(
        self, z_symbols: np.ndarray, rows: slice, width: int, quality_byte: int
    ) -> BandPrediction:
        """Returns the prediction of a band of y, which is `width` positions wide."""
        return BandPrediction(self, z_symbols, rows, width, quality_byte)

    def prediction(
        self, z_symbols: np.ndarray, rows: slice, columns: slice, quality_byte: int
    ) -> Prediction:
        """Returns the prediction of some rows and columns of y, from multiples of HYPER on."""
        out = self.z.predict(z_symbols, rows, columns, quality_byte)
        half = 1 << (FRACTION - 1)
        scales, means = out[: self.channels], out[self.channels : 2 * self.channels]
        shift = (
            (out[-1] + half) >> FRACTION
            if self.has_quality_map
            else np.zeros(out.shape[1:], np.int64)
        )
        qualities = np.clip(quality_byte + shift, 0, MAX_QUALITY_BYTE)
        indices = self._by_channel["y_log_gain"][:, qualities]
        indices += scales
        indices += half
        indices >>= FRACTION
        tables = np.clip(indices, 0, len(self.tables) - 1, out=indices).astype(self.table_index)
        return Prediction(
            tables,
            rescale(means, self._by_channel["y_gain"][:, qualities], GAIN_FRACTION),
            qualities,
        )


def analysed(
    transforms: Transforms, pixels: np.ndarray, quality_byte: int, channels: tuple[int, int]
) -> Latents:
    """Returns y and z of uint8 (H, W, 3). Raises ModelError unless they have these `channels`."""
    y = transforms.of_pixels("g_a.onnx", pixels, DOWNSAMPLING, quality_of(quality_byte))
    z = transforms.of_latents("h_a.onnx", y, DOWNSAMPLING, HYPER)
    if (len(y), len(z)) != channels:
        raise ModelError("the model's analysis gives other channels than its tables have")
    return y, z


def finest(transforms: Transforms, pixels: np.ndarray) -> np.ndarray:
    """Returns y of uint8 (H, W, 3) for the highest quality."""
    return transforms.of_pixels("g_a.onnx", pixels, DOWNSAMPLING, quality_of(MAX_QUALITY_BYTE))


def positions(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) of y for those of a picture."""
    return -(-size[0] // DOWNSAMPLING), -(-size[1] // DOWNSAMPLING)


build = Hyperprior
