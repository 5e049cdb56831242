"""Measures rate and PSNR on the LFW test people through real files, beside HEVC intra.

    python benchmarks/lfw_rate.py [-q 1 2 ...] [--crf 23 28 33] [--limit N] [--model NAME]
        [--data DIR]

Each quality takes one `facecodec encode` and one `facecodec decode` over all images. bpp is total
bits over total pixels. PSNR is the mean of each image's PSNR over RGB. HEVC is ffmpeg's libx265,
preset medium, 4:2:0, as a raw stream without x265's text about its settings. Prints lines of JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from facecodec.bench.codecs import find_codec
from facecodec.bench.metrics import psnr
from facecodec.datasets import lfw
from facecodec.folders import data_root

FACECODEC = [sys.executable, "-m", "facecodec"]


def facecodec(files: list[Path], q: float, model: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the bytes and the decoded pixels of each file. Runs two processes for all files."""
    with tempfile.TemporaryDirectory() as work:
        root = files[0].parents[1]
        names = b"\0".join(str(file.relative_to(root)).encode() for file in files)
        encoded, decoded = Path(work, "fic"), Path(work, "ppm")
        command = [
            *FACECODEC,
            "encode",
            "--files0-from",
            "-",
            "-o",
            str(encoded),
            "-q",
            str(q),
            "--quiet",
            *model,
        ]
        subprocess.run(command, input=names, cwd=root, check=True)
        subprocess.run(
            [*FACECODEC, "decode", encoded, "-o", decoded, "--format", "ppm", "--quiet"], check=True
        )
        for file in files:
            place = file.relative_to(root)
            size = (encoded / place).with_suffix(".fic").stat().st_size
            yield size, np.asarray(Image.open((decoded / place).with_suffix(".ppm")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-q", nargs="*", type=float, default=list(range(1, 9)))
    parser.add_argument("--crf", nargs="*", type=int, default=[])
    parser.add_argument("--limit", type=int, help="number of images, evenly spread over the list")
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    files = [photo.path for photo in lfw(data_root(arguments.data), "test")]
    if arguments.limit:
        files = files[:: -(-len(files) // arguments.limit)]
    originals = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    pixels = sum(image.shape[0] * image.shape[1] for image in originals)

    def tell(codec: str, setting: float, results: list[tuple[int, np.ndarray]]) -> None:
        bpp = 8 * sum(size for size, _ in results) / pixels
        mean = float(
            np.mean([psnr(x, x_hat) for x, (_, x_hat) in zip(originals, results, strict=True)])
        )
        row = {
            "codec": codec,
            "setting": setting,
            "images": len(files),
            "bpp": round(bpp, 4),
            "psnr": round(mean, 3),
        }
        print(json.dumps(row), flush=True)

    model = ["-m", arguments.model] if arguments.model else []
    for q in arguments.q:
        tell(arguments.model or "facecodec", q, list(facecodec(files, q, model)))
    hevc = find_codec("hevc")

    def reference(image: np.ndarray, crf: float) -> tuple[int, np.ndarray]:
        data = hevc.encode(image, crf)
        height, width, _ = image.shape
        return len(data), hevc.decode(data, (height, width))

    with ThreadPoolExecutor(2) as pool:
        for crf in arguments.crf:
            tell("hevc", crf, list(pool.map(partial(reference, crf=crf), originals)))


if __name__ == "__main__":
    main()
