"""Channel slices, each predicted from z and the slices before it: streams "z" and "y".

y (M, h, w) is coded in blocks of BLOCK positions, row by row of blocks, and within a block slice by
slice. z predicts all slices; a network corrects this for each slice but the first
(networks/sliced.py). It sees z and the earlier slices of its own block alone, so that memory is
bounded by a block for pictures of any shape.
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
from facecodec.families.hyperprior import DOWNSAMPLING, Latents, Symbols, analysed, positions
from facecodec.sessions import Transforms
from facecodec.tensors import GRAPH, REACH, Tensor

STREAMS = ("z", "y")
BLOCK = (16, 64)  # rows and columns of y; multiples of hyperlatent.HYPER
GAINS = ("y_log_gain", "y_gain", "y_inverse_gain")
GRAPHS = ("g_a", "h_a", "g_s")
LARGEST_VALUE = 1 << 31  # in units of 2^-10 of a step, of what later slices see; beyond is cut
ONE = np.array(1)  # a factor that only rounds away the bits after the point
UNIT = (1 << FRACTION) // QUALITY_STEPS  # a step of the quality byte in units of 2^-10


@dataclass(frozen=True)
class Slice:
    """One slice of a block: its `channels` of y, and for each symbol (m, rows, columns) its table
    and mean (units of 2^-10 of a step), with the symbols themselves."""

    channels: slice
    tables: np.ndarray
    means: np.ndarray
    symbols: np.ndarray


@dataclass(frozen=True)
class Block:
    """A part of y, what z says of it (units of 2^-10), and the quality byte of each of its places.

    z says M scales, M means and F features for each place.
    """

    rows: slice
    columns: slice
    said: np.ndarray
    qualities: np.ndarray


# From a block, channels of y, tables and means to the symbols there.
Source = Callable[[Block, slice, np.ndarray, np.ndarray], np.ndarray]


def expected(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Returns the tensors of a model; it has as many slices as `slices` has numbers, all but the
    first with a network.
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
    """The family's methods with one model's tensors and graphs.

    Raises ValueError for tensors that do not fit together.
    """

    def __init__(self, tensors: dict[str, np.ndarray], transforms: Transforms) -> None:
        self._transforms = transforms
        self.tables = Tables(tensors["table_counts"], tensors["table_starts"])
        self.z = HyperLatent(tensors, self.tables)
        self.gains = {name: tensors[name].astype(np.int64) for name in GAINS}
        self._by_channel = {name: gain.T for name, gain in self.gains.items()}
        stops = np.cumsum(tensors["slices"], dtype=np.int64).tolist()
        self.channels = stops[-1]
        self.parts = [slice(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)]
        self._networks = [
            IntegerNetwork(read_layers(tensors, f"slice{i}")) for i in range(1, len(self.parts))
        ]
        if len(self._by_channel["y_gain"]) != self.channels:
            raise ValueError("the slices have other channels than the gains")
        features = self.z.outputs - 2 * self.channels - 1
        if features < 0:
            raise ValueError("the hyper-synthesis has the wrong number of channels")
        largest = self.z.h_s.largest
        for part, network in zip(self.parts[1:], self._networks, strict=True):
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

    def analyse(self, pixels: np.ndarray) -> Latents:
        """Returns y and z of uint8 (H, W, 3)."""
        return analysed(self._transforms, pixels, (self.channels, self.z.channels))

    def unrounded(self, pixels: np.ndarray) -> np.ndarray:
        """Returns what decode_latents gives, without coding and rounding: at the finest quality."""
        y = self._transforms.of_pixels("g_a.onnx", pixels, DOWNSAMPLING)
        finest = np.full((1, *y.shape[1:]), MAX_QUALITY_BYTE / QUALITY_STEPS, np.float32)
        return np.concatenate([y, finest])

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
        """Returns whether decoding gives what rounding float latents gives. Raises FormatError."""
        y, z = latents
        reading = Reading(self, streams, size, quality_byte)
        same = np.array_equal(reading.z, self.z.rounded(z, quality_byte))
        rounding = self._rounding(y)
        for block, each in reading.slices():
            rounded = rounding(block, each.channels, each.tables, each.means)
            same &= np.array_equal(each.symbols, rounded)
        return same

    def decode_symbols(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> Symbols:
        """Returns the integers in the streams of a picture of a `size`. Raises FormatError."""
        reading = Reading(self, streams, size, quality_byte)
        y = np.empty((self.channels, *reading.size), np.int32)
        means = np.empty(y.shape, np.int64)
        qualities = np.empty(reading.size, np.uint8)
        for block, each in reading.slices():
            qualities[block.rows, block.columns] = block.qualities
            y[each.channels, block.rows, block.columns] = each.symbols
            means[each.channels, block.rows, block.columns] = each.means
        return Symbols(reading.z, y, means, qualities, reading.escapes())

    def count_escapes(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> dict[str, int]:
        """Reads every symbol and keeps no more than a block of them."""
        reading = Reading(self, streams, size, quality_byte)
        for _ in reading.slices():
            pass
        return reading.escapes()

    def decode(self, streams: list[bytes], size: tuple[int, int], quality_byte: int) -> np.ndarray:
        """Returns the picture, uint8 (*size, 3).

        Raises FormatError for streams no encoder writes.
        """
        y_hat = self.decode_latents(streams, size, quality_byte)
        return self._transforms.to_pixels("g_s.onnx", y_hat, size, DOWNSAMPLING)

    def decode_latents(
        self, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> np.ndarray:
        """Returns what the synthesis takes: y_hat and, last, q - 1 of each place; float32 (M + 1,
        h, w).
        """
        reading = Reading(self, streams, size, quality_byte)
        y_hat = np.empty((self.channels + 1, *reading.size), np.float32)
        for block, each in reading.slices():
            y_hat[-1, block.rows, block.columns] = block.qualities / np.float32(QUALITY_STEPS)
            restored = self._restored(each, block.qualities)
            y_hat[each.channels, block.rows, block.columns] = restored
        return y_hat

    def block(self, z: np.ndarray, rows: slice, columns: slice, quality_byte: int) -> Block:
        """Returns what z says of some rows and columns of y."""
        out = self.z.says(z, rows, columns, quality_byte)
        qualities = np.clip(quality_byte + rescale(out[-1], ONE, FRACTION), 0, MAX_QUALITY_BYTE)
        return Block(rows, columns, out[:-1], qualities)

    def code(self, block: Block, source: Source) -> Iterator[Slice]:
        """Yields the slices of a block one after the other, whose symbols come from `source`."""
        features = block.said[2 * self.channels :]
        values = np.empty((self.channels, *block.qualities.shape), np.int64)  # what slices see
        seen = [features, block.qualities[None] * UNIT]
        for part, network in zip(self.parts, [None, *self._networks], strict=True):
            log_gain, gain, inverse = (
                self._by_channel[name][part][:, block.qualities] for name in GAINS
            )
            means_at = slice(self.channels + part.start, self.channels + part.stop)
            said = np.concatenate([block.said[part], block.said[means_at]])
            if network is not None:
                said = said + network(np.concatenate([*seen, said, values[: part.start]]))
            scales, means = np.split(said, 2)
            indices = rescale(scales + log_gain, ONE, FRACTION)
            tables = np.clip(indices, 0, len(self.tables) - 1).astype(self._index)
            means = rescale(means, gain, GAIN_FRACTION)
            symbols = source(block, part, tables, means)
            yield Slice(part, tables, means, symbols)
            value = (symbols.astype(np.int64) << FRACTION) + means
            value = np.clip(value, -LARGEST_VALUE, LARGEST_VALUE)
            values[part] = rescale(value, inverse, GAIN_FRACTION)

    def _rounding(self, y: np.ndarray) -> Source:
        """Returns a source that rounds y, less its mean, in steps of its place's quality."""

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


