"""Mean-scale hyperprior: latents y (M, h, w) and z (C, ceil(h/4), ceil(w/4)) <-> streams "z" and "y".

z is coded with one table per channel and quality; y, less its mean, with the table that the
hyper-synthesis of z selects. Both happen in bands of BAND rows of y, so that memory does not grow
with the height of the picture. The hyper-synthesis may also shift the quality from place to place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecodec.container import MAX_QUALITY_BYTE
from facecodec.entropy import Decoder, Encoder, Tables
from facecodec.exact import FRACTION, GAIN_FRACTION, HyperSynthesis, Layer, rescale
from facecodec.transforms import Transforms

STREAMS = ("z", "y")
DOWNSAMPLING = 16  # pixels per position of y
HYPER = 4  # positions of y per position of z
# Positions of y to each side that a graph looks at: three blocks of 3x3 at 1/16 and three at 1/8; the hyper-analysis
# has two layers of stride 2 (networks/hyperprior.py).
REACH = {"g_a": 5, "h_a": 3, "g_s": 5}
BAND = 16  # rows of y coded together

# What decoding depends on, besides the synthesis graph; the fingerprint covers all of them.
GAINS = ("y_log_gain", "y_gain", "z_inverse_gain", "z_table")


Latents = tuple[np.ndarray, np.ndarray]  # y (M, h, w) and z (C, ceil(h/4), ceil(w/4)), float32


@dataclass(frozen=True)
class Symbols:
    """What a file holds: z (C, ., .) and y (M, h, w) as coded; y's means in units of 2^-10 and its quality bytes
    (h, w); escapes by stream."""

    z: np.ndarray
    y: np.ndarray
    means: np.ndarray
    qualities: np.ndarray
    escapes: dict[str, int]


@dataclass(frozen=True)
class Prediction:
    """What z says of a band of y: each symbol's table and mean (units of 2^-10), (M, rows, w); the quality byte of
    each place, (rows, w)."""

    tables: np.ndarray
    means: np.ndarray
    qualities: np.ndarray


class Hyperprior:
    """Built from the frozen tensors and graphs. Raises KeyError or ValueError where they are malformed."""

    def __init__(self, tensors: dict[str, np.ndarray], transforms: Transforms) -> None:
        self._transforms = transforms
        self.tables = Tables(tensors["table_counts"], tensors["table_starts"])
        shifts, upsample = tensors["h_s.shifts"], tensors["h_s.upsample"]
        layers = [
            Layer(
                tensors[f"h_s.{i}.weight"],
                tensors[f"h_s.{i}.bias"],
                int(shifts[i]),
                bool(upsample[i]),
            )
            for i in range(len(shifts))
        ]
        self.h_s = HyperSynthesis(layers)
        self.gains = {name: tensors[name].astype(np.int64) for name in GAINS}
        self.channels = self.gains["y_gain"].shape[1]
        self.hyper_channels = self.gains["z_table"].shape[1]
        hyper_channels, results = self.h_s.channels
        self.has_quality_map = results == 2 * self.channels + 1
        if (
            hyper_channels != self.hyper_channels
            or results - self.has_quality_map != 2 * self.channels
        ):
            raise ValueError("the hyper-synthesis has other channels than the gains")
        for name, gains in self.gains.items():
            if gains.shape != (
                MAX_QUALITY_BYTE + 1,
                self.channels if name[0] == "y" else self.hyper_channels,
            ):
                raise ValueError(f"{name} has the wrong shape")
        if (self.gains["y_gain"] <= 0).any() or (self.gains["z_inverse_gain"] <= 0).any():
            raise ValueError("a gain is not positive")
        if self.h_s.largest * self.gains["y_gain"].max() >= 2.0**62:
            raise ValueError("a mean could overflow")
        if not ((self.gains["z_table"] >= 0) & (self.gains["z_table"] < len(self.tables))).all():
            raise ValueError("a table index is out of range")
        # By channel, (M, 225), as they are looked up for every place; with the steps that symbols are restored by.
        self._by_channel = {
            name: np.ascontiguousarray(self.gains[name].T) for name in ("y_log_gain", "y_gain")
        }
        self._steps = (2.0 ** (GAIN_FRACTION - FRACTION) / self._by_channel["y_gain"]).astype(
            np.float32
        )
        self._index = np.min_scalar_type(len(self.tables) - 1)  # small ones are sorted faster

    def analyse(self, pixels: np.ndarray) -> Latents:
        """y and z of uint8 (H, W, 3)."""
        y = self._transforms.of_pixels("g_a.onnx", pixels, DOWNSAMPLING, REACH["g_a"])
        return y, self._transforms.of_latents("h_a.onnx", y, DOWNSAMPLING, HYPER, REACH["h_a"])

    def synthesise(self, y_hat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """uint8 (*size, 3) of y_hat (M, h, w)."""
        return self._transforms.to_pixels("g_s.onnx", y_hat, size, DOWNSAMPLING, REACH["g_s"])

    def encode(self, latents: Latents, quality: int) -> list[bytes]:
        """Streams of float latents at a quality byte."""
        y, z = latents
        z_symbols = self.rounded_z(z, quality)
        encoder = Encoder(self.tables)
        for rows in reversed(bands(y.shape[1])):
            band = self.prediction(z_symbols, rows, y.shape[2], quality)
            encoder.band(
                np.rint(self.residual(y[:, rows], band.means, band.qualities)), band.tables
            )
        return [self.encode_z(z_symbols, quality), encoder.finish()]

    def holds(
        self, streams: list[bytes], size: tuple[int, int], latents: Latents, quality: int
    ) -> bool:
        """Whether what decoding gives is what rounding float latents gives. Raises FormatError for other streams."""
        y, z = latents
        symbols = self.decode_symbols(streams, size, quality)
        same_z = np.array_equal(symbols.z, self.rounded_z(z, quality))
        return same_z and np.array_equal(
            symbols.y, np.rint(self.residual(y, symbols.means, symbols.qualities))
        )

    def rounded_z(self, z: np.ndarray, quality: int) -> np.ndarray:
        z_gain = 2.0**GAIN_FRACTION / self.gains["z_inverse_gain"][quality]
        return np.rint(z * z_gain[:, None, None]).astype(np.int64)

    def residual(self, y: np.ndarray, means: np.ndarray, qualities: np.ndarray) -> np.ndarray:
        """y, less its mean, in steps of its place's quality, before rounding."""
        y_gain = self._by_channel["y_gain"][:, qualities] / 2.0**GAIN_FRACTION
        return y * y_gain - means * 2.0**-FRACTION

    def decode_symbols(self, streams: list[bytes], size: tuple[int, int], quality: int) -> Symbols:
        """The integers in the streams of a picture of a `size`. Raises FormatError for streams no encoder writes."""
        size = positions(size)
        z, escapes = self.decode_z(streams[0], size, quality)
        decoder = Decoder(self.tables, streams[1])
        predictions = (self.prediction(z, rows, size[1], quality) for rows in bands(size[0]))
        parts = [(decoder.band(each.tables), each.means, each.qualities) for each in predictions]
        decoder.finish()
        y, means, qualities = (np.concatenate(each, axis=-2) for each in zip(*parts, strict=True))
        return Symbols(z, y, means, qualities, {"z": escapes, "y": decoder.escapes})

    def decode(self, streams: list[bytes], size: tuple[int, int], quality: int) -> np.ndarray:
        """The picture, uint8 (*size, 3). Raises FormatError for streams no encoder writes."""
        return self.synthesise(self.decode_latents(streams, size, quality), size)

    def allocation(self, streams: list[bytes], size: tuple[int, int], quality: int) -> None:
        """All places keep all."""

    def images(self, streams: list[bytes]) -> dict[str, bytes]:
        """None."""
        return {}

    def decode_latents(
        self, streams: list[bytes], size: tuple[int, int], quality: int
    ) -> np.ndarray:
        """y_hat, float32 (M, h, w), of a picture of a `size`."""
        size = positions(size)
        z, _ = self.decode_z(streams[0], size, quality)
        decoder = Decoder(self.tables, streams[1])
        y_hat = np.empty((self.channels, *size), np.float32)
        for rows in bands(size[0]):
            band = self.prediction(z, rows, size[1], quality)
            y_hat[:, rows] = self.restored(decoder.band(band.tables), band)
        decoder.finish()
        return y_hat

    def restored(self, symbols: np.ndarray, band: Prediction) -> np.ndarray:
        """y_hat of a band, float32."""
        values = symbols << FRACTION
        values += band.means
        return values.astype(np.float32) * self._steps[:, band.qualities]

    def encode_z(self, symbols: np.ndarray, quality: int) -> bytes:
        """The stream of z's symbols."""
        encoder = Encoder(self.tables)
        for rows in reversed(bands(symbols.shape[1], BAND // HYPER)):
            encoder.band(symbols[:, rows], self._z_tables(symbols[:, rows].shape, quality))
        return encoder.finish()

    def decode_z(
        self, stream: bytes, size: tuple[int, int], quality: int
    ) -> tuple[np.ndarray, int]:
        """z's symbols, and how many of them are escapes."""
        height, width = (-(-side // HYPER) for side in size)
        decoder = Decoder(self.tables, stream)
        z = np.empty((self.hyper_channels, height, width), np.int64)
        for rows in bands(height, BAND // HYPER):
            z[:, rows] = decoder.band(self._z_tables(z[:, rows].shape, quality))
        decoder.finish()
        return z, decoder.escapes

    def _z_tables(self, shape: tuple[int, ...], quality: int) -> np.ndarray:
        return np.broadcast_to(self.gains["z_table"][quality][:, None, None], shape)

    def prediction(
        self, z_symbols: np.ndarray, rows: slice, width: int, quality: int
    ) -> Prediction:
        """What z says of some rows of y, `width` wide."""
        first = rows.start // HYPER
        above = max(0, first - self.h_s.margin)
        below = -(-rows.stop // HYPER) + self.h_s.margin
        skip = HYPER * (first - above)
        inverse = self.gains["z_inverse_gain"][quality][:, None, None]
        z_hat = rescale(z_symbols[:, above:below], inverse, GAIN_FRACTION - FRACTION)
        out = self.h_s(z_hat)[:, skip : skip + rows.stop - rows.start, :width]
        half = 1 << (FRACTION - 1)
        scales, means = out[: self.channels], out[self.channels : 2 * self.channels]
        shift = (
            (out[-1] + half) >> FRACTION
            if self.has_quality_map
            else np.zeros(out.shape[1:], np.int64)
        )
        qualities = np.clip(quality + shift, 0, MAX_QUALITY_BYTE)
        indices = self._by_channel["y_log_gain"][:, qualities]
        indices += scales
        indices += half
        indices >>= FRACTION
        tables = np.clip(indices, 0, len(self.tables) - 1, out=indices).astype(self._index)
        return Prediction(
            tables,
            rescale(means, self._by_channel["y_gain"][:, qualities], GAIN_FRACTION),
            qualities,
        )


def positions(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of y for those of a picture."""
    return -(-size[0] // DOWNSAMPLING), -(-size[1] // DOWNSAMPLING)


def bands(rows: int, height: int = BAND) -> list[slice]:
    """Those that are coded together, from the top."""
    return [slice(top, min(top + height, rows)) for top in range(0, rows, height)]


build = Hyperprior
