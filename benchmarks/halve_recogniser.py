"""Stores a recogniser's constants in half precision, as the package ships one.

    python benchmarks/halve_recogniser.py FILE.onnx weights/recognisers/NAME.onnx [--data DIR]

Prints sizes, and the mean and minimum cosine between both embeddings of the first LFW training
photographs. Nothing is written if the minimum is below 0.999.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx

from facecodec import images
from facecodec.datasets import lfw
from facecodec.faces.alignment import crop_face
from facecodec.faces.detection import cached_landmarks
from facecodec.faces.recognisers import Recogniser
from facecodec.folders import data_root
from facecodec.networks.export import halve

FURTHEST = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    model = onnx.load(arguments.file)
    halve(model)
    onnx.checker.check_model(model)
    partial = arguments.out.with_suffix(".partial")
    partial.write_bytes(model.SerializeToString(deterministic=True))
    whole, half = Recogniser(arguments.file), Recogniser(partial)
    files = [photo.path for photo in lfw(data_root(arguments.data), "train")[: arguments.images]]
    cosines = []
    for file, points in zip(files, cached_landmarks(files), strict=True):
        if points is not None:
            face = crop_face(images.load(file), points, whole.contract)
            cosines.append(whole(face) @ half(face))
    print(f"{arguments.file.stat().st_size:,} bytes became {partial.stat().st_size:,}")
    print(f"cosine over {len(cosines)} faces: {np.mean(cosines):.6f}, least {min(cosines):.6f}")
    if min(cosines) < 1 - FURTHEST:
        partial.unlink()
        raise SystemExit("too far apart: nothing was written")
    partial.replace(arguments.out)


if __name__ == "__main__":
    main()
