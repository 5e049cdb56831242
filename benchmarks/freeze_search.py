"""Makes the search files for `encode --effort` of models that are already frozen: weights/search/.

    .venv/bin/python benchmarks/freeze_search.py
    .venv/bin/python benchmarks/freeze_search.py --check 20

`facecodec freeze` writes the search file of a new model; only this script makes the file for faces.
`--check N` makes nothing: for N training people, decoded at q 2, it compares the gradients of the
file for faces with those of the recognisers in single precision.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import onnx

from facecodec import open_model
from facecodec.datasets import photographs
from facecodec.faces.recognisers import recogniser_file
from facecodec.images import load
from facecodec.networks.gradients import split
from facecodec.search.crops import Crop
from facecodec.search.files import FACES, search_file
from facecodec.search.graphs import Graph, Transform
from facecodec.search.objective import GradientRecogniser
from facecodec.template import SIZE, similarity
from facecodec.training.config import Config, load_config
from facecodec.training.gradients import TEACHERS, write_faces, write_model

ROOT = Path(__file__).parents[1]
CONFIGURATIONS = {
    "l2-ipr": "l2-ipr-last-mean",
    "l2-ip": "l2-ip-mean",
    "l2-rec": "l2-rec-longest",
}
OTHERS = {"msssim-ip": "msssim-ip-slices"}  # models without a search


@click.command()
@click.option("--check", "people", type=int, help="Compare, with so many people.")
def main(people: int | None) -> None:
    """Writes one file for each of CONFIGURATIONS and one for faces, and prints their sizes."""
    if people is not None:
        compare(people)
        return
    for name in CONFIGURATIONS:
        model = ROOT / "weights" / f"{name}.safetensors"
        path = write_model(model, configuration(name))
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")
    path = search_file(model).with_name(FACES)
    write_faces(path, ROOT / "weights" / "recognisers" / "mobilefacenet-ms1m.onnx")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


def configuration(name: str) -> Config:
    """Returns the configuration of the last run that trained a shipped model."""
    trained = (CONFIGURATIONS | OTHERS).get(name, name)
    return load_config(ROOT / "configs" / f"{trained}.toml")


def compare(people: int) -> None:
    """Prints the cosine of each teacher's gradient with that in float32: mean and minimum."""
    codec = open_model(None)
    search = codec.search
    kept = dict(zip(TEACHERS, search._recognisers, strict=True))
    whole = {}
    for name in TEACHERS:
        graphs = split(onnx.load(recogniser_file(name, None)), (1, 3, SIZE, SIZE), static=True)
        forward, backward = (Graph(each.content, each.weights) for each in graphs)
        whole[name] = GradientRecogniser(Transform(forward, backward))
    cosines: dict[str, list[float]] = {name: [] for name in TEACHERS}
    photos = photographs("lfw", "train", None)
    for photo in photos[:: len(photos) // people][:people]:
        pixels = load(photo.path)
        points = search._detector.landmarks(pixels)
        if points is None:
            continue
        warp = Crop(similarity(points), (pixels.shape[0], pixels.shape[1]))
        decoded = np.asarray(codec.decode(codec.encode(pixels, 2)))
        original, found = (
            warp(each.transpose(2, 0, 1).astype(np.float32) / 255) for each in (pixels, decoded)
        )
        for name in TEACHERS:
            a, b = (
                each.gradient(found, each.embedding(original)).ravel()
                for each in (kept[name], whole[name])
            )
            cosines[name].append(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    for name, values in cosines.items():
        print(f"{name}: mean {np.mean(values):.4f}, least {min(values):.4f} of {len(values)}")


if __name__ == "__main__":
    main()
