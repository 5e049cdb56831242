"""Which model keeps a face best in the same bytes, by the size of the picture, beside AVIF.

    python benchmarks/model_choice.py [--split train|test] [-q Q] [--limit N]

Photographs of london-faces, which no model was trained on, are made so many pixels high and coded
by the first model at q; the others, and AVIF, get as many bytes. The number is the mean cosine to
the original's embedding, by insightface-y1, a recogniser that models are chosen by.
"""

from __future__ import annotations

import argparse
import io
from bisect import bisect_right
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facecodec import frozen, images
from facecodec.codec import Codec
from facecodec.datasets import photographs
from facecodec.errors import ImageError
from facecodec.faces.alignment import align
from facecodec.faces.detection import find_landmarks
from facecodec.faces.recognisers import find_recogniser, load_recogniser
from facecodec.folders import data_root
from facecodec.template import similarity

MODELS = ("l2-ipr", "hq-ipr")
SET = "london-faces"
SIZES = (250, 500, 1000)
JUDGE = "insightface-y1"
AVIF_SPEED = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", default="train", choices=("train", "test"))
    parser.add_argument("-q", "--quality", type=float, default=3)
    parser.add_argument("--limit", type=int, default=8, help="photographs")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = data_root(arguments.data)
    codecs = {name: Codec(frozen.model_path(name), threads=1) for name in MODELS}
    embed = load_recogniser(find_recogniser(JUDGE, root))
    photos = photographs(SET, arguments.split, root)
    chosen = photos[:: max(1, len(photos) // arguments.limit)][: arguments.limit]
    print(
        "| pixels | photographs | bpp | " + " | ".join(f"`{name}`" for name in MODELS) + " | AVIF |"
    )
    print("|" + " --- |" * (4 + len(MODELS)))
    for size in SIZES:
        rows, rates = [], []
        for photo in chosen:
            image = Image.fromarray(images.load(photo.path)).resize(
                (size, size), Image.Resampling.LANCZOS
            )
            points = next(iter(find_landmarks([image.resize((500, 500))])))
            if points is None:
                continue
            matrix = similarity((points + 0.5) * size / 500 - 0.5)[None]

            def vector(picture: Image.Image, matrix: np.ndarray = matrix) -> np.ndarray:
                pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
                return embed(align(pixels, matrix)[0].numpy())

            first, *others = codecs.values()
            data = first.encode(image, arguments.quality)
            decoded = [first.decode(data)]
            try:
                decoded += [each.decode(each.encode_within(image, len(data))) for each in others]
            except ImageError:
                continue
            decoded.append(avif(image, len(data)))
            original = vector(image)
            rows.append([float(vector(picture) @ original) for picture in decoded])
            rates.append(8 * len(data) / size**2)
        means = " | ".join(f"{mean:.3f}" for mean in np.mean(rows, 0))
        print(f"| {size} | {len(rows)} | {np.mean(rates):.3f} | {means} |", flush=True)


def avif(image: Image.Image, limit: int) -> Image.Image:
    """The best AVIF of at most `limit` bytes, or the smallest there is, decoded."""

    def coded(quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "AVIF", quality=quality, speed=AVIF_SPEED)
        return buffer.getvalue()

    best = bisect_right(range(101), limit, key=lambda quality: len(coded(quality)))
    return Image.open(io.BytesIO(coded(max(best - 1, 0)))).convert("RGB")


if __name__ == "__main__":
    main()
