"""Measures small pictures of held-back people, coded as they are and at twice their size.

    python benchmarks/doubling.py --side 80 --side 125 --side 160 [--model l2-rec] [--crop]
    python benchmarks/doubling.py --set celeba-wild-mini --limit 8      # whole pictures

For each longer side and quality of the file, it prints bits per pixel of the streams, PSNR, and
1 - cosine of the face to the original by insightface-y1, for both ways. With --crop, pictures are
squares around the face instead of smaller ones. It chose `LONGEST` in facecodec/doubling.py.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from facecodec import open_model
from facecodec.bench.codecs.fit import resized, shrunk
from facecodec.bench.metrics import psnr
from facecodec.container import DOUBLED_STEPS, quality_byte
from facecodec.doubling import enlarged, halved
from facecodec.faces.recognisers import find_recogniser, load_recogniser
from facecodec.families import Family
from facecodec.folders import data_root
from held_back import Judge, embedding, held_back

QUALITIES = (2.5, 3, 4, 5, 6, 8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="l2-ipr")
    parser.add_argument("--set", default="lfw")
    parser.add_argument("--side", type=int, action="append")
    parser.add_argument("--crop", action="store_true")
    parser.add_argument("--limit", type=int, default=16, help="photographs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = data_root(None)
    judge = load_recogniser(find_recogniser("insightface-y1", root))
    family = open_model(arguments.model).family
    faces = held_back(arguments.set, arguments.limit, root)
    print("| side | q | as it is: bpp, PSNR, 1 - cosine | at twice the size |\n|" + " --- |" * 4)
    change = cropped if arguments.crop else reduced
    sets = {side: [change(*face, side) for face in faces] for side in arguments.side or ()}
    for side, shown in (sets or {"as it is": faces}).items():
        originals = [embedding(judge, *face) for face in shown]
        for quality in QUALITIES:
            cells = []
            for doubled in (False, True):
                points = [
                    measured(family, quality_byte(quality), *face, judge, original, doubled)
                    for face, original in zip(shown, originals, strict=True)
                ]
                cells.append("{:.3f}, {:.2f}, {:.4f}".format(*np.mean(points, axis=0)))
            print(f"| {side} | {quality:g} | {cells[0]} | {cells[1]} |", flush=True)


def reduced(pixels: np.ndarray, points: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a picture whose longer side has `side` pixels, and its landmarks."""
    shape = pixels.shape[0], pixels.shape[1]
    scale = side / max(shape)
    return resized(pixels, shrunk(shape, scale)), (points + 0.5) * scale - 0.5


def cropped(pixels: np.ndarray, points: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a square around the face, and its landmarks."""
    height, width = pixels.shape[:2]
    left, top = np.clip(points.mean(0).astype(int) - side // 2, 0, (width - side, height - side))
    return pixels[top : top + side, left : left + side], points - (left, top)


def measured(
    family: Family,
    byte: int,
    pixels: np.ndarray,
    points: np.ndarray,
    judge: Judge,
    original: np.ndarray,
    doubled: bool,
) -> tuple[float, float, float]:
    """Returns bits per pixel, PSNR and 1 - cosine of a picture that is coded in one of two ways.

    `original` is the embedding of its face.
    """
    coded, byte = (enlarged(pixels), byte - DOUBLED_STEPS) if doubled else (pixels, byte)
    streams = family.encode(family.analyse(coded, byte), byte)
    decoded = family.decode(streams, (coded.shape[0], coded.shape[1]), byte)
    decoded = halved(decoded) if doubled else decoded
    bpp = 8 * sum(map(len, streams)) / (pixels.shape[0] * pixels.shape[1])
    cosine = original @ embedding(judge, decoded, points)
    return bpp, psnr(pixels, decoded), 1 - cosine


if __name__ == "__main__":
    main()
