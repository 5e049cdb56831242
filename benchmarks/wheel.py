"""Tries the wheel without extras under several Pythons: encodes and decodes one picture.

    python -m build --wheel -o build/wheel
    python benchmarks/wheel.py build/wheel/*.whl python3.10 python3.11 python3.12 python3.13

For each interpreter, a fresh environment with only the wheel encodes and decodes one picture at q
4. A line shows the Python, the machine, the size and the digest of the file, and the PSNR. The exit
status is 1 if the files or the PSNR differ.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

TRIAL = """
import hashlib, platform, sys
import numpy as np
from PIL import Image
import facecodec
assert "torch" not in sys.modules
row, column = np.mgrid[0:200, 0:160]
channels = [128 + 90 * np.sin(row / 17), row + column / 4, 255 - column]
pixels = np.stack(channels, axis=2).clip(0, 255).astype(np.uint8)
data = facecodec.encode(Image.fromarray(pixels), quality=4)
decoded = np.asarray(facecodec.decode(data))
psnr = 10 * np.log10(255**2 / np.square(decoded.astype(float) - pixels).mean())
machine = f"{platform.system()} {platform.machine()}"
digest = hashlib.sha256(data).hexdigest()[:8]
print(f"Python {platform.python_version()}, {machine}: {len(data)} bytes, {digest}, {psnr:.1f} dB")
"""


def tried(python: str, wheel: Path) -> str:
    """Returns the line that a fresh environment of `python` prints. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = Path(folder, "Scripts" if sys.platform == "win32" else "bin", "python")
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [str(inside), "-m", "pip", "install", *quiet, str(wheel.resolve())], check=True
        )
        # Runs outside the checkout, so that the wheel is imported, not the sources.
        command = [str(inside), "-c", TRIAL]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True)
        return done.stdout.decode().strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("pythons", nargs="+", metavar="PYTHON")
    arguments = parser.parse_args()
    lines = []
    for python in arguments.pythons:
        lines.append(tried(python, arguments.wheel))
        print(lines[-1], flush=True)
    if len({line.partition(": ")[2] for line in lines}) > 1:
        sys.exit("the files differ")


if __name__ == "__main__":
    main()
