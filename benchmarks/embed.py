"""Compares embeddings from latents with decoding and recognising: FRR, and time.

    python benchmarks/embed.py [--model NAME] [-q Q]... [--limit N] [--timed N] [--data DIR]

Photographs are of the LFW test people. FRR at FAR 1% is over all of them, by the bench's protocol:
decoded pictures are aligned by the landmarks of their originals, which only a bench has. Times are
of one core, file by file, over the first photographs. A server would have to find the face in the
decoded picture with MTCNN; the time without that is printed too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from facecodec import images
from facecodec.bench import SEEN
from facecodec.bench.intervals import draws, frr_draws, interval
from facecodec.bench.measure import open_bench
from facecodec.bench.protocols import (
    distances,
    frr_at_far,
    galleries,
)
from facecodec.bench.run import stacked
from facecodec.bench.subjects import load_dataset
from facecodec.codec import Codec
from facecodec.faces.alignment import crop_face
from facecodec.faces.detection import find_landmarks
from facecodec.faces.recognisers import find_recogniser, load_recogniser
from facecodec.folders import data_root
from facecodec.frozen import model_path

TURN = 10  # files


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="l2-ipr")
    parser.add_argument("-q", "--quality", dest="qualities", type=float, action="append")
    parser.add_argument("--limit", type=int, help="whole people until so many photographs")
    parser.add_argument("--timed", type=int, default=40)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    root = data_root(arguments.data)
    subjects = load_dataset("lfw", root, arguments.limit).subjects
    people = [subject.person for subject in subjects]
    samples = draws([people[index] for index in galleries(people)[1]])
    codec = Codec(model_path(arguments.model), threads=1)
    torch.set_num_threads(1)
    threadpool_limits(1)
    bench = open_bench([SEEN], root)
    print(f"{len(subjects)} photographs, {samples.shape[1]} queries\n")
    print(
        "| q | bpp | FRR, latents | FRR, decoded | cosine to the original's |\n| --- | --- | --- | --- | --- |"
    )
    originals = stacked(bench.photographs("original", 0, subjects), bench.specs[0])
    for quality in arguments.qualities or (1, 2, 3, 4, 5, 6):
        decoded = bench.photographs(arguments.model, quality, subjects)
        files = [codec.encode(images.load(subject.path), quality) for subject in subjects]
        embeddings = np.stack([codec.embed(data) for data in files])
        cells = []
        for each in (embeddings, stacked(decoded, bench.specs[0])):
            apart = distances(each, people)
            low, high = interval(frr_draws(apart, samples)) or (np.nan, np.nan)
            cells.append(f"{frr_at_far(*apart, least=1):.1%} ({low:.1%} to {high:.1%})")
        bpp = 8 * sum(map(len, files)) / sum(measured.pixels for measured in decoded)
        cosine = np.nanmean((embeddings * originals).sum(1))
        print(f"| {quality:g} | {bpp:.3f} | {' | '.join(cells)} | {cosine:.3f} |", flush=True)
    bench.close()
    timed(codec, subjects[: arguments.timed], find_recogniser(SEEN, root))


def timed(codec: Codec, subjects: list, recogniser: str) -> None:
    """Prints milliseconds per picture. Both ways alternate after ten files each."""
    embed = load_recogniser(recogniser)
    files = [codec.encode(images.load(subject.path), 4) for subject in subjects]
    shown = [codec.decode(files[0])]
    codec.embed(files[0])
    finder = iter(find_landmarks(iter(lambda: shown[-1], None)))  # a detector that stays open
    next(finder)
    taken: dict[str, list[float]] = {
        "embed": [],
        "decode": [],
        "find the face": [],
        "recognise": [],
    }
    for first in range(0, len(files), TURN):
        for data in files[first : first + TURN]:
            began = time.perf_counter()
            codec.embed(data)
            taken["embed"].append(time.perf_counter() - began)
        for data in files[first : first + TURN]:
            began = time.perf_counter()
            picture = codec.decode(data)
            decoded = time.perf_counter()
            shown.append(picture)
            points = next(finder)
            found = time.perf_counter()
            if points is not None:
                embed(crop_face(np.asarray(picture), points, embed.contract))
            times = np.diff([began, decoded, found, time.perf_counter()])
            for name, seconds in zip(("decode", "find the face", "recognise"), times, strict=True):
                taken[name].append(seconds)
    medians = {name: 1000 * float(np.median(each)) for name, each in taken.items()}
    print(f"\n{len(files)} files at q 4, one core, milliseconds a picture: ", end="")
    print(", ".join(f"{name} {each:.1f}" for name, each in medians.items()))
    whole = medians["decode"] + medians["find the face"] + medians["recognise"]
    without = whole - medians["find the face"]
    print(
        f"embedding is {whole / medians['embed']:.1f} times as fast as decoding, finding and recognising, ",
        end="",
    )
    print(f"{without / medians['embed']:.1f} times without finding")


if __name__ == "__main__":
    main()
