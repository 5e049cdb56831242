"""Channel slices, each predicted from z and the slices before it: streams "z" and "y".

y (M, h, w) is coded in blocks of BLOCK positions, one row of blocks after the other, and slice by
slice within a block. z predicts all slices; for each slice except the first, a network corrects
this prediction (networks/sliced.py). The network sees only z and the earlier slices of its own
block, so that a block bounds the memory for pictures of any shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from facecodec.container import MAX_QUALITY_BYTE, QUALITY_STEPS
from facecodec.entropy import Decoder, Encoder, Tables, as_integers
from facecodec.exact import (
    FRACTION,
    GAIN_FRACTION,
    IntegerNetwork,
    expected_layers,
    read_layers,
    rescale,
)
from facecodec.families import hyperlatent
from facecodec.families.hyperlatent import QUALITIES, HyperLatent, bands
from facecodec.families.hyperprior import (
    DOWNSAMPLING,
    Latents,
    Symbols,
    analysed,
    finest,
    positions,
)
from facecodec.sessions import Transforms
from facecodec.tensors import GRAPH, REACH, Tensor

STREAMS = ("z", "y")
BLOCK = (16, 64)  # rows and columns of y; multiples of hyperlatent.HYPER
GAINS = ("y_log_gain", "y_gain", "y_inverse_gain")
GRAPHS = ("g_a", "h_a", "g_s")
LARGEST_VALUE = 1 << 31  # in units of 2^-10 of a step; values are clipped to it for later slices
ONE = np.array(1)  # with this factor, `rescale` only rounds the fraction away
UNIT = (1 << FRACTION) // QUALITY_STEPS  # a step of the quality byte in units of 2^-10


@dataclass(frozen=True)
class Slice:
    """One slice of a block: some `channels` of y.

    `tables`, `means`, in units of 2^-10 of a step, and `symbols` are (m, rows, columns).
    """

    channels: slice
    tables: np.ndarray
    means: np.ndarray
    symbols: np.ndarray


@dataclass(frozen=True)
class Block:
    """A part of y, its prediction from z, and the quality byte of each of its positions.

    `predicted` has M scales, M means and F features for each position, in units of 2^-10.
    """

    rows: slice
    columns: slice
    predicted: np.ndarray
    qualities: np.ndarray


# Takes a block, channels of y, tables and means, and returns the symbols there.
Source = Callable[[Block, slice, np.ndarray, np.ndarray], np.ndarray]


def expected(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Returns the tensors of a model.

    It has as many slices as `slices` has numbers, and a network for each but the first.
    """
    wanted = dict.fromkeys((f"{name}.onnx" for name in GRAPHS), GRAPH)
    wanted |= {f"{name}.reach": REACH for name in GRAPHS} | hyperlatent.expected(tensors)
    for number in range(1, tensors["slices"].size if "slices" in tensors else 0):
        wanted |= expected_layers(tensors, f"slice{number}")
    return wanted | {
        "slices": Tensor("int32", ("S",), 1),
        "y_log_gain": Tensor("int32", (QUALITIES, "M")),
        "y_gain": Tensor("int32", (QUALITIES, "M"), 1),
        "y_inverse_gain": Tensor("int32", (QUALITIES, "M"), 1),
    }


