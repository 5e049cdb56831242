"""Relaxes the family `hyperprior`: all of y is predicted from z at once."""

from __future__ import annotations

import numpy as np

from facecodec.exact import FRACTION
from facecodec.families.hyperlatent import bands
from facecodec.families.hyperprior import BAND, Hyperprior, Latents
from facecodec.search import relaxed
from facecodec.search.files import Graphs
from facecodec.search.graphs import Transform
from facecodec.search.trimming import Choice
from facecodec.search.windows import Box

Transforms = tuple[Transform, Transform]


def transforms(graphs: Graphs) -> Transforms:
    """Returns the synthesis and the hyper-synthesis of a model's search file. Raises ModelError."""
    return graphs.transform("g_s"), graphs.transform("h_s")


class Relaxed(relaxed.Relaxed):
    """The relaxed family for a window of a picture. It does not depend on the window's place."""

    def __init__(
        self,
        family: Hyperprior,
        transforms: Transforms,
        latents: Latents,
        quality_byte: int,
        window: Box,
    ) -> None:
        self._g_s, h_s = transforms
        self.has_quality_map = family.has_quality_map
        super().__init__(family, h_s, latents, quality_byte)

    def _coded(
        self, y: np.ndarray, out: np.ndarray, qualities: np.ndarray, soften: relaxed.Soften
    ) -> relaxed.Evaluation:
        parameters = out[: self._channels], out[self._channels : 2 * self._channels]
        part = relaxed.Part(y, parameters, self._log_gain[:, qualities], self._rates, soften)
        decoded = self._g_s(part.y_hat)

        def gradient(by_picture: np.ndarray) -> list[np.ndarray]:
            by_y, by_scales, by_means, by_log_gain = part.gradient(decoded.gradient(by_picture))
            by_out = [by_scales, by_means]
            if self.has_quality_map:
                by_out.append(self._by_quality(by_log_gain, qualities)[None])
            return [by_y, np.concatenate(by_out)]

        return relaxed.Evaluation(part.bits, decoded.result, gradient)


def chosen(family: Hyperprior, latents: Latents, quality_byte: int, choose: Choice) -> np.ndarray:
    """Returns the y, float32, that is coded as the symbols that `choose` returns."""
    y, z = latents
    symbols, found = family.z.rounded(z, quality_byte), np.empty_like(y)
    for rows in bands(y.shape[1], BAND):
        for columns, parameters in family.predict_band(
            symbols, rows, y.shape[2], quality_byte
        ).strips():
            there = y[:, rows, columns]
            whole = choose(family.residual(there, parameters), parameters.tables)
            means = parameters.means * 2.0**-FRACTION
            steps = family.residual(np.ones_like(there), parameters) + means
            found[:, rows, columns] = (whole + means) / steps
    return found
