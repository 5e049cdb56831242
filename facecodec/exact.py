"""Integer arithmetic for everything that selects a probability table or shifts a symbol.

Two machines that differ in the last bit of one convolution would read different symbols from one
file. So the hyper-synthesis runs on integer weights and activations. A layer is

    out = clip(floor((W a + b + 2^(s-1)) / 2^s), 0, limit)        (the last layer is not clipped)

computed in float64, which represents integers below 2^53 exactly in any order of summation. When a
model is loaded, its weights are checked to keep every sum below that bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from facecodec.tensors import Tensor

FRACTION = 10  # bits after the point of activations, means, and scale indices
GAIN_FRACTION = 16  # bits after the point of the gains
SCALE_STEPS = 8  # tables per octave of the standard deviation
LIMIT = 1 << 20  # integer activations are within 0..LIMIT, inputs within -LIMIT..LIMIT


@dataclass(frozen=True)
class Layer:
    """One convolution.

    `weight` is (out, in, k, k) with k 1 or 3; (out, 1, k, k) is depthwise if there are several
    input channels. `bias` is (out,). `upsample` is a pixel shuffle by 2.
    """

    weight: np.ndarray
    bias: np.ndarray
    shift: int
    upsample: bool


def read_layers(tensors: dict[str, np.ndarray], name: str) -> list[Layer]:
    """Returns the layers of the integer network `name` in a model's tensors."""
    shifts, upsample = tensors[f"{name}.shifts"], tensors[f"{name}.upsample"]
    return [
        Layer(
            tensors[f"{name}.{i}.weight"],
            tensors[f"{name}.{i}.bias"],
            int(shifts[i]),
            bool(upsample[i]),
        )
        for i in range(len(shifts))
    ]


def expected_layers(tensors: dict[str, np.ndarray], name: str) -> dict[str, Tensor]:
    """Returns the tensors that the integer network `name` must have, given its `NAME.shifts`."""
    layers = tensors[f"{name}.shifts"].size if f"{name}.shifts" in tensors else 0
    expected = {
        f"{name}.shifts": Tensor("uint8", (f"{name} layers",), 1, 52),
        f"{name}.upsample": Tensor("uint8", (f"{name} layers",), 0, 1),
    }
    for i in range(layers):
        channels = f"{name} out {i}"
        expected[f"{name}.{i}.weight"] = Tensor("int16", (channels, None, None, None))
        expected[f"{name}.{i}.bias"] = Tensor("int64", (channels,))
    return expected


class IntegerNetwork:
    """Runs layers one after the other: (C, h, w) -> (D, h * upsampling, w * upsampling).

    All values are integers, in units of 2^-10. Raises ValueError if a layer is malformed or a
    partial sum could reach 2^53.
    """

    def __init__(self, layers: list[Layer]) -> None:
        resolution, reach = 1, 0.0
        channels = layers[0].weight.shape[1] if layers and layers[0].weight.ndim == 4 else 0
        self.layers = []
        for number, layer in enumerate(layers):
            weight, kernel = layer.weight, layer.weight.shape[-1]
            depthwise = channels > 1 and weight.shape[1:] == (1, 3, 3) and len(weight) == channels
            if (
                weight.ndim != 4
                or weight.shape[2:] not in ((1, 1), (3, 3))
                or not (depthwise or weight.shape[1] == channels)
                or layer.bias.shape != weight.shape[:1]
                or not 0 < layer.shift < 53
            ):
                raise ValueError(f"layer {number} of an integer network is malformed")
            weights, bias = weight.astype(np.float64), layer.bias.astype(np.float64)
            bound = np.abs(weights).sum(axis=(1, 2, 3)) * LIMIT + np.abs(bias)
            largest = bound.max() + 2.0**layer.shift
            if largest >= 2.0**53:
                raise ValueError(f"layer {number} of an integer network could overflow")
            if number == 0:
                self.channels = (channels, len(layers[-1].weight))
            reach += (kernel // 2) / resolution
            resolution *= 2 if layer.upsample else 1
            channels = len(weight) // 4 if layer.upsample else len(weight)
            # The shift is done once, here: multiplying by a power of two is exact.
            flat = weights.reshape(len(weight), -1) * 2.0**-layer.shift
            bias = bias[:, None] * 2.0**-layer.shift + 0.5
            self.layers.append((flat, bias, kernel, depthwise, layer.upsample))
        self.upsampling = resolution
        self.margin = math.ceil(reach)  # a result depends on so many positions to each side
        self.largest = largest / 2.0**layer.shift  # upper bound of a result's magnitude

    def __call__(self, values: np.ndarray) -> np.ndarray:
        x = np.clip(values, -LIMIT, LIMIT).astype(np.float64)
        for number, (weight, bias, kernel, depthwise, upsample) in enumerate(self.layers):
            height, width = x.shape[1:]
            x = _depthwise(x, weight) if depthwise else weight @ _patches(x, kernel)
            x += bias
            np.floor(x, out=x)
            if number < len(self.layers) - 1:
                np.clip(x, 0, LIMIT, out=x)
            x = x.reshape(-1, height, width)
            if upsample:
                x = _pixel_shuffle(x)
        return x.astype(np.int64)


class HyperSynthesis(IntegerNetwork):
    """Turns z_hat (C, h, w) into the parameters of y, (D, 4h, 4w)."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__(layers)
        if self.upsampling != 4:
            raise ValueError("the hyper-synthesis does not upsample four times")
        if any(layer.upsample and len(layer.weight) % 4 for layer in layers):
            raise ValueError("a layer that upsamples has channels that four does not divide")


def _padded(x: np.ndarray) -> np.ndarray:
    channels, height, width = x.shape
    padded = np.zeros((channels, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = x
    return padded


def _depthwise(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Convolves each channel with its own 3x3 weights (C, 9), zero-padded, to (C, h * w)."""
    _, height, width = x.shape
    padded = _padded(x)
    result = np.zeros_like(x)
    for tap, (row, column) in enumerate(np.ndindex(3, 3)):
        part = padded[:, row : row + height, column : column + width]
        result += weight[:, tap, None, None] * part
    return result.reshape(len(x), -1)


def _patches(x: np.ndarray, kernel: int) -> np.ndarray:
    """Returns the columns of a convolution with zero padding: (in * k * k, h * w)."""
    channels, height, width = x.shape
    if kernel == 1:
        return x.reshape(channels, -1)
    padded = _padded(x)
    columns = np.empty((channels, 3, 3, height, width))
    for row, column in np.ndindex(3, 3):
        columns[:, row, column] = padded[:, row : row + height, column : column + width]
    return columns.reshape(channels * 9, height * width)


def _pixel_shuffle(x: np.ndarray) -> np.ndarray:
    channels, height, width = x.shape
    x = x.reshape(channels // 4, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return x.reshape(channels // 4, 2 * height, 2 * width)


def rescale(values: np.ndarray, factors: np.ndarray, bits: int) -> np.ndarray:
    """Returns floor((values * factors + 2^(bits-1)) / 2^bits) as int64.

    It is an arithmetic shift, which rounds negative values towards minus infinity too.
    """
    scaled = np.multiply(values, factors, dtype=np.int64)
    scaled += 1 << (bits - 1)
    scaled >>= bits
    return scaled
