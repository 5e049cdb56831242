"""Decodes the same files in different ways and compares every symbol.

    python benchmarks/exactness.py [--images N] [--data DIR]

Files are N faces of the LFW test people at qualities spread over the range, the Kodak photographs
at q 8, white noise, a checkerboard and a flat picture. They are decoded with 1 and 2 threads, in
one process and in one process per file, with other BLAS kernels, and with loops over int64 instead
of the integer networks. It prints one line for each way.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from facecodec import frozen
from facecodec.codec import Codec, open_container
from facecodec.exact import LIMIT, IntegerNetwork, Layer, read_layers
from facecodec.families.sliced import Sliced

KERNELS = ("Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen")  # of OpenBLAS


def digest(codec: Codec, path: Path) -> str:
    symbols = codec.symbols(open_container(path.read_bytes()))
    return hashlib.sha256(
        symbols.z.tobytes() + symbols.y.tobytes() + symbols.means.tobytes()
    ).hexdigest()


def digests(files: list[Path], threads: int = 0) -> list[str]:
    codec = Codec(frozen.model_path(None), threads)
    return [digest(codec, file) for file in files]


def in_a_process(files: list[Path], threads: int, **environment: str) -> list[str]:
    command = [sys.executable, __file__, "--digest", str(threads), *map(str, files)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout.split()


class Int64Network(IntegerNetwork):
    """An integer network of docs/format.md in int64, without a matrix product."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__(layers)
        self.stored = layers

    def __call__(self, values: np.ndarray) -> np.ndarray:
        x = np.clip(values, -LIMIT, LIMIT)
        for number, layer in enumerate(self.stored):
            height, width = x.shape[1:]
            weight = layer.weight.astype(np.int64)
            radius = weight.shape[2] // 2
            padded = np.pad(x, ((0, 0), (radius, radius), (radius, radius)))
            total = np.zeros((len(weight), height, width), np.int64)
            for dy in range(weight.shape[2]):
                for dx in range(weight.shape[3]):
                    view = padded[:, dy : dy + height, dx : dx + width]
                    if weight.shape[1] == len(x):
                        total += np.einsum("oi,ihw->ohw", weight[:, :, dy, dx], view)
                    else:  # depthwise
                        total += weight[:, 0, dy, dx, None, None] * view
            x = (total + layer.bias[:, None, None] + (1 << (layer.shift - 1))) >> layer.shift
            if number < len(self.stored) - 1:
                x = np.clip(x, 0, LIMIT)
            if layer.upsample:
                x = (
                    x.reshape(-1, 2, 2, height, width)
                    .transpose(0, 3, 1, 4, 2)
                    .reshape(-1, 2 * height, 2 * width)
                )
        return x


def replace_networks(codec: Codec, kind: type[IntegerNetwork]) -> None:
    """Lets a codec decode with integer networks of another kind."""
    family, tensors = codec.family, frozen.load(codec.card.path)[1]
    assert isinstance(family, Sliced)  # the default model's
    family.z.h_s = kind(read_layers(tensors, "h_s"))
    family.networks = [
        kind(read_layers(tensors, f"slice{number}")) for number in range(1, len(family.parts))
    ]


def write_files(folder: Path, root: Path, count: int) -> list[Path]:
    from facecodec.datasets import lfw

    codec = Codec(frozen.model_path(None))
    rng = np.random.default_rng(0)
    photos = lfw(root, "test")
    pictures = [np.asarray(Image.open(p.path)) for p in photos[:: len(photos) // count][:count]]
    qualities = [1 + 7 * i / (count - 1) for i in range(count)]
    board = (255 * (np.indices((250, 250)).sum(axis=0) % 2)).astype(np.uint8)
    pictures += [
        rng.integers(0, 256, (250, 250, 3), dtype=np.uint8),
        np.repeat(board[..., None], 3, axis=2),
    ]
    pictures += [np.full((250, 250, 3), 200, np.uint8)]
    pictures += [
        np.asarray(Image.open(path).convert("RGB"))
        for path in sorted((root / "kodak").glob("*.png"))
    ]
    qualities += [8.0] * (len(pictures) - count)
    files, escapes = [], 0
    for number, (picture, quality) in enumerate(zip(pictures, qualities, strict=True)):
        files.append(folder / f"{number:04}.fic")
        data = codec.encode(picture, quality)
        files[-1].write_bytes(data)
        escapes += sum(codec.symbols(open_container(data)).escapes.values())
    print(f"{len(files)} files, {escapes} escapes")
    return files


def main() -> None:
    if sys.argv[1:2] == ["--digest"]:
        print("\n".join(digests([Path(name) for name in sys.argv[3:]], int(sys.argv[2]))))
        return
    from facecodec.folders import data_root

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), data_root(arguments.data), arguments.images)
        expected = digests(files, threads=1)

        def compare(name: str, found: list[str]) -> None:
            differing = sum(a != b for a, b in zip(expected, found, strict=True))
            print(f"{name}: {differing} of {len(expected)} files differ", flush=True)

        compare("2 threads", in_a_process(files, 2, OPENBLAS_NUM_THREADS="2"))
        compare("1 BLAS thread", in_a_process(files, 1, OPENBLAS_NUM_THREADS="1"))
        for kernel in KERNELS:
            compare(f"BLAS kernel {kernel}", in_a_process(files, 2, OPENBLAS_CORETYPE=kernel))
        compare("one process a file", [in_a_process([file], 0)[0] for file in files])
        codec = Codec(frozen.model_path(None))
        replace_networks(codec, Int64Network)
        compare("int64 reference", [digest(codec, file) for file in files])


if __name__ == "__main__":
    main()
