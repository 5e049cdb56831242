"""Draws the same faces under several codecs at nearly one rate.

    python benchmarks/sheet.py --bpp 0.12 --model l2-rec --model l2-ipr -o SHEET.jpg [--faces N]
        [--data DIR]
    python benchmarks/sheet.py --bpp 0.12 --model l2-rec --model l2-ipr -o SHEET.jpg demo/face.png

For each face every codec takes the setting whose file comes nearest to the rate. Without pictures
of your own, faces are those of the LFW test people, evenly spread over the list.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from facecodec.bench.codecs import find_codec
from facecodec.bench.codecs.fit import nearest
from facecodec.datasets import lfw
from facecodec.folders import data_root

LABEL = 16  # pixels above a picture


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="*", type=Path)
    parser.add_argument("--bpp", type=float, default=0.12)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument(
        "--columns", type=int, help="pictures side by side; all of a face by default"
    )
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
    for path in chosen:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        budget = arguments.bpp * pixels.shape[0] * pixels.shape[1] / 8
        row = [("original", pixels)]
        for codec in map(find_codec, codecs):
            _, file = nearest(codec, pixels, budget)
            row.append((f"{codec.name}: {len(file)} bytes", codec.decode(file, pixels.shape[:2])))
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
