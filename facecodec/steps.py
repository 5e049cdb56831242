"""Stores the tables of a model in half of their bytes: the first row, and the steps between rows.

Each quality byte has a row of gains, and neighbouring rows differ little. So a table of int32 whose
steps fit into int16 is stored as two tensors, `NAME.first` and `NAME.steps` (docs/format.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from facecodec.text import printable

FIRST, STEPS = ".first", ".steps"
WHOLE = np.iinfo(np.int32)
SMALL = np.iinfo(np.int16)


def packed(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors as a model file stores them."""
    stored: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if tensor.dtype == np.int32 and tensor.ndim == 2 and len(tensor) > 1:
            steps = np.diff(tensor.astype(np.int64), axis=0)
            if steps.min() >= SMALL.min and steps.max() <= SMALL.max:
                stored[name + FIRST] = tensor[:1].copy()
                stored[name + STEPS] = steps.astype(np.int16)
                continue
        stored[name] = tensor
    return stored


def unpacked(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors of a model file. Raises ValueError if one is malformed."""
    tensors = {name: each for name, each in stored.items() if not name.endswith((FIRST, STEPS))}
    parts = stored.keys() - tensors
    for name in sorted({part.removesuffix(FIRST).removesuffix(STEPS) for part in parts}):
        first, steps = (stored.get(name + end) for end in (FIRST, STEPS))
        if (
            first is None
            or steps is None
            or name in tensors
            or first.dtype != np.int32
            or steps.dtype != np.int16
            or first.shape != (1, *steps.shape[1:])
        ):
            raise ValueError(f"tensor {printable(name)} is not stored as a first row and steps")
        table = np.concatenate([first, steps]).cumsum(axis=0, dtype=np.int64)
        if table.size and not (WHOLE.min <= table.min() and table.max() <= WHOLE.max):
            raise ValueError(f"tensor {printable(name)} has a value beyond int32")
        tensors[name] = table.astype(np.int32)
    return tensors
