"""Measures where lfic keeps its samples: inside the face or outside.

    python benchmarks/allocation.py [--model NAME] [-q Q]... [--limit N] [--data DIR]
        [-o docs/images/lfic.png]

The face is the upright square that recognisers see (the template's crop). The first measurement is
on the CelebA wild test images. For the second, LFW test faces of 140 pixels are pasted into each
corner of a Kodak picture in turn. The shares in the opposite corner show that the allocation moves
with the face. Intervals are 95%, by bootstrap over pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from facecodec import images
from facecodec.bench.intervals import draws, interval, mean_draws
from facecodec.bench.subjects import load_dataset
from facecodec.cli.info import draw_allocation
from facecodec.codec import Codec, open_container
from facecodec.datasets import celeba
from facecodec.faces.detection import cached_landmarks
from facecodec.families import Allocating
from facecodec.folders import data_root
from facecodec.frozen import model_path
from facecodec.template import SIZE, similarity

SIDE, FACE, MARGIN = 384, 140, 24  # pixels of the picture, of the pasted face, and to the edges


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="lfic")
    parser.add_argument("-q", "--quality", dest="qualities", type=float, action="append")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--data", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    root = data_root(arguments.data)
    codec = Codec(model_path(arguments.model))
    wild = [photo.path for photo in celeba("celeba-wild-mini", root, "test")][: arguments.limit]
    points = cached_landmarks(wild)
    photographs = [
        (images.load(path), box(place))
        for path, place in zip(wild, points, strict=True)
        if place is not None
    ]
    laid = lay(root, arguments.limit)
    print(
        "| q | CelebA wild, inside over outside | LFW faces laid elsewhere | where another face would lie |"
    )
    print("| --- | --- | --- | --- |")
    for quality in arguments.qualities or (1, 2, 3, 4, 5, 6):
        cells = [
            ratio(codec, quality, photographs),
            ratio(codec, quality, [(pixels, face) for pixels, face, _ in laid]),
            ratio(codec, quality, [(pixels, elsewhere) for pixels, _, elsewhere in laid]),
        ]
        print(f"| {quality:g} | {' | '.join(cells)} |", flush=True)
    if arguments.output:
        sheet(codec, portraits(), arguments.output)


Box = tuple[slice, slice]


def box(points: np.ndarray) -> Box:
    """Returns rows and columns of the square that recognisers see of a face."""
    matrix = similarity(points)
    corners = np.array([[0, 0, 1], [SIZE, 0, 1], [0, SIZE, 1], [SIZE, SIZE, 1]]) @ matrix.T
    centre, half = corners.mean(0), SIZE / 2 * np.hypot(*matrix[:, 0])
    (left, top), (right, bottom) = (
        np.maximum(0, np.rint(centre + sign * half)).astype(int) for sign in (-1, 1)
    )
    return slice(top, bottom), slice(left, right)


def lay(root: Path, count: int) -> list[tuple[np.ndarray, Box, Box]]:
    """Returns pictures with a face in a corner, its square, and that of the opposite corner."""
    backgrounds = sorted((root / "kodak").glob("*.png"))
    subjects = [
        (s.path, s.landmarks)
        for s in load_dataset("lfw", root, limit=count).subjects
        if s.landmarks is not None
    ][:count]
    laid = []
    for number, (path, landmarks) in enumerate(subjects):
        pixels = images.load(backgrounds[number % len(backgrounds)])[:SIDE, :SIDE].copy()
        middle = np.clip(landmarks.mean(0).round().astype(int), FACE // 2, 250 - FACE // 2)
        rows, columns = (slice(at - FACE // 2, at + FACE // 2) for at in middle[::-1])
        far = SIDE - MARGIN - FACE
        y, x = [(MARGIN, MARGIN), (MARGIN, far), (far, MARGIN), (far, far)][number % 4]
        pixels[y : y + FACE, x : x + FACE] = images.load(path)[rows, columns]
        opposite_y, opposite_x = SIDE - FACE - y, SIDE - FACE - x
        face, opposite = (
            (slice(a, a + FACE), slice(b, b + FACE)) for a, b in ((y, x), (opposite_y, opposite_x))
        )
        laid.append((pixels, face, opposite))
    return laid


def ratio(codec: Codec, quality: float, pictures: list[tuple[np.ndarray, Box]]) -> str:
    """Returns the mean share of samples kept inside, divided by that outside, and its interval."""
    if not isinstance(codec.family, Allocating):
        raise SystemExit(f"{codec.card.name} keeps as many samples in every place")
    shares = []
    for pixels, face in pictures:
        parsed = open_container(codec.encode(pixels, quality))
        size = (parsed.height, parsed.width)
        kept = codec.family.allocation(parsed.streams, size, parsed.quality_byte)
        inside = np.zeros(kept.shape, bool)
        inside[face] = True
        shares.append((kept[inside].mean(), kept[~inside].mean()))
    values = np.array(shares)
    samples = draws(list(map(str, range(len(values)))))
    drawn = mean_draws(values[:, 0], samples) / mean_draws(values[:, 1], samples)
    low, high = interval(drawn) or (np.nan, np.nan)
    inside, outside = values.mean(0)
    return f"{inside / outside:.2f} ({low:.2f} to {high:.2f}): {inside:.0%} and {outside:.0%}"


def portraits() -> list[np.ndarray]:
    """Returns scikit-image's astronaut, and pictures into which her face is pasted elsewhere.

    All are free to show.
    """
    from skimage import data

    face = Image.fromarray(data.astronaut()[20:220, 120:320]).resize(
        (FACE, FACE), Image.Resampling.LANCZOS
    )
    shown = [data.astronaut()[:300, 70:370]]
    for number, background in enumerate(
        (data.coffee(), data.chelsea(), data.rocket(), data.coffee()[:, ::-1])
    ):
        picture = Image.fromarray(np.ascontiguousarray(background[:300, :300]))
        picture.paste(face, ((0, 300 - FACE)[number % 2], (0, 300 - FACE)[number // 2]))
        shown.append(np.asarray(picture))
    return shown


def sheet(codec: Codec, pictures: list[np.ndarray], path: Path) -> None:
    """Draws pictures above what `facecodec info --heatmap` draws of them at q 3."""
    import io

    tiles = []
    for pixels in pictures:
        drawn = Image.open(io.BytesIO(draw_allocation(codec.encode(pixels, 3))))
        tiles.append([each.resize((200, 200)) for each in (Image.fromarray(pixels), drawn)])
    whole = Image.new("RGB", (200 * len(tiles), 400))
    for column, pair in enumerate(tiles):
        for row, tile in enumerate(pair):
            whole.paste(tile, (200 * column, 200 * row))
    whole.save(path)


if __name__ == "__main__":
    main()
