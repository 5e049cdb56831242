"""The floating-point transforms as ONNX Runtime sessions: pixels -> latents y, z and y_hat -> pixels.

Pictures wider or higher than TILE pixels run in tiles on a fixed grid, each with as much of its surroundings as
reaches into it, so that memory is bounded and the tiles can share the cores. A session itself has one thread:
how ONNX Runtime splits one sum over threads changes its last bit, and with it, now and then, a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnxruntime

from facecodec.errors import ModelError, UsageError

SUFFIX = "ExecutionProvider"
TILE = 1024  # pixels; a multiple of downsampling times hyper


@dataclass(frozen=True)
class Reach:
    """Positions of y to each side that a result depends on beyond its own place."""

    g_a: int
    h_a: int
    g_s: int


class Transforms:
    """Sessions are made when first used, so that an encoder never loads the synthesis, nor a decoder the rest.

    `downsampling` is the pixels a position of y stands for, `hyper` the positions of y that one of z stands for,
    along one side. `threads` is how many tiles of a picture run at a time; 0 means $FACECODEC_THREADS, or one per core.
    """

    def __init__(
        self, tensors: dict[str, np.ndarray], downsampling: int, hyper: int, reach: Reach, threads: int = 0
    ) -> None:
        self._tensors = tensors
        self._downsampling = downsampling
        self._hyper = hyper
        self._reach = reach
        self._threads = threads or _threads()
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def analyse(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) -> y (M, h, w) and z (C, ceil(h/hyper), ceil(w/hyper)), float32."""
        step = self._downsampling

        def g_a(y: slice, x: slice) -> np.ndarray:
            part = pixels[y.start * step : y.stop * step, x.start * step : x.stop * step]
            image = pad(part, step).transpose(2, 0, 1)[None].astype(np.float32)
            image /= 255
            return self._run("g_a.onnx", image)[0]

        size = tuple(-(-side // step) for side in pixels.shape[:2])
        y = self._tiled(g_a, size, self._reach.g_a, 1, 1)

        def h_a(rows: slice, columns: slice) -> np.ndarray:
            part = y[:, rows, columns]
            extra = [(0, -side % self._hyper) for side in part.shape[1:]]
            return self._run("h_a.onnx", np.pad(part, ((0, 0), *extra), mode="edge")[None])[0]

        return y, self._tiled(h_a, size, self._reach.h_a, 1, self._hyper)

    def synthesise(self, y_hat: np.ndarray, height: int, width: int) -> np.ndarray:
        """y_hat (M, h, w) -> uint8 (height, width, 3), the padding cropped away."""

        def g_s(rows: slice, columns: slice) -> np.ndarray:
            image = self._run("g_s.onnx", y_hat[None, :, rows, columns])[0]
            np.clip(image, 0, 1, out=image)
            image *= 255
            return np.rint(image, out=image).astype(np.uint8)

        image = self._tiled(g_s, y_hat.shape[1:], self._reach.g_s, self._downsampling, 1)
        return image[:, :height, :width].transpose(1, 2, 0)

    def _tiled(
        self,
        work: Callable[[slice, slice], np.ndarray],
        size: tuple[int, int],
        reach: int,
        up: int,
        down: int,
    ) -> np.ndarray:
        """`work` over all of y's `size`: it takes rows and columns of y, and gives `up`/`down` as many.

        Tiles get `reach` more positions to each side, rounded up to `down`, and these are cut off again.
        """
        core = TILE // self._downsampling
        margin = -(-reach // down) * down
        tiles = [(rows, columns) for rows in _tiles(size[0], core, margin) for columns in _tiles(size[1], core, margin)]
        if len(tiles) == 1:
            return work(*(slice(0, side) for side in size))
        from concurrent.futures import ThreadPoolExecutor  # slow to import

        whole: np.ndarray | None = None

        def place(tile: tuple[_Tile, _Tile]) -> None:
            nonlocal whole
            part = work(*(along.seen for along in tile))
            if whole is None:  # the first tile is done before the others begin, and tells the channels
                whole = np.empty((len(part), *(-(-side * up // down) for side in size)), part.dtype)
            inner = [_scaled(along.core, up, down, along.seen.start) for along in tile]
            outer = [_scaled(along.core, up, down, 0) for along in tile]
            whole[:, outer[0], outer[1]] = part[:, inner[0], inner[1]]

        place(tiles[0])
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(place, tiles[1:]):
                pass
        return whole

    def _run(self, name: str, values: np.ndarray) -> np.ndarray:
        if name not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            graph = self._tensors[name].tobytes()
            try:
                session = onnxruntime.InferenceSession(graph, options, providers=[provider()])
            except UsageError:
                raise
            except Exception as error:  # ONNX Runtime raises a type of its own for each kind of damage
                raise ModelError(f"the model's {name} graph does not load: {error}") from None
            if session.get_providers()[0] != provider():  # which ONNX Runtime does without an error
                raise UsageError(f"{provider()} is there but does not start: check its driver and libraries")
            self._sessions[name] = session
        session = self._sessions[name]
        try:
            return session.run(None, {session.get_inputs()[0].name: values})[0]
        except Exception as error:
            if "alloc" in str(error).lower():
                raise MemoryError from None
            raise ModelError(f"the model's {name} graph does not run: {error}") from None


def provider() -> str:
    """ONNX Runtime's name of what runs the transforms, $FACECODEC_PROVIDER or the CPU. Raises UsageError without it."""
    wanted = os.environ.get("FACECODEC_PROVIDER") or "cpu"
    there = {each.removesuffix(SUFFIX).lower(): each for each in onnxruntime.get_available_providers()}
    try:
        return there[wanted.lower()]
    except KeyError:
        raise UsageError(
            f"provider '{wanted}' is not in this ONNX Runtime, which has {', '.join(sorted(there))}: "
            "install onnxruntime-gpu, onnxruntime-openvino or the like in its place"
        ) from None


def _threads() -> int:
    given = os.environ.get("FACECODEC_THREADS", "")
    if given and not (given.isascii() and given.isdigit() and int(given)):
        raise UsageError(f"FACECODEC_THREADS is '{given}': give a number of threads, or unset it")
    return int(given or 0) or os.cpu_count() or 1


@dataclass(frozen=True)
class _Tile:
    """Along one side: the positions that a tile is for, and those that it sees."""

    core: slice
    seen: slice


def _tiles(length: int, core: int, margin: int) -> Iterator[_Tile]:
    for start in range(0, length, core):
        stop = min(start + core, length)
        yield _Tile(slice(start, stop), slice(max(0, start - margin), min(length, stop + margin)))


def _scaled(part: slice, up: int, down: int, origin: int) -> slice:
    return slice((part.start - origin) * up // down, -(-(part.stop - origin) * up // down))


def pad(pixels: np.ndarray, multiple: int) -> np.ndarray:
    """Mirror at the right and bottom up to a multiple; repeat the edge where there is too little to mirror."""
    for axis in (0, 1):
        extra = -pixels.shape[axis] % multiple
        if extra:
            widths = [(0, extra) if a == axis else (0, 0) for a in range(3)]
            pixels = np.pad(pixels, widths, mode="reflect" if extra < pixels.shape[axis] else "edge")
    return pixels
