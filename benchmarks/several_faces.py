"""Measures photographs with several faces: does a codec keep all of them?

    python benchmarks/several_faces.py [--set NAME]... [-q Q]... [--codec NAME]...
        [--limit N] [--data DIR]

The photographs are those of test people in which the detector finds two faces or more whose eyes
are at least 12 pixels apart. `l2-ipr` codes each at q; every other codec takes the setting whose
file is nearest in bytes. The table has the rate, PSNR, and the mean cosine to the original's
embedding of the largest faces and of all others, by two recognisers that nothing was trained
against or chosen by.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facecodec import images
from facecodec.bench.codecs import find_codec
from facecodec.bench.codecs.codec import BenchCodec
from facecodec.bench.codecs.fit import nearest
from facecodec.bench.metrics import psnr
from facecodec.datasets import photographs
from facecodec.faces.detection import find_faces
from facecodec.faces.recognisers import find_recogniser, load_recogniser
from facecodec.folders import data_root
from held_back import Judge, embedding

Picture = tuple[np.ndarray, np.ndarray]  # pixels, and the landmarks (N, 5, 2) of its faces
MODEL = "l2-ipr"
SETS = ("celeba-wild-mini", "lfw")
CODECS = ("webp", "hevc", "avif")
JUDGES = ("mobileface-v2", "edgeface-xs")
EYES = 12  # pixels between the eyes of a face that counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", action="append", dest="sets", help=f"default: {', '.join(SETS)}")
    parser.add_argument("-q", "--quality", action="append", type=float, help="default: 3, 4")
    parser.add_argument("--codec", action="append", help=f"default: {', '.join(CODECS)}")
    parser.add_argument("--limit", type=int, default=20, help="photographs")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = data_root(arguments.data)
    judges = [load_recogniser(find_recogniser(name, root)) for name in JUDGES]
    pictures = several(arguments.sets or SETS, arguments.limit, root)
    print(f"{len(pictures)} photographs, {sum(len(faces) for _, faces in pictures)} faces\n")
    heads = [f"{whose}, {judge}" for judge in JUDGES for whose in ("largest face", "others")]
    print("| codec | bpp | PSNR | " + " | ".join(heads) + " |\n|" + " --- |" * (3 + len(heads)))
    model = find_codec(MODEL)
    for quality in arguments.quality or (3, 4):
        files = [model.encode(pixels, quality) for pixels, _ in pictures]
        print_row(f"`{MODEL}` q {quality:g}", model, files, pictures, judges)
        for codec in map(find_codec, arguments.codec or CODECS):
            equal = [
                nearest(codec, pixels, len(file))[1]
                for (pixels, _), file in zip(pictures, files, strict=True)
            ]
            print_row(codec.name, codec, equal, pictures, judges)


def print_row(
    label: str,
    codec: BenchCodec,
    files: list[bytes],
    pictures: list[Picture],
    judges: list[Judge],
) -> None:
    """Prints the rate of the files, their PSNR, and the faces' mean cosines."""
    pairs = []
    for picture, file in zip(pictures, files, strict=True):
        height, width, _ = picture[0].shape
        pairs.append((picture, codec.decode(file, (height, width))))
    bpp = 8 * sum(map(len, files)) / sum(pixels.size / 3 for pixels, _ in pictures)
    decibels = np.mean([psnr(pixels, coded) for (pixels, _), coded in pairs])
    means = []
    for judge in judges:
        for part in (slice(1), slice(1, None)):
            cosines = [
                embedding(judge, pixels, points) @ embedding(judge, coded, points)
                for (pixels, faces), coded in pairs
                for points in faces[part]
            ]
            means.append(f"{np.mean(cosines):.3f}")
    print(f"| {label} | {bpp:.3f} | {decibels:.2f} | {' | '.join(means)} |", flush=True)


def several(sets: Sequence[str], limit: int, root: Path) -> list[Picture]:
    """Returns the first `limit` photographs with several faces, the largest face first."""
    chosen: list[Picture] = []
    for name in sets:
        for photo in photographs(name, "test", root):
            if len(chosen) == limit:
                return chosen
            pixels = images.load(photo.path)
            (faces,) = find_faces([Image.fromarray(pixels)])
            apart = np.linalg.norm(faces[:, 0] - faces[:, 1], axis=1)
            faces = faces[np.argsort(-apart)][: np.count_nonzero(apart >= EYES)]
            if len(faces) > 1:
                chosen.append((pixels, faces))
    return chosen


if __name__ == "__main__":
    main()
