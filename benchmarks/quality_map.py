"""Measures the quality that a model gives to the face and to the rest, and draws it.

    python benchmarks/quality_map.py [--model NAME] [-q Q] [--data DIR] [-o MAP.png]

It divides the positions of y of 48 held-back LFW training people into those inside and outside the
square that a recogniser sees (the aligned crop of 112x112). It prints the mean quality, the share
of positions and the share of bits of both. The picture shows scikit-image's astronaut, the decoded
face, and its qualities.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import facecodec
from demo import CROP
from facecodec.codec import open_container
from facecodec.container import QUALITY_STEPS
from facecodec.faces.detection import cached_landmarks
from facecodec.families.hyperprior import DOWNSAMPLING, Hyperprior
from facecodec.families.sliced import Sliced
from facecodec.folders import data_root
from facecodec.template import SIZE, similarity
from facecodec.training.config import Source
from facecodec.training.data import validation_photos
from rate_gap import ideal_bits


def in_crop(landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns which positions of y have their centre in the aligned crop, (h, w)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] * DOWNSAMPLING + DOWNSAMPLING / 2
    to_image = np.vstack([similarity(landmarks), [0, 0, 1]])
    x, y, _ = np.einsum(
        "ij,jhw->ihw", np.linalg.inv(to_image), np.stack([columns, rows, np.ones(shape)])
    )
    return (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)


def draw(codec: facecodec.codec.Codec, quality: float, out: Path) -> None:
    from matplotlib.figure import Figure

    face = Image.fromarray(data.astronaut()).crop(CROP)
    coded = codec.encode(face, quality)
    qualities = 1 + codec.symbols(open_container(coded)).qualities / QUALITY_STEPS
    figure = Figure(figsize=(10.4, 3.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.imshow(face)
    left.set_title("original", fontsize=10)
    middle.imshow(codec.decode(coded))
    middle.set_title(f"{codec.card.name} at q {quality:g}: {len(coded)} bytes", fontsize=10)
    extent = (0, face.width, face.height, 0)
    right.imshow(face.convert("L"), cmap="gray", extent=extent)
    shown = right.imshow(
        qualities, cmap="magma", vmin=1, vmax=8, alpha=0.75, extent=extent, interpolation="nearest"
    )
    right.set_title("the quality of each place", fontsize=10)
    figure.colorbar(shown, ax=right, label="q")
    for axes in (left, middle, right):
        axes.set_axis_off()
    figure.savefig(out, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model")
    parser.add_argument("-q", "--quality", type=float, default=4)
    parser.add_argument("--data", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    codec = facecodec.open_model(arguments.model)
    photos = [
        photo.path for photo in validation_photos((Source("lfw"),), data_root(arguments.data), 48)
    ]
    family = codec.family
    if not isinstance(family, Hyperprior | Sliced):
        parser.error(f"{codec.card.name} is of the family {codec.card.family}, without a map")
    rows: list[tuple[int, float, bool]] = []  # quality, bits, in the crop; one row a place
    for path, landmarks in zip(photos, cached_landmarks(photos), strict=True):
        if landmarks is None:
            continue
        symbols = codec.symbols(open_container(codec.encode(Image.open(path), arguments.quality)))
        bits = ideal_bits(family.tables, symbols.y, symbols.tables).sum(0)
        inside = in_crop(landmarks, symbols.qualities.shape)
        rows += zip(symbols.qualities.ravel(), bits.ravel(), inside.ravel(), strict=True)
    quality, bits, inside = np.array(rows).T
    inside = inside.astype(bool)
    for name, chosen in (("in the crop", inside), ("elsewhere", ~inside)):
        mean, share = 1 + quality[chosen].mean() / QUALITY_STEPS, bits[chosen].sum() / bits.sum()
        text = f"q {mean:.2f}, {chosen.mean():.0%} of the places, {share:.0%} of y's bits"
        print(f"{codec.card.name} at q {arguments.quality:g}, {name}: {text}")
    if arguments.output:
        draw(codec, arguments.quality, arguments.output)


if __name__ == "__main__":
    main()
