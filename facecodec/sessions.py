"""The floating-point transforms as ONNX Runtime sessions: pixels -> latents -> pixels.

Pictures wider or higher than TILE pixels run in tiles on a fixed grid. Each tile includes the
surroundings that its result depends on. So memory is bounded, and tiles run in parallel. A session
has one thread only: ONNX Runtime splits sums over threads, which changes their last bit, and so, at
times, a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from facecodec.errors import ModelError, UsageError
from facecodec.processes import usable_cores
from facecodec.tensors import REACH
from facecodec.text import printable

if TYPE_CHECKING:
    import onnxruntime  # 20 MB, so elsewhere it is imported only when a graph runs

SUFFIX = "ExecutionProvider"
CPU = "CPUExecutionProvider"
EXTERNAL = b"location"  # the key in ONNX before the path of an external file of weights
TILE = 1024  # pixels; a multiple of downsampling times hyper


class Transforms:
    """The graphs of a model. A session is made at its first use, so encoders load no synthesis.

    `threads` is how many tiles of a picture run at a time; 0 means $FACECODEC_THREADS, or one per
    core. The `step` of a graph is the number of pixels per position of its latents, along a side.
    Its reach is how many positions to each side a result depends on, beyond its own. The tensor
    NAME.reach gives it, or it is measured when a picture first needs tiles.
    """

    def __init__(self, tensors: dict[str, np.ndarray], threads: int = 0) -> None:
        self._tensors = tensors
        self._threads = threads or _threads()
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._measured: dict[str, int] = {}

    def of_pixels(
        self, name: str, pixels: np.ndarray, step: int, quality: float = 1.0
    ) -> np.ndarray:
        """Runs a graph on uint8 (H, W, 3), to float32 (M, ceil(H/step), ceil(W/step)).

        The graph takes values in 0..1, and `quality`, 1 to 8, if it has a second input.
        """

        def part(rows: slice, columns: slice) -> np.ndarray:
            seen = pixels[
                rows.start * step : rows.stop * step, columns.start * step : columns.stop * step
            ]
            image = pad(seen, step).transpose(2, 0, 1)[None].astype(np.float32)
            image /= 255
            return self._run(name, image, 1, step, quality)

        height, width = pixels.shape[:2]
        size = (-(-height // step), -(-width // step))
        reach = partial(self._reach, name, pixels.shape[2], down=step)
        return self._tiled(part, size, TILE // step, reach)

    def of_latents(self, name: str, latents: np.ndarray, step: int, down: int) -> np.ndarray:
        """Runs a graph on latents (M, h, w) with this `step`.

        Returns float32 (C, ceil(h/down), ceil(w/down)).
        """

        def part(rows: slice, columns: slice) -> np.ndarray:
            seen = latents[:, rows, columns]
            extra = [(0, -side % down) for side in seen.shape[1:]]
            return self._run(name, np.pad(seen, ((0, 0), *extra), mode="edge")[None], 1, down)

        channels, height, width = latents.shape
        reach = partial(self._reach, name, channels, down=down, unit=down)
        return self._tiled(part, (height, width), TILE // step, reach, down=down)

    def to_pixels(
        self, name: str, latents: np.ndarray, size: tuple[int, int], step: int
    ) -> np.ndarray:
        """Runs a graph on latents (M, h, w), to uint8 (*size, 3), without the padding.

        The graph gives values in 0..1.
        """

        def part(rows: slice, columns: slice) -> np.ndarray:
            image = self._run(name, latents[None, :, rows, columns], step, 1)
            if len(image) != 3:
                raise ModelError(f"the model's {name} graph gives {len(image)} channels, not RGB")
            np.clip(image, 0, 1, out=image)
            image *= 255
            return np.rint(image, out=image).astype(np.uint8)

        pixels = np.empty((*size, 3), np.uint8)
        channels, height, width = latents.shape
        out = pixels.transpose(2, 0, 1)
        reach = partial(self._reach, name, channels, up=step)
        self._tiled(part, (height, width), TILE // step, reach, up=step, out=out)
        return pixels

    def vectors(self, name: str, latents: np.ndarray) -> list[np.ndarray]:
        """Runs a graph on latents (M, h, w). Returns all its outputs; the first is float32 (D,).

        Raises ModelError.
        """
        results = self._results(name, latents[None])
        if results[0].ndim != 2 or any(
            len(each) != 1 or each.dtype != np.float32 for each in results
        ):
            outputs = ", ".join(f"{each.dtype} {each.shape}" for each in results)
            raise ModelError(f"the model's {name} graph gives {outputs}")
        return [each[0] for each in results]

    def _tiled(
        self,
        work: Callable[[slice, slice], np.ndarray],
        size: tuple[int, int],
        core: int,
        reach: Callable[[], int],
        up: int = 1,
        down: int = 1,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Runs `work` over a `size` in tiles of `core` positions, and joins the results.

        `work` takes rows and columns, and returns `up`/`down` times as many. If there are several
        tiles, each gets `reach()` more positions to each side, rounded up to `down`; their results
        are cut off. The result is written to `out`, if given, without what lies beyond its edges.
        """
        margin = -(-reach() // down) * down if max(size) > core else 0
        tiles = [
            (rows, columns)
            for rows in _tiles(size[0], core, margin)
            for columns in _tiles(size[1], core, margin)
        ]
        if len(tiles) == 1 and out is None:
            return work(slice(0, size[0]), slice(0, size[1]))

        # The first tile runs before the others: it gives the channels and the type of the result.
        first = work(*(along.seen for along in tiles[0]))
        sides = (-(-side * up // down) for side in size)
        result = np.empty((len(first), *sides), first.dtype) if out is None else out

        def place(part: np.ndarray, tile: tuple[_Tile, _Tile]) -> None:
            inner = [_scaled(along.core, up, down, along.seen.start) for along in tile]
            outer = [_scaled(along.core, up, down, 0) for along in tile]
            target = result[:, outer[0], outer[1]]
            height, width = target.shape[1:]
            target[:] = part[:, inner[0], inner[1]][:, :height, :width]

        def run(tile: tuple[_Tile, _Tile]) -> None:
            place(work(*(along.seen for along in tile)), tile)

        place(first, tiles[0])
        if len(tiles) == 1:
            return result
        from concurrent.futures import ThreadPoolExecutor  # slow to import

        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(run, tiles[1:]):
                pass
        self._sessions.clear()  # each keeps as much memory as its tiles took
        return result

    def _reach(self, name: str, channels: int, up: int = 1, down: int = 1, unit: int = 1) -> int:
        """Returns the reach of a graph in positions; a cell of `measured_reach` has `unit`."""
        reach = self._tensors.get(f"{name.removesuffix('.onnx')}.reach")
        if reach is not None:
            return int(reach[0])
        if name not in self._measured:
            self._measured[name] = unit * self.measured_reach(name, channels, up, down)
        return self._measured[name]

    def measured_reach(self, name: str, channels: int, up: int = 1, down: int = 1) -> int:
        """Returns how many cells to each side, beyond its own, a result of a graph depends on.

        A cell is a square of the input with sides of `down`, which becomes a square of the output
        with sides of `up`. One cell of the input is set to NaN; every output that depends on it
        becomes NaN, whatever the weights are. Raises ModelError for a reach above REACH.most.
        """
        for far in (16, int(REACH.most) + 1):  # for most graphs the first is enough
            found = [self._spread(name, channels, up, down, axis, far) for axis in (2, 3)]
            if max(found) < far:
                return max(found)
        raise ModelError(f"the model's {name} graph looks too far for pictures above {TILE} pixels")

    def _spread(self, name: str, channels: int, up: int, down: int, axis: int, far: int) -> int:
        """Measures the reach along one axis of a strip that has `far` cells to each side."""
        shape, cell = [1, channels, down, down], [slice(None)] * 4
        shape[axis] *= 2 * far + 1
        cell[axis] = slice(far * down, (far + 1) * down)
        values = np.zeros(shape, np.float32)
        values[tuple(cell)] = np.nan
        result = np.moveaxis(self._run(name, values, up, down), axis - 1, 0)
        cells = np.flatnonzero(np.isnan(result).any((1, 2))) // up - far
        if not len(cells):
            raise ModelError(f"the output of the model's {name} graph does not depend on its input")
        return int(max(-cells[0], cells[-1]))

    def sees_quality(self, name: str) -> bool:
        """Returns whether a graph has a second input, the quality."""
        return len((self._sessions.get(name) or self._open(name)).get_inputs()) > 1

    def _run(
        self, name: str, values: np.ndarray, up: int, down: int, quality: float = 1.0
    ) -> np.ndarray:
        """Returns the result of a graph for (1, ., h, w): float32 (C, h up/down, w up/down).

        Raises ModelError.
        """
        inputs = [values]
        if self.sees_quality(name):
            inputs.append(np.array([quality], np.float32))
        result = self._results(name, *inputs)[0]
        size = tuple(side * up // down for side in values.shape[2:])
        if (
            result.ndim != 4
            or len(result) != 1
            or result.shape[2:] != size
            or result.dtype != np.float32
        ):
            raise ModelError(f"the model's {name} graph gives {result.dtype} {result.shape}")
        return result[0]

    def _results(self, name: str, *values: np.ndarray) -> list[np.ndarray]:
        session = self._sessions.get(name) or self._open(name)
        return run_session(session, f"the model's {name} graph", *values)

    def _open(self, name: str) -> onnxruntime.InferenceSession:
        session = open_session(
            self._tensors[name].tobytes(), f"the model's {name} graph", provider()
        )
        if session.get_providers()[0] != provider():  # ONNX Runtime falls back without an error
            raise UsageError(
                f"{provider()} is there but does not start: check its driver and libraries"
            )
        self._sessions[name] = session
        return session


def open_session(graph: bytes, what: str, provider: str = CPU) -> onnxruntime.InferenceSession:
    """Returns a session, with one thread, of an ONNX graph in a model.

    It prints nothing. It refuses a graph that reads its weights from another file: a hostile one
    could show any file as a picture. Raises ModelError, which begins with `what`.
    """
    import onnxruntime

    if EXTERNAL in graph:
        raise ModelError(f"{what} reads another file, which no model may do")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False  # a fifth less memory for a tile, at no cost in time
    options.log_severity_level = 4  # errors are raised, so that names in them can be escaped
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:  # without ONNX Runtime's fallback, which prints why the first try failed
        return onnxruntime.InferenceSession(graph, options, [provider], enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises a type of its own for each kind of damage
        raise ModelError(f"{what} does not load: {printable(str(error))}") from None


def run_session(
    session: onnxruntime.InferenceSession, what: str, *values: np.ndarray
) -> list[np.ndarray]:
    """Returns all outputs of a graph. `values` are its inputs, in order.

    Raises ModelError and MemoryError.
    """
    try:
        names = [each.name for each in session.get_inputs()]
        return session.run(None, dict(zip(names, values, strict=True)))
    except Exception as error:
        if "alloc" in str(error).lower():
            raise MemoryError from None
        raise ModelError(f"{what} does not run: {printable(str(error))}") from None


def provider() -> str:
    """Returns ONNX Runtime's name of the execution provider in $FACECODEC_PROVIDER, or the CPU's.

    Raises UsageError if this ONNX Runtime has no such provider.
    """
    import onnxruntime

    wanted = os.environ.get("FACECODEC_PROVIDER") or "cpu"
    there = {
        each.removesuffix(SUFFIX).lower(): each for each in onnxruntime.get_available_providers()
    }
    try:
        return there[wanted.lower()]
    except KeyError:
        raise UsageError(
            f"provider '{wanted}' is not in this ONNX Runtime, which has "
            f"{', '.join(sorted(there))}: install onnxruntime-gpu, onnxruntime-openvino or the "
            "like in its place"
        ) from None


def _threads() -> int:
    given = os.environ.get("FACECODEC_THREADS", "")
    if given and not (given.isascii() and given.isdigit() and int(given)):
        raise UsageError(f"FACECODEC_THREADS is '{given}': give a number of threads, or unset it")
    return int(given or 0) or usable_cores()


@dataclass(frozen=True)
class _Tile:
    """The positions of a tile along one side, and the wider range that the network sees for it."""

    core: slice
    seen: slice


def _tiles(length: int, core: int, margin: int) -> Iterator[_Tile]:
    for start in range(0, length, core):
        stop = min(start + core, length)
        yield _Tile(slice(start, stop), slice(max(0, start - margin), min(length, stop + margin)))


def _scaled(part: slice, up: int, down: int, origin: int) -> slice:
    return slice((part.start - origin) * up // down, -(-(part.stop - origin) * up // down))


def pad(pixels: np.ndarray, multiple: int) -> np.ndarray:
    """Pads at the right and bottom to a multiple.

    The padding is a mirror image, or the edge repeated if there is too little to mirror.
    """
    for axis in (0, 1):
        extra = -pixels.shape[axis] % multiple
        if extra:
            widths = [(0, extra) if a == axis else (0, 0) for a in range(3)]
            pixels = np.pad(
                pixels, widths, mode="reflect" if extra < pixels.shape[axis] else "edge"
            )
    return pixels
