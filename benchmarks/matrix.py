"""Encodes files in many ways, decodes each in all of them, and counts differing symbols.

    python benchmarks/matrix.py [--images N] [--python NAME=PATH/TO/python ...] [--data DIR]

Ways are threads, BLAS kernels, ONNX Runtime's optimisation levels, sizes of tiles, and interpreters
with other releases of the packages. For the oldest and the newest:

    python3.10 -m venv old && old/bin/pip install . numpy==1.23.5 onnxruntime==1.17.0 \\
        constriction==0.4.0 pillow==10.3.0
    python3.13 -m venv new && new/bin/pip install .
    python benchmarks/matrix.py --python oldest=old/bin/python --python newest=new/bin/python

Pictures are N faces of the LFW test people at qualities spread over the range, and white noise, a
checkerboard and a flat picture at q 8. For comparison, the tables of the decoded symbols are also
computed in float32, as in a codec without integer arithmetic: if any table differs, a file would
decode wrongly.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime

from exactness import KERNELS, replace_networks
from facecodec import frozen, sessions
from facecodec.codec import Codec, open_container
from facecodec.container import Container
from facecodec.exact import IntegerNetwork, _depthwise, _patches, _pixel_shuffle
from facecodec.families.hyperprior import Symbols
from facecodec.families.sliced import Block, Sliced, places


@dataclass(frozen=True)
class Way:
    """A process that encodes or decodes: its interpreter, environment and options of `worker`."""

    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)
    options: dict[str, int] = field(default_factory=dict)


WAYS = {
    "1 thread": Way(environment={"OPENBLAS_NUM_THREADS": "1"}, options={"threads": 1}),
    "2 threads": Way(environment={"OPENBLAS_NUM_THREADS": "2"}, options={"threads": 2}),
    "8 threads": Way(environment={"OPENBLAS_NUM_THREADS": "8"}, options={"threads": 8}),
    **{f"BLAS {kernel}": Way(environment={"OPENBLAS_CORETYPE": kernel}) for kernel in KERNELS},
    "graphs as they are": Way(options={"level": 0}),
    "graphs simplified": Way(options={"level": 1}),
    "tiles of 64": Way(options={"tile": 64}),
    "tiles of 128": Way(options={"tile": 128}),
}


def worker(task: str, folder: Path, way: str, options: dict[str, int]) -> None:
    """Encodes pictures.npz into folder/way, or prints digests of all files below folder.

    It runs in its own process.
    """
    if "tile" in options:
        sessions.TILE = options["tile"]
    if "level" in options:
        level = (
            onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
            onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        )[options["level"]]

        class Options(onnxruntime.SessionOptions):
            def __init__(self) -> None:
                super().__init__()
                self.graph_optimization_level = level

        onnxruntime.SessionOptions = Options
    codec = Codec(frozen.model_path(None), options.get("threads", 0))
    if task == "encode":
        with np.load(folder / "pictures.npz") as stored:
            pictures, qualities = (
                [stored[f"p{i}"] for i in range(len(stored["q"]))],
                stored["q"].tolist(),
            )
        (folder / way).mkdir()
        for number, (picture, quality) in enumerate(zip(pictures, qualities, strict=True)):
            data = codec.encode(picture, quality)
            codec.check(data, picture)  # the symbols read are the symbols rounded
            (folder / way / f"{number:04}.fic").write_bytes(data)
        return
    if task == "drill":
        in_floats = Codec(frozen.model_path(None), options.get("threads", 0))
        replace_networks(in_floats, FloatNetwork)
    digests = {}
    for path in sorted(folder.glob("*/*.fic")):
        parsed = open_container(path.read_bytes())
        symbols = codec.symbols(parsed)
        if task == "decode":
            parts = [symbols.z, symbols.y, symbols.means]
        else:
            parts = list(tables_of(in_floats, symbols, parsed))
        content = b"".join(np.ascontiguousarray(part).astype(np.int64).tobytes() for part in parts)
        digests[f"{path.parent.name}/{path.name}"] = hashlib.sha256(content).hexdigest()
    json.dump(digests, sys.stdout)


def tables_of(codec: Codec, symbols: Symbols, parsed: Container) -> Iterator[np.ndarray]:
    """Yields the tables that a codec would choose for the symbols of a file."""
    family = codec.family
    assert isinstance(family, Sliced)

    def known(block: Block, part: slice, tables: np.ndarray, means: np.ndarray) -> np.ndarray:
        return symbols.y[part, block.rows, block.columns]

    for rows, columns in places(symbols.y.shape[1:]):
        block = family.block(symbols.z, rows, columns, parsed.quality_byte)
        for each in family.code(block, known):
            yield each.tables


class FloatNetwork(IntegerNetwork):
    """The same network in float32, rounded only at its end."""

    def __call__(self, values: np.ndarray) -> np.ndarray:
        x = values.astype(np.float32)
        for number, (weight, bias, kernel, depthwise, upsample) in enumerate(self.layers):
            height, width = x.shape[1:]
            weight = weight.astype(np.float32)
            seen = x if depthwise else _patches(x, kernel).astype(np.float32)
            x = _depthwise(seen, weight) if depthwise else weight @ seen
            x += (bias - 0.5).astype(np.float32)  # half a unit is for rounding
            if number < len(self.layers) - 1:
                x = np.maximum(x, 0)
            x = x.reshape(-1, height, width)
            if upsample:
                x = _pixel_shuffle(x)
        return np.floor(x + 0.5).astype(np.int64)


def run(task: str, folder: Path, name: str, way: Way) -> str:
    command = [
        way.python,
        __file__,
        "--worker",
        task,
        str(folder),
        name.replace(" ", "-"),
        json.dumps(way.options),
    ]
    done = subprocess.run(
        command, env={**os.environ, **way.environment}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    return done.stdout


def write_pictures(folder: Path, root: Path, count: int) -> int:
    from facecodec import images
    from facecodec.datasets import lfw

    rng = np.random.default_rng(0)
    photos = lfw(root, "test")
    pictures = [images.load(photo.path) for photo in photos[:: len(photos) // count][:count]]
    board = (255 * (np.indices((250, 250)).sum(axis=0) % 2)).astype(np.uint8)
    pictures += [
        rng.integers(0, 256, (250, 250, 3), np.uint8),
        np.repeat(board[..., None], 3, axis=2),
    ]
    pictures.append(np.full((250, 250, 3), 200, np.uint8))
    qualities = [*np.linspace(1, 8, count), 8.0, 8.0, 8.0]
    np.savez(
        folder / "pictures.npz",
        q=qualities,
        **{f"p{i}": picture for i, picture in enumerate(pictures)},
    )
    return len(pictures)


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], Path(sys.argv[3]), sys.argv[4], json.loads(sys.argv[5]))
        return
    from facecodec.folders import data_root

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    ways = WAYS | {
        name: Way(path) for name, _, path in (each.partition("=") for each in arguments.python)
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = write_pictures(folder, data_root(arguments.data), arguments.images)
        for each, way in ways.items():
            run("encode", folder, each, way)
        decoded = {each: json.loads(run("decode", folder, each, way)) for each, way in ways.items()}
        drilled = {each: json.loads(run("drill", folder, each, way)) for each, way in ways.items()}
    first = next(iter(ways))
    print(
        f"{count} pictures, encoded and decoded in {len(ways)} ways each: {len(decoded[first])} files\n"
    )
    print(
        "| decoded with | files whose symbols differ | files whose tables would, in float32 |\n| --- | --- | --- |"
    )
    for each in ways:
        wrong, would = (
            sum(t[each][file] != t[first][file] for file in t[first]) for t in (decoded, drilled)
        )
        print(f"| {each} | {wrong} | {would} ({would / len(decoded[first]):.0%}) |")


if __name__ == "__main__":
    main()
