"""How far FRR depends on the alignment: averaged over the pixels a face covers, as the bench does, or sampled plainly.

    python benchmarks/alignment.py [--codec jpeg:15 ...] [--data DIR]

The independent measurement that accompanies the data samples plainly, four pixels for each of the crop's, whatever the
face's size. Codecs whose files are the same in both measurements tell the two apart.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from facecodec.bench import SEEN, UNSEEN
from facecodec.bench.codecs import find_codec
from facecodec.bench.datasets import load_dataset
from facecodec.bench.measure import Subject
from facecodec.bench.recognition import distances, find_recogniser, frr_at_far, load_embedder
from facecodec.faces import alignment
from facecodec.training.data import data_root, read


def start(recognisers: list[str]) -> None:
    global embedders
    import torch

    torch.set_num_threads(1)
    embedders = [load_embedder(each) for each in recognisers]


def embeddings(codec: str, setting: float, subject: Subject) -> list[list[np.ndarray]]:
    """By alignment, averaged and plain, and by recogniser."""
    import torch

    pixels = read(subject.path)
    coder = find_codec(codec)
    decoded = coder.decode(coder.encode(pixels, setting), pixels.shape[:2])
    tensor = torch.from_numpy(decoded.copy()).permute(2, 0, 1)[None].float()
    matrix = alignment.similarity(subject.landmarks)[None]
    crops = [alignment.align(tensor, matrix)]
    averaged, alignment.oversampling = alignment.oversampling, lambda matrix: 1
    crops.append(alignment.align(tensor, matrix))
    alignment.oversampling = averaged
    return [[embed(crop[0].numpy()) for embed in embedders] for crop in crops]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", action="append")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    root = data_root(arguments.data)
    subjects = load_dataset("lfw", root).subjects
    people = [subject.person for subject in subjects]
    found = [find_recogniser(name, root) for name in (SEEN, UNSEEN)]
    print("| | FRR, seen: averaged | plain | FRR, unseen: averaged | plain |\n| --- | --- | --- | --- | --- |")
    with ProcessPoolExecutor(os.cpu_count(), initializer=start, initargs=(found,)) as pool:
        for each in arguments.codec or ("original:0", "jpeg:15"):
            codec, setting = each.split(":")
            taken = list(pool.map(partial(embeddings, codec, float(setting)), subjects, chunksize=32))
            cells = [
                f"{frr_at_far(*distances(np.stack([one[way][recogniser] for one in taken]), people)):.2%}"
                for recogniser in (0, 1)
                for way in (0, 1)
            ]
            print(f"| {each} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
