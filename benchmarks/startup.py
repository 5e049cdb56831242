"""Whole processes on one 250x250 JPEG, median of 10: what one call in a shell loop costs.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from skimage import data


def median(*arguments: str, repeats: int = 10) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run([*arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    command = str(Path(sys.executable).with_name("facecodec"))
    with tempfile.TemporaryDirectory() as folder:
        face, fic, png = (str(Path(folder, name)) for name in ("face.jpg", "face.fic", "face.png"))
        Image.fromarray(data.astronaut()).crop((96, 0, 346, 250)).save(face, quality=90)
        print(f"python -c pass:     {median(sys.executable, '-c', 'pass'):.3f} s")
        print(f"facecodec --help:   {median(command, '--help'):.3f} s")
        print(f"facecodec encode:   {median(command, 'encode', face, '-o', fic, '-f', '--quiet'):.3f} s")
        print(f"facecodec decode:   {median(command, 'decode', fic, '-o', png, '-f', '--quiet'):.3f} s")


if __name__ == "__main__":
    main()
