"""Gradient graphs as ONNX Runtime sessions of one thread: the same input gives the same file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from facecodec.sessions import open_session, run_session

WHAT = "a graph of the search file"
FLOAT = 1  # of ONNX's TensorProto.DataType


class Graph:
    """One graph, together with the weights that it lacks, by name.

    Raises ModelError if it does not load or run.
    """

    def __init__(self, content: np.ndarray, weights: Mapping[str, np.ndarray]) -> None:
        self._session = open_session(content.tobytes() + _initializers(weights), WHAT)

    def __call__(self, *values: np.ndarray) -> list[np.ndarray]:
        """Returns the outputs. `values` are the inputs, in the graph's order."""
        return run_session(self._session, WHAT, *values)


def _initializers(weights: Mapping[str, np.ndarray]) -> bytes:
    """Returns bytes that add float32 weights as initializers when appended to an ONNX model.

    Concatenating two messages of Protocol Buffers merges them. The numbers are those of the fields
    in onnx.proto.
    """
    graph = b""
    for name, weight in weights.items():
        tensor = b"".join(_integer(1, side) for side in weight.shape) + _integer(2, FLOAT)
        tensor += _bytes(8, name.encode()) + _bytes(9, weight.astype("<f4").tobytes())
        graph += _bytes(5, tensor)
    return _bytes(7, graph)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


class Applied:
    """The result of a transform, and its gradient."""

    def __init__(self, outputs: list[np.ndarray], backward: Graph) -> None:
        self.result = outputs[0][0]
        self._between, self._backward = outputs[1:], backward

    def gradient(self, cotangent: np.ndarray) -> np.ndarray:
        """Returns the gradient of the sum of `cotangent` times the result, for the values."""
        return self._backward(cotangent[None], *self._between)[0][0]


class Transform:
    """A transform and its gradient: a forward graph, and a backward graph that uses its outputs."""

    def __init__(self, forward: Graph, backward: Graph) -> None:
        self._forward, self._backward = forward, backward

    def __call__(self, values: np.ndarray) -> Applied:
        """Applies the transform to float32 (C, h, w). The result is (C', h', w')."""
        return Applied(self._forward(values[None]), self._backward)
