"""The same faces under several codecs at nearly one rate, as a picture to look at.

    python benchmarks/sheet.py --bpp 0.12 --model l2-rec --model l2-ipr -o SHEET.jpg [--faces N] [--data DIR]
    python benchmarks/sheet.py --bpp 0.12 --model l2-rec --model l2-ipr -o SHEET.jpg demo/face.png

For each face every codec takes the setting whose file comes nearest to the rate. Without pictures of your own, faces of
the LFW test people, evenly spread over the list.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from facecodec.bench.codecs import code
from facecodec.training.data import data_root, lfw

SETTINGS = {"jpeg": range(1, 60), "hevc": range(20, 48)}
LABEL = 16  # pixels above a picture


def nearest(codec: str, pixels: np.ndarray, budget: float, scratch: Path) -> tuple[int, np.ndarray]:
    """The file nearest to `budget` bytes, by bisection over settings that rate is monotone in."""
    settings = list(SETTINGS.get(codec, np.arange(1, 8.01, 1 / 8)))
    if codec == "hevc":
        settings.reverse()
    tried = {}

    def at(index: int) -> tuple[int, np.ndarray]:
        if index not in tried:
            tried[index] = code(codec, pixels, float(settings[index]), scratch)
        return tried[index]

    low, high = 0, len(settings) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle)[0] >= budget else (middle + 1, high)
    return min((at(index) for index in {max(0, low - 1), low}), key=lambda coded: abs(coded[0] - budget))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", type=Path)
    parser.add_argument("--bpp", type=float, default=0.12)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--columns", type=int, help="pictures side by side; all of a face by default")
    parser.add_argument("--data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    chosen = arguments.pictures
    if not chosen:
        photos = lfw(data_root(arguments.data), "test")
        step = len(photos) // arguments.faces
        chosen = [photo.path for photo in photos[step // 2 :: step][: arguments.faces]]
    codecs = ["jpeg", "hevc", *arguments.model]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in chosen:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            budget = arguments.bpp * pixels.shape[0] * pixels.shape[1] / 8
            row = [("original", pixels)]
            for codec in codecs:
                size, decoded = nearest(codec, pixels, budget, Path(folder, "coded"))
                row.append((f"{codec}: {size} bytes", decoded))
            columns = arguments.columns or len(row)
            rows += [row[start : start + columns] for start in range(0, len(row), columns)]
    width = max(pixels.shape[1] for row in rows for _, pixels in row)
    height = LABEL + max(pixels.shape[0] for row in rows for _, pixels in row)
    sheet = Image.new("RGB", (width * max(map(len, rows)), height * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for top, row in enumerate(rows):
        for left, (label, pixels) in enumerate(row):
            draw.text((width * left + 2, height * top + 2), label, "black")
            sheet.paste(Image.fromarray(pixels), (width * left, height * top + LABEL))
    sheet.save(arguments.output, quality=92)


if __name__ == "__main__":
    main()