class Sliced:
    """Codes with one model's tensors and graphs.

    Raises ValueError for tensors that do not fit together.
    """

    enlarges = True

    def __init__(self, tensors: dict[str, np.ndarray], transforms: Transforms) -> None:
        self._transforms = transforms
        self.tables = Tables(tensors["table_counts"], tensors["table_starts"])
        self.z = HyperLatent(tensors, self.tables)
        self.gains = {name: tensors[name].astype(np.int64) for name in GAINS}
        self._by_channel = {name: gain.T for name, gain in self.gains.items()}
        stops = np.cumsum(tensors["slices"], dtype=np.int64).tolist()
        self.channels = stops[-1]
        self.parts = [slice(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)]
        self.networks = [
            IntegerNetwork(read_layers(tensors, f"slice{i}")) for i in range(1, len(self.parts))
        ]
        if len(self._by_channel["y_gain"]) != self.channels:
            raise ValueError("the slices have other channels than the gains")
        features = self.z.outputs - 2 * self.channels - 1
        if features < 0:
            raise ValueError("the hyper-synthesis has the wrong number of channels")
        largest = self.z.h_s.largest
        for part, network in zip(self.parts[1:], self.networks, strict=True):
            size = part.stop - part.start
            given = (features + 1 + 2 * size + part.start, 2 * size)
            if network.channels != given or network.upsampling != 1:
                raise ValueError("a slice's network has the wrong channels")
            largest = max(largest, self.z.h_s.largest + network.largest)
        if largest * self._by_channel["y_gain"].max() >= 2.0**62:
            raise ValueError("a mean could overflow")
        steps = 2.0 ** (GAIN_FRACTION - FRACTION) / self._by_channel["y_gain"]
        self._steps = steps.astype(np.float32)
        self._index = np.min_scalar_type(len(self.tables) - 1)

    def sees_quality(self) -> bool:
        return self._transforms.sees_quality("g_a.onnx")

    def analyse(self, pixels: np.ndarray, quality_byte: int) -> Latents:
        """Returns y and z of uint8 (H, W, 3) for a quality byte."""
        channels = (self.channels, self.z.channels)
        return analysed(self._transforms, pixels, quality_byte, channels)

    def unrounded(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the latents as from `decode_latents` at the finest quality, but not rounded."""
        y = finest(self._transforms, pixels)
        quality = np.full((1, *y.shape[1:]), MAX_QUALITY_BYTE / QUALITY_STEPS, np.float32)
        return np.concatenate([y, quality])

    def encode(self, latents: Latents, quality_byte: int) -> list[bytes]:
        """Returns the streams of float latents at a quality byte."""
        y, z = latents
        z_symbols = self.z.rounded(z, quality_byte)
        encoder = Encoder(self.tables)
        for rows, columns in reversed(places(y.shape[1:])):
            block = self.block(z_symbols, rows, columns, quality_byte)
            for each in reversed(list(self.code(block, self._rounding(y)))):
                encoder.band(each.symbols, each.tables)
        return [self.z.encode(z_symbols, quality_byte), encoder.finish()]

    def matches(
        self, streams: list[bytes], size: tuple[int, int], latents: Latents, quality_byte: int
    ) -> bool:
        """Returns whether the streams decode to what the latents round to. Raises FormatError."""
        y, z = latents
        reader = StreamReader(self, streams, size, quality_byte)
        same = np.array_equal(reader.z, self.z.rounded(z, quality_byte))
        rounding = self._rounding(y)
        for block, each in reader.slices():
            rounded = rounding(block, each.channels, each.tables, each.means)
            same &= np.array_equal(each.symbols, rounded)
        return same

    def decode_symbols(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> Symbols:
        """Returns the integers in the streams. Raises FormatError."""
        reader = StreamReader(self, streams, size, quality_byte)
        y = np.empty((self.channels, *reader.size), np.int32)
        tables = np.empty(y.shape, self._index)
        means = np.empty(y.shape, np.int64)
        qualities = np.empty(reader.size, np.uint8)
        for block, each in reader.slices():
            qualities[block.rows, block.columns] = block.qualities
            y[each.channels, block.rows, block.columns] = each.symbols
            tables[each.channels, block.rows, block.columns] = each.tables
            means[each.channels, block.rows, block.columns] = each.means
        return Symbols(reader.z, y, tables, means, qualities, reader.escapes())

    def count_escapes(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> dict[str, int]:
        """Returns the number of escapes by stream. Keeps no more than a block of symbols."""
        reader = StreamReader(self, streams, size, quality_byte)
        for _ in reader.slices():
            pass
        return reader.escapes()

    def decode(self, streams: list[bytes], size: tuple[int, int], quality_byte: int) -> np.ndarray:
        """Returns the picture, uint8 (*size, 3).

        Raises FormatError for streams that no encoder writes.
        """
        y_hat = self.decode_latents(streams, size, quality_byte)
        return self._transforms.to_pixels("g_s.onnx", y_hat, size, DOWNSAMPLING)

    def decode_latents(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> np.ndarray:
        """Returns the synthesis's input, float32 (M + 1, h, w): y_hat, and q - 1 per position."""
        reader = StreamReader(self, streams, size, quality_byte)
        y_hat = np.empty((self.channels + 1, *reader.size), np.float32)
        for block, each in reader.slices():
            y_hat[-1, block.rows, block.columns] = block.qualities / np.float32(QUALITY_STEPS)
            restored = self._restored(each, block.qualities)
            y_hat[each.channels, block.rows, block.columns] = restored
        return y_hat

    def block(self, z: np.ndarray, rows: slice, columns: slice, quality_byte: int) -> Block:
        """Returns the block of y at some rows and columns, predicted from z."""
        out = self.z.predict(z, rows, columns, quality_byte)
        qualities = np.clip(quality_byte + rescale(out[-1], ONE, FRACTION), 0, MAX_QUALITY_BYTE)
        return Block(rows, columns, out[:-1], qualities)

    def code(self, block: Block, source: Source) -> Iterator[Slice]:
        """Yields the slices of a block in order. Their symbols come from `source`."""
        features = block.predicted[2 * self.channels :]
        values = np.empty((self.channels, *block.qualities.shape), np.int64)  # what slices see
        seen = [features, block.qualities[None] * UNIT]
        for part, network in zip(self.parts, [None, *self.networks], strict=True):
            log_gain, gain, inverse = (
                self._by_channel[name][part][:, block.qualities] for name in GAINS
            )
            means_at = slice(self.channels + part.start, self.channels + part.stop)
            parameters = np.concatenate([block.predicted[part], block.predicted[means_at]])
            if network is not None:
                parameters = parameters + network(
                    np.concatenate([*seen, parameters, values[: part.start]])
                )
            scales, means = np.split(parameters, 2)
            indices = rescale(scales + log_gain, ONE, FRACTION)
            tables = np.clip(indices, 0, len(self.tables) - 1).astype(self._index)
            means = rescale(means, gain, GAIN_FRACTION)
            symbols = source(block, part, tables, means)
            yield Slice(part, tables, means, symbols)
            value = (symbols.astype(np.int64) << FRACTION) + means
            value = np.clip(value, -LARGEST_VALUE, LARGEST_VALUE)
            values[part] = rescale(value, inverse, GAIN_FRACTION)

    def _rounding(self, y: np.ndarray) -> Source:
        """Returns a source that rounds y minus its mean, in steps of its position's quality."""

        def symbols(block: Block, part: slice, tables: np.ndarray, means: np.ndarray) -> np.ndarray:
            gain = self._by_channel["y_gain"][part][:, block.qualities] / 2.0**GAIN_FRACTION
            there = y[part, block.rows, block.columns]
            return as_integers(np.rint(there * gain - means * 2.0**-FRACTION))

        return symbols

    def _restored(self, each: Slice, qualities: np.ndarray) -> np.ndarray:
        """Returns y_hat of a slice, float32."""
        values = np.left_shift(each.symbols, FRACTION, dtype=np.int64)
        values += each.means
        return values.astype(np.float32) * self._steps[each.channels][:, qualities]


class StreamReader:
    """Reads the streams of a file: z at once, y slice by slice."""

    def __init__(
        self, family: Sliced, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> None:
        self.size = positions(size)  # of y
        self.z, self._z_escapes = family.z.decode(streams[0], self.size, quality_byte)
        self._decoder = Decoder(family.tables, streams[1])
        self._family, self._quality_byte = family, quality_byte

    def slices(self) -> Iterator[tuple[Block, Slice]]:
        """Yields every slice with its block, in coding order.

        Raises FormatError after the last one if the stream contains more.
        """
        for rows, columns in places(self.size):
            block = self._family.block(self.z, rows, columns, self._quality_byte)
            for each in self._family.code(block, from_stream(self._decoder)):
                yield block, each
        self._decoder.finish()

    def escapes(self) -> dict[str, int]:
        """Returns how many of the symbols read so far lie beyond their table, by stream."""
        return {"z": self._z_escapes, "y": self._decoder.escapes}


def places(size: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Returns the rows and columns of y's blocks, in coding order. `size` is y's (h, w)."""
    return list(product(bands(size[0], BLOCK[0]), bands(size[1], BLOCK[1])))


def from_stream(decoder: Decoder) -> Source:
    """Returns a source that reads symbols from a stream."""
    return lambda block, part, tables, means: decoder.band(tables)


build = Sliced
