"""Measures models on held-back people, by the recogniser that decides between models.

    python benchmarks/held_back.py former/l2-ipr.safetensors weights/l2-ipr.safetensors [--limit N]

For each set, model and quality, it prints bits per pixel of whole files, PSNR, and 1 - cosine of
the face to the original by insightface-y1. Then it compares each model with the first one: BD-rate
on PSNR, and at equal bits 1 - cosine and PSNR, where the first one's curve is taken as straight
between its qualities. It uses no test people and no unseen recogniser.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from facecodec import images
from facecodec.bench.metrics import bd_rate, psnr
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
Point = tuple[float, float, float]  # bpp, PSNR and 1 - cosine
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
    qualities = arguments.quality or (2, 3, 4)
    compared = []
    for name in SETS:
        faces = held_back(name, arguments.limit, root)
        curves: dict[str, list[Point]] = {path.stem: [] for path in arguments.models}
        originals = [embedding(judge, *face) for face in faces]
        for path in arguments.models:
            codec = Codec(path, threads=1)
            for quality in qualities:
                rows = [
                    measured(codec, quality, judge, *face, original)
                    for face, original in zip(faces, originals, strict=True)
                ]
                bits, pixels, decibels, distances = np.array(rows).T
                point = bits.sum() / pixels.sum(), decibels.mean(), distances.mean()
                curves[path.stem].append(point)
                bpp, decibel, distance = point
                print(
                    f"| {name}, {len(faces)} | `{path.stem}` | {quality:g} "
                    f"| {bpp:.4f} | {decibel:.2f} | {distance:.4f} |",
                    flush=True,
                )
        first, *others = curves.items()
        compared += [
            f"| {name} | `{other}` | {comparison(first[1], curve, qualities)} |"
            for other, curve in others
        ]
    if compared:
        print(f"\n| set | beside `{first[0]}` | BD-rate | at equal bits |\n|" + " --- |" * 4)
        print("\n".join(compared))


def comparison(first: list[Point], other: list[Point], qualities: Sequence[float]) -> str:
    """Returns the BD-rate on PSNR, and the change of 1 - cosine and of PSNR at equal bits."""
    rate = bd_rate([point[:2] for point in first], [point[:2] for point in other])
    rates, decibels, distances = np.array(sorted(first)).T
    at_equal_bits = []
    for quality, (bpp, decibel, distance) in zip(qualities, other, strict=True):
        if rates[0] <= bpp <= rates[-1]:
            x, known = np.log(bpp), np.log(rates)
            change = distance / np.exp(np.interp(x, known, np.log(distances))) - 1
            gain = decibel - np.interp(x, known, decibels)
            at_equal_bits.append(f"q {quality:g}: {change:+.0%}, {gain:+.2f} dB")
    return f"{'' if rate is None else f'{rate:+.1f}%'} | {'; '.join(at_equal_bits)}"


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
