"""Graphs and weights -> the tensors of a search file (facecodec/search/files.py), as small as may
be.

A weight that the model or another file holds is only pointed at. Of the others, those whose numbers
are whole multiples of a power of two are kept as these, in eight bits; the rest in half precision,
or, where a network bears it, in eight bits with a scale for each output channel that has many.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from facecodec.networks.gradients import Bare
from facecodec.search.files import OWN, Place, Places

FINEST = 16  # the power of two below which no exact scale is tried
MANY = 64  # numbers of an output channel from which eight bits will do
EXACT = 1e-5  # how far from whole a multiple may be, of half precision's making


class Packing:
    """Graphs are added one after the other; `sources` are arrays that their weights may lie in."""

    def __init__(self, sources: Mapping[str, np.ndarray]) -> None:
        self._sources = {name: array.tobytes() for name, array in sources.items()}
        self._graphs: dict[str, np.ndarray] = {}
        self._own = bytearray()
        self._packed: dict[bytes, Place] = {}
        self.places: Places = {}

    def add(
        self,
        name: str,
        bare: Bare,
        known: Mapping[str, Place] | None = None,
        eight_bits: bool = False,
    ) -> None:
        """Adds a graph.

        `known` are weights whose place is known; `eight_bits` says that eight will do.
        """
        self._graphs[name] = bare.content
        self.places[name] = {
            weight: known[weight] if known and weight in known else self._place(value, eight_bits)
            for weight, value in bare.weights.items()
        }

    def tensors(self) -> dict[str, np.ndarray]:
        """Returns the graphs by name, and under OWN what was found nowhere; all uint8."""
        own = {OWN: np.frombuffer(bytes(self._own), np.uint8)} if self._own else {}
        return self._graphs | own

    def _place(self, value: np.ndarray, eight_bits: bool) -> Place:
        key = value.tobytes()
        if key not in self._packed:
            self._packed[key] = self._found(value) or self._stored(value, eight_bits)
        return self._packed[key]

    def _found(self, value: np.ndarray) -> Place | None:
        half = value.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), value):
            return None
        for source, content in self._sources.items():
            at = content.find(half.tobytes())
            if at >= 0:
                return Place(source, at, "float16", value.shape)
        return None

    def _stored(self, value: np.ndarray, eight_bits: bool) -> Place:
        exact = _exact_scale(value)
        if exact is not None:
            whole = np.rint(value / exact).astype(np.int8)
            return Place(OWN, self._append(whole), "int8", value.shape, scale=exact)
        if not eight_bits or value[0].size < MANY:
            return Place(OWN, self._append(value.astype(np.float16)), "float16", value.shape)
        largest = np.abs(value).reshape(len(value), -1).max(axis=1)
        scales = (np.maximum(largest, 1e-12) / 127).astype(np.float32)
        whole = np.rint(value / scales.reshape(-1, *[1] * (value.ndim - 1))).astype(np.int8)
        at = self._append(whole)
        return Place(OWN, at, "int8", value.shape, scales=self._append(scales))

    def _append(self, values: np.ndarray) -> int:
        at = len(self._own)
        self._own += values.tobytes()
        return at


def _exact_scale(value: np.ndarray) -> float | None:
    """Returns the power of two of which all numbers are multiples by -128..127; None where there is
    none.
    """
    for power in range(FINEST + 1):
        multiples = value * np.float32(2.0**power)
        if multiples.min() < -128 or multiples.max() > 127:
            return None
        if np.abs(multiples - np.rint(multiples)).max() < EXACT:
            return 2.0**-power
    return None
