"""Packs graphs and weights into the tensors of a small search file (facecodec/search/files.py).

A weight that is in the model or another file is only referred to. Other weights are stored in eight
bits if all their numbers are small multiples of a power of two, and otherwise in half precision. If
eight bits suffice for a network, its large weights get eight bits and a scale per output channel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from facecodec.networks.gradients import Bare
from facecodec.search.files import OWN, Place, Places

FINEST = 16  # the smallest exact scale that is tried is 2 to minus this
MANY = 64  # eight bits suffice only for output channels with so many numbers
EXACT = 1e-5  # tolerance of an exact multiple, because of half precision


class Packing:
    """A search file in the making. `sources` are arrays that may already contain weights."""

    def __init__(self, sources: Mapping[str, np.ndarray]) -> None:
        self._sources = {name: array.tobytes() for name, array in sources.items()}
        self._graphs: dict[str, np.ndarray] = {}
        self._own = bytearray()
        self._packed: dict[tuple[tuple[int, ...], bool, bytes], Place] = {}
        self.places: Places = {}

    def add(
        self,
        name: str,
        bare: Bare,
        known: Mapping[str, Place] | None = None,
        eight_bits: bool = False,
    ) -> None:
        """Adds a graph.

        `known` are the places of weights that are known; `eight_bits` means that eight suffice.
        """
        self._graphs[name] = bare.content
        self.places[name] = {
            weight: known[weight] if known and weight in known else self._place(value, eight_bits)
            for weight, value in bare.weights.items()
        }

    def tensors(self) -> dict[str, np.ndarray]:
        """Returns the graphs by name, and under OWN the weights that no source has; all uint8."""
        own = {OWN: np.frombuffer(bytes(self._own), np.uint8)} if self._own else {}
        return self._graphs | own

    def _place(self, value: np.ndarray, eight_bits: bool) -> Place:
        key = (value.shape, eight_bits, value.tobytes())
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
    """Returns the power of two of which all numbers are multiples by -128..127, or None."""
    for power in range(FINEST + 1):
        multiples = value * np.float32(2.0**power)
        if multiples.min() < -128 or multiples.max() > 127:
            return None
        if np.abs(multiples - np.rint(multiples)).max() < EXACT:
            return 2.0**-power
    return None
