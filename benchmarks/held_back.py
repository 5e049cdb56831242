"""Measures models on held-back people, by the recogniser that decides between models.

    python benchmarks/held_back.py weights/l2-ipr.safetensors weights/hq-ipr.safetensors [--limit N]

For each set, model and quality, it prints bits per pixel of whole files, PSNR, and 1 - cosine of
the face to the original by insightface-y1. It uses no test people and no unseen recogniser.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from facecodec import images
from facecodec.bench.metrics import psnr
from facecodec.codec import Codec
from facecodec.datasets import is_held_back, photographs
from facecodec.faces.alignment import crop_face
from facecodec.faces.detection import cached_landmarks
from facecodec.faces.recognisers import (
    FacenetRecogniser,
    Recogniser,
    find_recogniser,
    load_recogniser,
)
from facecodec.folders import data_root

Judge = Recogniser | FacenetRecogniser
SETS = ("lfw", "celeba-wild-mini", "celeba-hq-mini")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("-q", "--quality", type=float, action="append")
    parser.add_argument("--limit", type=int, default=24, help="photographs of each set")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = data_root(arguments.data)
    judge = load_recogniser(find_recogniser("insightface-y1", root))
    print("| set | model | q | bpp | PSNR | 1 - cosine |\n|" + " --- |" * 6)
    for name in SETS:
        faces = held_back(name, arguments.limit, root)
        originals = [embedding(judge, *face) for face in faces]
        for path in arguments.models:
            codec = Codec(path, threads=1)
            for quality in arguments.quality or (2, 3, 4):
                rows = [
                    measured(codec, quality, judge, *face, original)
                    for face, original in zip(faces, originals, strict=True)
                ]
                bits, pixels, decibels, distance = np.array(rows).T
                print(
                    f"| {name}, {len(faces)} | `{path.stem}` | {quality:g} "
                    f"| {bits.sum() / pixels.sum():.4f} | {decibels.mean():.2f} "
                    f"| {distance.mean():.4f} |",
                    flush=True,
                )


def held_back(name: str, limit: int, root: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns pixels and landmarks of up to `limit` held-back faces, evenly spread over the set."""
    photos = [photo for photo in photographs(name, "train", root) if is_held_back(photo)]
    photos = photos[:: max(1, len(photos) // limit)][:limit]
    found = cached_landmarks([photo.path for photo in photos])
    return [
        (images.load(photo.path), points)
        for photo, points in zip(photos, found, strict=True)
        if points is not None
    ]


def measured(
    codec: Codec,
    quality: float,
    judge: Judge,
    pixels: np.ndarray,
    points: np.ndarray,
    original: np.ndarray,
) -> tuple[float, float, float, float]:
    """Returns bits, pixels, PSNR and 1 - cosine of one face, whose embedding is `original`."""
    data = codec.encode(pixels, quality)
    decoded = np.asarray(codec.decode(data))
    cosine = original @ embedding(judge, decoded, points)
    return 8 * len(data), pixels.shape[0] * pixels.shape[1], psnr(pixels, decoded), 1 - cosine


def embedding(judge: Judge, pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    return judge(crop_face(pixels, points, judge.contract))


if __name__ == "__main__":
    main()
