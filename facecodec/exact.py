"""Everything that selects a probability table or shifts a symbol, in integers.

Two machines that differ in the last bit of one convolution would read different symbols from one
file. So the hyper-synthesis runs on integer weights and activations: a layer is

    out = clip(floor((W a + b + 2^(s-1)) / 2^s), 0, limit)        (the last layer is not clipped)

computed in float64, which holds integers below 2^53 exactly whatever the order of summation. The
bound is proved from the weights when the model is loaded, not trusted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FRACTION = 10  # bits after the point of activations, means, and scale indices
GAIN_FRACTION = 16  # bits after the point of the gains
LIMIT = 1 << 20  # activations, as integers, are within 0..LIMIT; inputs within -LIMIT..LIMIT


@dataclass(frozen=True)
class Layer:
    """One convolution. weight (out, in, k, k), k 1 or 3; bias (out,); `upsample` is a pixel shuffle by 2."""

    weight: np.ndarray
    bias: np.ndarray
    shift: int
    upsample: bool


class HyperSynthesis:
    """z_hat (C, h, w) -> scale and mean of y before its gain, (2M, 4h, 4w), all integers.

    z_hat and means are in units of 2^-10; scales are table indices in units of 2^-10, so that a
    gain is an addition. Raises ValueError if a layer is malformed or a partial sum could reach 2^53.
    """

    def __init__(self, layers: list[Layer]) -> None:
        resolution, reach = 1, 0.0
        channels = layers[0].weight.shape[1] if layers and layers[0].weight.ndim == 4 else 0
        for number, layer in enumerate(layers):
            if (
                layer.weight.ndim != 4
                or layer.weight.shape[2:] not in ((1, 1), (3, 3))
                or layer.bias.shape != layer.weight.shape[:1]
                or not 0 < layer.shift < 53
                or layer.weight.shape[1] != channels
            ):
                raise ValueError(f"layer {number} of the hyper-synthesis is malformed")
            weights, bias = (
                np.abs(layer.weight.astype(np.float64)),
                np.abs(layer.bias.astype(np.float64)),
            )
            largest = (weights.sum(axis=(1, 2, 3)) * LIMIT + bias).max() + 2.0**layer.shift
            if largest >= 2.0**53:
                raise ValueError(
                    f"layer {number} of the hyper-synthesis could overflow exact arithmetic"
                )
            reach += (layer.weight.shape[2] // 2) / resolution
            resolution *= 2 if layer.upsample else 1
            channels = len(layer.weight) // (4 if layer.upsample else 1)
        if resolution != 4:
            raise ValueError("the hyper-synthesis does not upsample four times")
        if any(layer.upsample and len(layer.weight) % 4 for layer in layers):
            raise ValueError("a layer that upsamples has channels that four does not divide")
        self.margin = math.ceil(
            reach
        )  # rows of z beyond its own that a row of the result depends on
        self.largest = largest / 2.0**layer.shift  # magnitude that no result exceeds
        self.channels = (layers[0].weight.shape[1], len(layers[-1].weight))
        # Shifted here once: a power of two changes no digit.
        self.layers = [
            (
                np.ascontiguousarray(layer.weight.reshape(len(layer.weight), -1), np.float64)
                * 2.0**-layer.shift,
                layer.bias.astype(np.float64)[:, None] * 2.0**-layer.shift + 0.5,
                layer.weight.shape[2],
                layer.upsample,
            )
            for layer in layers
        ]

    def __call__(self, z_hat: np.ndarray) -> np.ndarray:
        x = np.clip(z_hat, -LIMIT, LIMIT).astype(np.float64)
        for number, (weight, bias, kernel, upsample) in enumerate(self.layers):
            height, width = x.shape[1:]
            x = weight @ _patches(x, kernel)
            x += bias
            np.floor(x, out=x)
            if number < len(self.layers) - 1:
                np.clip(x, 0, LIMIT, out=x)
            x = x.reshape(-1, height, width)
            if upsample:
                x = _pixel_shuffle(x)
        return x.astype(np.int64)


def _patches(x: np.ndarray, kernel: int) -> np.ndarray:
    """Columns for a convolution with zero padding: (in * k * k, h * w)."""
    channels, height, width = x.shape
    if kernel == 1:
        return x.reshape(channels, -1)
    padded = np.zeros((channels, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = x
    columns = np.empty((channels, 3, 3, height, width))
    for row, column in np.ndindex(3, 3):
        columns[:, row, column] = padded[:, row : row + height, column : column + width]
    return columns.reshape(channels * 9, height * width)


def _pixel_shuffle(x: np.ndarray) -> np.ndarray:
    channels, height, width = x.shape
    x = x.reshape(channels // 4, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return x.reshape(channels // 4, 2 * height, 2 * width)


def rescale(values: np.ndarray, factors: np.ndarray, bits: int) -> np.ndarray:
    """floor((values * factors + 2^(bits-1)) / 2^bits) in int64; an arithmetic shift floors, below zero too."""
    scaled = np.multiply(values, factors, dtype=np.int64)
    scaled += 1 << (bits - 1)
    scaled >>= bits
    return scaled
