"""Measures what one call in a shell loop costs, for a 250x250 JPEG, beside ffmpeg with libx265.

    python benchmarks/startup.py [--repeats N] [--python PATH]

It times whole processes in turn, prints median and interquartile range, and shows where the time
goes. `--python` is the interpreter of another environment with facecodec, such as one without
extras.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from facecodec.bench.codecs import find_codec

IMPORTS = "import onnxruntime, PIL.Image, PIL.JpegImagePlugin"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    arguments = parser.parse_args()
    python, ours = str(arguments.python), str(arguments.python.with_name("facecodec"))
    hevc = find_codec("hevc").commands
    assert hevc is not None
    with tempfile.TemporaryDirectory() as folder:
        face, fic, png, stream, back = (
            Path(folder, name) for name in ("f.jpg", "f.fic", "f.png", "f.hevc", "b.png")
        )
        Image.fromarray(data.astronaut()).crop((96, 0, 346, 250)).save(face, quality=90)
        calls = {
            "ffmpeg encode": hevc.encode(28, face, stream),
            "ffmpeg decode": hevc.decode(stream, back),
            "facecodec encode": [ours, "encode", str(face), "-o", str(fic), "-f", "--quiet"],
            "facecodec decode": [ours, "decode", str(fic), "-o", str(png), "-f", "--quiet"],
            "Python alone": [python, "-c", "pass"],
            "Python, NumPy": [python, "-c", "import numpy"],
            "Python, NumPy, Pillow, ONNX Runtime": [python, "-c", IMPORTS],
            "facecodec --help": [ours, "--help"],
        }
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(arguments.repeats + 1):
            for name, command in calls.items():
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                if number:  # the first fills the disk's cache
                    taken[name].append(time.perf_counter() - began)
    print("| | ms | times ffmpeg |\n| --- | --- | --- |")
    for name, seconds in taken.items():
        low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
        kind = name.split()[-1] if name.split()[-1] in ("encode", "decode") else "encode"
        ratio = np.median(np.array(seconds) / np.array(taken[f"ffmpeg {kind}"]))
        print(f"| {name} | {1000 * median:.0f} ({1000 * (high - low):.0f}) | {ratio:.1f} |")


if __name__ == "__main__":
    main()
