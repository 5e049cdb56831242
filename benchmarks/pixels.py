"""Measures time and peak memory of one call, for pictures of 0.06 to 100 megapixels.

    python benchmarks/pixels.py [-o docs/images/pixels.png]

Each call is a whole process: `facecodec encode` of a PPM file, or `facecodec decode` to one. The
picture is scikit-image's astronaut, enlarged, and mirrored side by side.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

SIDES = (250, 500, 1000, 2000, 4000, 10000)


def picture(side: int) -> Image.Image:
    face = np.asarray(
        Image.fromarray(data.astronaut()).resize((1024, 1024), Image.Resampling.LANCZOS)
    )
    double = np.concatenate([face, face[:, ::-1]], axis=1)
    tile = np.concatenate([double, double[::-1]], axis=0)
    count = -(-side // len(tile))
    return Image.fromarray(np.tile(tile, (count, count, 1))[:side, :side])


def measured(*arguments: object) -> tuple[float, int]:
    """Returns the seconds and the peak bytes of a call of the command line."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "facecodec", *map(str, arguments), "--quiet", "-f"]
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"facecodec {' '.join(map(str, arguments))} failed")
    return time.perf_counter() - began, 1024 * usage.ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    rows: list[tuple[float, ...]] = []
    print(
        "| megapixels | encode | decode | peak memory, encode | decode |\n| --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        raw, coded, back = (
            Path(folder, name) for name in ("picture.ppm", "picture.fic", "back.ppm")
        )
        for side in SIDES:
            picture(side).save(raw)
            limit = ("--max-pixels", side * side)
            pixels = side * side / 1e6
            encode, encode_bytes = measured("encode", raw, "-o", coded, *limit)
            decode, decode_bytes = measured("decode", coded, "-o", back, *limit)
            rows.append((pixels, encode, encode_bytes, decode, decode_bytes))
            print(
                f"| {pixels:.2f} | {encode:.2f} s | {decode:.2f} s | {encode_bytes / 1e6:.0f} MB "
                f"| {decode_bytes / 1e6:.0f} MB |",
                flush=True,
            )
    if arguments.output:
        draw(rows, arguments.output)


def draw(rows: list[tuple[float, ...]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    pixels, encode, encode_bytes, decode, decode_bytes = zip(*rows, strict=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for axis, each, label in (
        (left, (encode, decode), "seconds"),
        (right, (encode_bytes, decode_bytes), "peak memory, GB"),
    ):
        for values, name in zip(each, ("encode", "decode"), strict=True):
            axis.plot(
                pixels, [value / (1 if axis is left else 1e9) for value in values], "o-", label=name
            )
        axis.set(xscale="log", yscale="log", xlabel="megapixels", ylabel=label)
        axis.grid(True, which="major", alpha=0.3)
        axis.legend()
    slope = encode[-1] / pixels[-1]
    reach = [pixel for pixel in pixels if math.log10(pixel) > -0.1]
    left.plot(reach, [slope * pixel for pixel in reach], "--", color="grey", label="proportional")
    left.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
