"""Relaxes the family `sliced`: the bits of a slice depend on the slices before it.

So the gradient flows from each slice, through a float version of the network that predicts it, to
the earlier slices and to z. As in coding, these networks see one block of y only.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from facecodec.container import QUALITY_STEPS
from facecodec.exact import FRACTION, GAIN_FRACTION
from facecodec.families.hyperprior import Latents
from facecodec.families.sliced import BLOCK, Block, Sliced, places
from facecodec.search import relaxed
from facecodec.search.files import Graphs
from facecodec.search.graphs import Applied, Transform
from facecodec.search.relaxed import Part
from facecodec.search.trimming import Choice
from facecodec.search.windows import Box

Transforms = tuple[Transform, Transform, list[Transform]]


def transforms(graphs: Graphs) -> Transforms:
    """Returns the synthesis, the hyper-synthesis, and the networks of all slices but the first.

    Raises ModelError.
    """
    count = len([name for name in graphs.names if name.startswith("slice")]) // 2
    slices = [graphs.transform(f"slice{number}") for number in range(1, count + 1)]
    return graphs.transform("g_s"), graphs.transform("h_s"), slices


class Relaxed(relaxed.Relaxed):
    """The relaxed family for a `window` of a picture, whose place gives the blocks it meets."""

    has_quality_map = True

    def __init__(
        self,
        family: Sliced,
        transforms: Transforms,
        latents: Latents,
        quality_byte: int,
        window: Box,
    ) -> None:
        self._g_s, h_s, self._slices = transforms
        self._parts = family.parts
        rows, columns = map(_within, window, BLOCK)
        self._blocks = list(product(rows, columns))
        super().__init__(family, h_s, latents, quality_byte)

    def _coded(
        self, y: np.ndarray, out: np.ndarray, qualities: np.ndarray, soften: relaxed.Soften
    ) -> relaxed.Evaluation:
        scales, means = out[: self._channels], out[self._channels : 2 * self._channels]
        features = out[2 * self._channels : -1]
        count = len(features)
        quality = (qualities / QUALITY_STEPS).astype(np.float32)[None]
        log_gain, bits = self._log_gain[:, qualities], 0.0
        y_hat = np.concatenate([np.empty_like(y), quality])
        way: list[tuple[slice, Box, Applied | None, Part]] = []
        for block in self._blocks:
            for channels, predict in zip(self._parts, [None, *self._slices], strict=True):
                at = (channels, *block)
                parameters, correction = np.concatenate([scales[at], means[at]]), None
                if predict is not None:
                    seen = (features, quality, parameters, y_hat[: channels.start])
                    there = [
                        each if each is parameters else each[(slice(None), *block)] for each in seen
                    ]
                    correction = predict(np.concatenate(there))
                    parameters = parameters + correction.result
                scale, mean = np.split(parameters, 2)
                part = Part(y[at], (scale, mean), log_gain[at], self._rates, soften)
                y_hat[at] = part.y_hat
                bits += part.bits
                way.append((channels, block, correction, part))
        decoded = self._g_s(y_hat)

        def gradient(by_picture: np.ndarray) -> list[np.ndarray]:
            by_y_hat = decoded.gradient(by_picture)
            by_y, by_log_gain, by_out = np.empty_like(y), np.empty_like(y), np.zeros_like(out)
            by_scales, by_means = by_out[: self._channels], by_out[self._channels :]
            for channels, block, correction, part in reversed(way):
                at = (channels, *block)
                by_y[at], *by_parameters, by_log_gain[at] = part.gradient(by_y_hat[at])
                if correction is not None:
                    back = correction.gradient(np.concatenate(by_parameters))
                    size = channels.stop - channels.start
                    starts = np.cumsum([count, 1, size, size])
                    parts = np.split(back, starts)
                    by_out[2 * self._channels : -1][(slice(None), *block)] += parts[0]
                    by_y_hat[-1:][(slice(None), *block)] += parts[1]
                    by_parameters = [a + b for a, b in zip(by_parameters, parts[2:4], strict=True)]
                    by_y_hat[: channels.start][(slice(None), *block)] += parts[4]
                by_scales[at], by_means[at] = by_parameters
            by_out[-1] = by_y_hat[-1] / np.float32(QUALITY_STEPS)
            by_out[-1] += self._by_quality(by_log_gain, qualities)
            return [by_y, by_out]

        return relaxed.Evaluation(bits, decoded.result, gradient)


def _within(part: slice, size: int) -> Iterator[slice]:
    """Yields the blocks of a `size` along one side, clipped to a part and relative to its start."""
    for start in range(part.start // size * size, part.stop, size):
        yield slice(max(start - part.start, 0), min(start + size, part.stop) - part.start)


def chosen(family: Sliced, latents: Latents, quality_byte: int, choose: Choice) -> np.ndarray:
    """Returns the y, float32, that is coded as the symbols that `choose` returns."""
    y, z = latents
    symbols, found = family.z.rounded(z, quality_byte), np.empty_like(y)

    def source(block: Block, part: slice, tables: np.ndarray, means: np.ndarray) -> np.ndarray:
        at = part, block.rows, block.columns
        gain = family.gains["y_gain"].T[part][:, block.qualities] / 2.0**GAIN_FRACTION
        means = means * 2.0**-FRACTION
        whole = choose(y[at] * gain - means, tables)
        found[at] = (whole + means) / gain
        return whole.astype(np.int64)

    for rows, columns in places(y.shape[1:]):
        for _ in family.code(family.block(symbols, rows, columns, quality_byte), source):
            pass
    return found
