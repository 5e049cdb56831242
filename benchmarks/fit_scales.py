"""Finds how far each codec should shrink a picture before coding it within a few bytes.

    python benchmarks/fit_scales.py [--bytes 1024 ...] [--codec jpeg ...] [--images 48] [--data DIR]

The best scale has the highest mean cosine between the embeddings of decoded and original faces. The
faces are of LFW's held-back training people, the recogniser is the seen one. The result is RULES in
facecodec/bench/codecs/fit.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from facecodec.bench import SEEN
from facecodec.bench.codecs import find_codec
from facecodec.bench.codecs.fit import SCALES
from facecodec.bench.measure import open_bench
from facecodec.bench.run import measure
from facecodec.bench.subjects import Subject
from facecodec.faces.detection import cached_landmarks
from facecodec.folders import data_root
from facecodec.training.config import Source
from facecodec.training.data import validation_photos

CODECS = ("jpeg", "webp", "avif", "jpeg2000", "jpegxl", "hevc", "l2-ipr", "l2-ip")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bytes", type=int, action="append")
    parser.add_argument("--codec", action="append")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    root = data_root(arguments.data)
    photos = validation_photos((Source("lfw"),), root, arguments.images)
    points = cached_landmarks([photo.path for photo in photos])
    subjects = [
        Subject(photo.path, photo.person, place)
        for photo, place in zip(photos, points, strict=True)
        if place is not None
    ]
    bench = open_bench((SEEN,), root)
    try:
        for name in arguments.codec or CODECS:
            rule = {}
            for limit in arguments.bytes or (1024,):
                cosines = {}
                for scale in SCALES[:-1]:  # the last is there for pictures that nothing else fits
                    (point,) = measure(bench, subjects, {f"{name}@{scale}": [limit]})
                    cosines[scale] = point.numbers["recognition"][SEEN]["cosine"]
                best = max(cosines, key=cosines.__getitem__)
                rule[round(8 * limit / 250**2, 3)] = best
                shown = ", ".join(f"{scale:g}: {cosine:.3f}" for scale, cosine in cosines.items())
                print(f"{name}, {limit} bytes: {shown}", flush=True)
            print(f'    "{find_codec(name).name}": {rule},', flush=True)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