class Reading:
    """The streams of a file: z has been read, y is read slice by slice."""

    def __init__(
        self, family: Sliced, streams: list[bytes], size: tuple[int, int], quality_byte: int
    ) -> None:
        self.size = positions(size)  # of y
        self.z, self._z_escapes = family.z.decode(streams[0], self.size, quality_byte)
        self._decoder = Decoder(family.tables, streams[1])
        self._family, self._quality_byte = family, quality_byte

    def slices(self) -> Iterator[tuple[Block, Slice]]:
        """Yields every slice with its block, in the order in which they are coded.

        Raises FormatError at the end, where the stream holds more than was read.
        """
        for rows, columns in places(self.size):
            block = self._family.block(self.z, rows, columns, self._quality_byte)
            for each in self._family.code(block, _reading(self._decoder)):
                yield block, each
        self._decoder.finish()

    def escapes(self) -> dict[str, int]:
        """Returns how many symbols of each stream lie beyond their table, of what was read."""
        return {"z": self._z_escapes, "y": self._decoder.escapes}


def places(size: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Returns rows and columns of the blocks of a y of a `size`, in the order of coding."""
    return list(product(bands(size[0], BLOCK[0]), bands(size[1], BLOCK[1])))


def _reading(decoder: Decoder) -> Source:
    """Returns a source of symbols from a stream."""
    return lambda block, part, tables, means: decoder.band(tables)


build = Sliced
