"""Gradient graphs as ONNX Runtime sessions of one thread: the same input gives the same file."""

from __future__ import annotations

import numpy as np

from facecodec.sessions import open_session, run_session

WHAT = "a graph of the search file"


class Graph:
    """One graph. Raises ModelError where it does not load, and where it does not run."""

    def __init__(self, content: np.ndarray) -> None:
        self._session = open_session(content.tobytes(), WHAT)
        self.inputs = [each.name for each in self._session.get_inputs()]

    def __call__(self, *values: np.ndarray) -> list[np.ndarray]:
        """Returns the outputs, for inputs in the graph's order."""
        return run_session(self._session, WHAT, *values)


class Transform:
    """A transform and its gradient: a forward and a backward graph that share intermediate
    results.
    """

    def __init__(self, tensors: dict[str, np.ndarray], name: str) -> None:
        self._forward = Graph(tensors[f"{name}.forward.onnx"])
        self._backward = Graph(tensors[f"{name}.backward.onnx"])
        self._between: list[np.ndarray] = []

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """float32 (C, h, w) -> (C', h', w'). What `gradient` needs is kept until the next call."""
        result, *self._between = self._forward(values[None])
        return result[0]

    def gradient(self, cotangent: np.ndarray) -> np.ndarray:
        """With respect to the last values, of the sum of `cotangent` times the result."""
        return self._backward(cotangent[None], *self._between)[0][0]
