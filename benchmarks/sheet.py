"""Draws the same faces by several codecs at nearly the same rate.

    python benchmarks/sheet.py --bpp 0.12 --model l2-rec --model l2-ipr -o SHEET.jpg [--faces N]
        [--data DIR]
    python benchmarks/sheet.py --bpp 0.12 --model l2-rec --model l2-ipr -o SHEET.jpg demo/face.png
    python benchmarks/sheet.py --codec avif --model l2-ipr -o SHEET.webp wall.png:0,90,384,256

A picture may be a crop of a file: FILE:X,Y,WIDTH,HEIGHT. For each picture, every codec takes the
setting whose file is nearest to the rate. With --side, pictures are made so small first. Without
pictures, it takes faces of the LFW test people, evenly spread over the list.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from facecodec import images
from facecodec.bench.codecs import find_codec
from facecodec.bench.codecs.fit import nearest, resized, shrunk
from facecodec.datasets import lfw
from facecodec.folders import data_root

LABEL = 16  # pixels above a picture
DRAWN = 200  # pixels that small pictures are drawn with


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("--bpp", type=float, default=0.12)
    parser.add_argument("--codec", action="append", help="jpeg and hevc by default")
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument(
        "--side", type=int, help="make pictures so small first, and draw them larger"
    )
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
        chosen = [str(photo.path) for photo in photos[step // 2 :: step][: arguments.faces]]
    codecs = [*(arguments.codec or ("jpeg", "hevc")), *arguments.model]
    rows = []
    for path in chosen:
        pixels = opened(path)
        if arguments.side:
            shape = pixels.shape[0], pixels.shape[1]
            pixels = resized(pixels, shrunk(shape, arguments.side / max(shape)))
        height, width, _ = pixels.shape
        budget = arguments.bpp * height * width / 8
        row = [("original", pixels)]
        for codec in map(find_codec, codecs):
            _, file = nearest(codec, pixels, budget)
            decoded = codec.decode(file, (height, width))
            row.append((f"{codec.name}: {len(file)} bytes", decoded))
        if arguments.side:
            shape = shrunk((height, width), DRAWN / arguments.side)
            row = [(label, resized(drawn, shape)) for label, drawn in row]
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


def opened(name: str) -> np.ndarray:
    """Returns the pixels of FILE, or of its crop FILE:X,Y,WIDTH,HEIGHT."""
    path, _, crop = name.partition(":")
    pixels = images.load(Path(path))
    if not crop:
        return pixels
    x, y, width, height = map(int, crop.split(","))
    return pixels[y : y + height, x : x + width]


if __name__ == "__main__":
    main()
