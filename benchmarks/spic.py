"""Tests SPIC's claim: identifying known people from latents, beside JPEG at equal rate.

    python benchmarks/spic.py [--model NAME] [--rates 0.143 0.112 0.100] [--data DIR]

The closed set is the LFW training people with the most photographs, one per class of the model's
head; 30% of their photographs were held back. q is the quality whose mean rate over their training
photographs is nearest to each of the rates. JPEG gets as many bytes per picture, its best reduction
of the picture (facecodec/bench/codecs/fit.py), the landmarks of the originals, and a classifier
(logistic regression) on the recogniser's embeddings. The classifier is trained on the same
photographs, once as originals and once as JPEG. The same classifier on the embeddings from latents
is compared with the model's own classes. Intervals are 95%, by bootstrap over people. The last
result is the size with a Huffman code.
"""

from __future__ import annotations

import argparse
import heapq
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from facecodec import images
from facecodec.bench import SEEN
from facecodec.bench.intervals import draws, interval, mean_draws
from facecodec.bench.measure import Measured, open_bench
from facecodec.bench.run import stacked
from facecodec.bench.subjects import Subject
from facecodec.codec import Codec, open_container
from facecodec.container import MAX_QUALITY_BYTE, QUALITY_STEPS
from facecodec.datasets import is_held_back, photographs
from facecodec.faces.detection import cached_landmarks
from facecodec.folders import data_root
from facecodec.frozen import model_path
from facecodec.training.data import closed_set

HEADER = 16  # bytes of a 250x250 picture's


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="spic")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.143, 0.112, 0.100])
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    root = data_root(arguments.data)
    codec = Codec(model_path(arguments.model))
    people = codec.head.classes
    photos = [
        photo
        for photo in photographs("lfw", "train", root)
        if photo.person in people and not is_held_back(photo)
    ]
    closed = closed_set(photographs("lfw", "train", root), len(people))
    points = cached_landmarks([photo.path for photo in photos])
    subjects = [
        Subject(photo.path, photo.person, place)
        for photo, place in zip(photos, points, strict=True)
    ]
    tests = [s for s, photo in zip(subjects, photos, strict=True) if photo in closed.tests]
    faces = [s.landmarks is not None for s in subjects]
    trained = [
        s
        for s, photo, face in zip(subjects, photos, faces, strict=True)
        if face and photo not in closed.tests
    ]
    labels = np.array([people.index(subject.person) for subject in tests])
    samples = draws([subject.person for subject in tests])
    print(f"{len(people)} people, {len(trained)} photographs trained on, {len(tests)} tested\n")
    print("| | bpp | right | PSNR | SSIM |\n| --- | --- | --- | --- | --- |")

    bench = open_bench([SEEN], root)
    (spec,) = bench.specs

    def classifier(embeddings: np.ndarray) -> LogisticRegression:
        known = [people.index(subject.person) for subject in trained]
        return LogisticRegression(C=100, max_iter=2000).fit(embeddings, known)

    def row(name: str, measured: list[Measured], right: np.ndarray) -> None:
        low, high = interval(mean_draws(right.astype(float), samples)) or (np.nan, np.nan)
        bpp = 8 * sum(m.bytes for m in measured) / sum(m.pixels for m in measured)
        psnr, ssim = (np.mean([getattr(m, key) for m in measured]) for key in ("psnr", "ssim"))
        print(
            f"| {name} | {bpp:.3f} | {right.mean():.1%} ({low:.1%} to {high:.1%}) | {psnr:.2f} | {ssim:.3f} |",
            flush=True,
        )

    by_originals = classifier(stacked(bench.photographs("original", 0, trained), spec))
    some = [codec.family.analyse(images.load(subject.path), 0) for subject in trained[::20]]
    area = sum(
        images.load(subject.path).shape[0] * images.load(subject.path).shape[1]
        for subject in trained[::20]
    )
    streams = [
        [codec.family.encode(y, byte)[0] for y in some] for byte in range(MAX_QUALITY_BYTE + 1)
    ]
    sizes = np.array([8 * sum(len(stream) + HEADER for stream in each) / area for each in streams])
    for rate in arguments.rates:
        byte = int(np.argmin(np.abs(sizes - rate)))
        q = 1 + byte / QUALITY_STEPS
        measured = bench.photographs(arguments.model, q, tests)
        files = [codec.encode(images.load(subject.path), q) for subject in tests]
        right = np.array([classified(codec, data) for data in files]) == labels
        row(f"{arguments.model}, q {q:g}, its own classes", measured, right)
        by_latents = classifier(
            embedded(codec, [codec.encode(images.load(subject.path), q) for subject in trained])
        )
        right = by_latents.predict(embedded(codec, files)) == labels
        row(f"{arguments.model}, q {q:g}, trained on its embeddings", measured, right)
        size = sum(m.bytes for m in measured) / len(measured)
        jpeg = bench.photographs("jpeg@fit", round(size), tests)
        found = np.nan_to_num(stacked(jpeg, spec))
        row("JPEG, trained on originals", jpeg, by_originals.predict(found) == labels)
        by_jpeg = classifier(stacked(bench.photographs("jpeg@fit", round(size), trained), spec))
        row("JPEG, trained on JPEG", jpeg, by_jpeg.predict(found) == labels)
        print(f"| Huffman instead of the range coder | {huffman(codec, files):.3f} | | | |")
    bench.close()


def embedded(codec: Codec, files: list[bytes]) -> np.ndarray:
    return np.stack([codec.embed(data) for data in files])


def classified(codec: Codec, data: bytes) -> int:
    parsed = open_container(data)
    latents = codec.family.decode_latents(
        parsed.streams, (parsed.height, parsed.width), parsed.quality_byte
    )
    return int(codec.head.classify(latents).argmax())


def huffman(codec: Codec, files: list[bytes]) -> float:
    """Returns bits per pixel with a Huffman code per channel, fitted to these files."""
    parsed = [open_container(data) for data in files]
    latents = [codec.symbols(each).y for each in parsed]
    symbols = np.concatenate([y.reshape(len(y), -1) for y in latents], axis=1)
    bits = sum(huffman_bits(np.unique(channel, return_counts=True)[1]) for channel in symbols)
    header = 8 * sum(
        len(data) - len(each.streams[0]) for data, each in zip(files, parsed, strict=True)
    )
    return (bits + header) / sum(each.width * each.height for each in parsed)


def huffman_bits(counts: np.ndarray) -> int:
    """Returns the bits of a message with these counts of symbols.

    If there is only one symbol, it takes one bit each time.
    """
    if len(counts) == 1:
        return int(counts[0])
    heap, bits = [int(count) for count in counts], 0
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        bits += both
        heapq.heappush(heap, both)
    return bits


if __name__ == "__main__":
    main()
