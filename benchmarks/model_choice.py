"""Measures which model keeps a face best in equal bytes, by the picture's size, and AVIF too.

    python benchmarks/model_choice.py [--set NAME]... [--split train|test] [--judge RECOGNISER]...
        [--size PIXELS]... [-q Q] [--limit N]

Photographs are resized to a longer side of PIXELS and coded by the first model at q; the other
models, and AVIF, get as many bytes. Photographs are enlarged only from 1,000 pixels on; other
smaller ones are left out. The numbers are the mean cosine to the original's embedding by each
judge. By default the dataset is london-faces and the judge is insightface-y1, which decides between
models. `l2-ipr` was trained on London's training people: give another set or split for it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facecodec import frozen, images
from facecodec.bench.codecs import pillow
from facecodec.bench.codecs.fit import within
from facecodec.codec import Codec
from facecodec.datasets import Photo, photographs
from facecodec.errors import ImageError
from facecodec.faces.alignment import crop_face
from facecodec.faces.detection import find_landmarks
from facecodec.faces.recognisers import find_recogniser, load_recogniser
from facecodec.folders import data_root

MODELS = ("l2-ipr", "l2-ip")
SET = "london-faces"
SIZES = (250, 500, 1000)
ENLARGED = 1000  # pixels along the longer side; only photographs of so many are enlarged
DETECTED = 500  # pixels along the longer side of the picture given to the detector
JUDGE = "insightface-y1"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", action="append", dest="sets", help=f"{SET} by default")
    parser.add_argument("--split", default="train", choices=("train", "test"))
    parser.add_argument("--judge", action="append", dest="judges", help=f"{JUDGE} by default")
    parser.add_argument("--size", action="append", dest="sizes", type=int, help="pixels")
    parser.add_argument("-q", "--quality", type=float, default=3)
    parser.add_argument("--limit", type=int, default=8, help="photographs of each size")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = data_root(arguments.data)
    codecs = {name: Codec(frozen.model_path(name), threads=1) for name in MODELS}
    avif = within(pillow.codec("avif", "AVIF", (), range(101), "AVIF", avif_options, "avif"), 1)
    judges = arguments.judges or [JUDGE]
    recognisers = [load_recogniser(find_recogniser(name, root)) for name in judges]
    photos = [
        photo
        for name in arguments.sets or [SET]
        for photo in photographs(name, arguments.split, root)
    ]
    ways = [*(f"`{name}`" for name in MODELS), "AVIF"]
    heads = ways if len(judges) == 1 else [f"{way}, {judge}" for judge in judges for way in ways]
    print("| pixels | photographs | bpp | " + " | ".join(heads) + " |")
    print("|" + " --- |" * (3 + len(heads)))
    for size in arguments.sizes or SIZES:
        rows, rates = [], []
        for photo in chosen(photos, size, arguments.limit):
            image = resized(Image.fromarray(images.load(photo.path)), size)
            points = next(iter(find_landmarks([resized(image, DETECTED)])))
            if points is None:
                continue
            points = (points + 0.5) * size / DETECTED - 0.5

            def vectors(picture: Image.Image, points: np.ndarray = points) -> list[np.ndarray]:
                pixels = np.asarray(picture)
                return [embed(crop_face(pixels, points, embed.contract)) for embed in recognisers]

            first, *others = codecs.values()
            data = first.encode(image, arguments.quality)
            decoded = [first.decode(data)]
            try:
                decoded += [each.decode(each.encode_within(image, len(data))) for each in others]
            except ImageError:
                continue
            pixels = np.asarray(image)
            coded = avif.encode(pixels, len(data))
            decoded.append(Image.fromarray(avif.decode(coded, (image.height, image.width))))
            original, *seen = [vectors(picture) for picture in (image, *decoded)]
            rows.append(
                [
                    float(each[judge] @ original[judge])
                    for judge in range(len(judges))
                    for each in seen
                ]
            )
            rates.append(8 * len(data) / (image.width * image.height))
        means = " | ".join(f"{mean:.3f}" for mean in np.mean(rows, 0))
        print(f"| {size} | {len(rows)} | {np.mean(rates):.3f} | {means} |", flush=True)


def avif_options(quality: float) -> dict[str, object]:
    """Uses libavif's default speed: the bench's 4 takes six times as long at 1,000 pixels."""
    return {"quality": int(quality), "speed": 6, "max_threads": 1}


def chosen(photos: list[Photo], size: int, limit: int) -> list[Photo]:
    """Returns `limit` photographs that are large enough, evenly spread over the list."""
    least = min(size, ENLARGED)
    large = [photo for photo in photos if max(Image.open(photo.path).size) >= least]
    return [large[len(large) * number // limit] for number in range(min(limit, len(large)))]


def resized(image: Image.Image, size: int) -> Image.Image:
    """Returns the picture resized to a longer side of `size` pixels."""
    scale = size / max(image.size)
    shape = (round(image.width * scale), round(image.height * scale))
    return image.resize(shape, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
