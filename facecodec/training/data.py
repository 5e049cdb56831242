"""Training and validation images: people's faces, by person, with some people held back.

Crops lie on the 16-pixel grid of the image they come from: cameras write JPEGs on that grid, users
encode whole files, and so the network meets the grid where it will meet it later.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from facecodec.errors import UsageError
from facecodec.faces.alignment import similarity
from facecodec.training.config import Source

LandmarkFinder = Callable[[list[Path]], list[np.ndarray | None]]

GRID = 16
HELD_BACK = 0.05  # share of the training people kept for validation
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Photo:
    path: Path
    person: str


def data_root(given: Path | None) -> Path:
    """The folder of datasets: the given one, $FACECODEC_DATA, or ../shared/data beside the checkout."""
    if given is not None:
        root = given
    elif "FACECODEC_DATA" in os.environ:
        root = Path(os.environ["FACECODEC_DATA"])
    else:
        root = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not root.is_dir():
        raise UsageError(f"no data folder {root}: give one with --data or FACECODEC_DATA")
    return root


def lfw(root: Path, split: str) -> list[Photo]:
    """LFW's images of the people of peopleDevTrain.txt or peopleDevTest.txt (`split` train or test)."""
    folder = root / "lfw-deepfunneled"
    lines = (folder / f"peopleDev{split.capitalize()}.txt").read_text().splitlines()[1:]
    photos = []
    for line in lines:
        person, count = line.split("\t")
        photos += [Photo(folder / person / f"{person}_{i:04d}.jpg", person) for i in range(1, int(count) + 1)]
    return photos


def celeba(root: Path, name: str, split: str) -> list[Photo]:
    """The images of celeba-wild-mini or celeba-hq-mini whose people celeba-split.txt puts in `split`."""
    splits = dict(line.split() for line in (root / "celeba-split.txt").read_text().splitlines())
    lines = (root / name / "identity.txt").read_text().splitlines()
    pairs = [line.split() for line in lines]
    return [Photo(root / name / "images" / file, person) for file, person in pairs if splits[person] == split]


def folder(path: Path) -> list[Photo]:
    """Every image below a folder. A person is the folder an image lies in; one in no folder is a person of its own."""
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return [Photo(p, str(p.parent.relative_to(path)) if p.parent != path else p.stem) for p in files]


def training_photos(name: str, root: Path) -> list[Photo]:
    try:
        if name == "lfw":
            photos = lfw(root, "train")
        elif name in ("celeba-wild-mini", "celeba-hq-mini"):
            photos = celeba(root, name, "train")
        else:
            photos = folder(Path(name) if Path(name).is_absolute() else root / name)
    except FileNotFoundError as error:
        raise UsageError(f"dataset '{name}' is not under {root}: {error.filename} is missing") from None
    if not photos:
        raise UsageError(f"dataset '{name}' under {root} has no images")
    return photos


def is_held_back(photo: Photo) -> bool:
    """By a hash of the person's name, so that the choice is the same in every run and on every machine."""
    return hashlib.sha256(photo.person.encode()).digest()[0] < 256 * HELD_BACK


def load(photos: Iterable[Photo], minimum: int) -> list[np.ndarray]:
    """uint8 arrays (H, W, 3), mirrored outwards at the right and bottom to the grid and to `minimum`."""

    def read(photo: Photo) -> np.ndarray:
        with Image.open(photo.path) as image:
            pixels = np.asarray(image.convert("RGB"))
        height, width = (max(minimum, side + -side % GRID) for side in pixels.shape[:2])
        return np.pad(pixels, ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)), mode="symmetric")

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, photos))


MIRRORED = [1, 0, 2, 4, 3]  # left and right of the five points change places in a mirror


@dataclass(frozen=True)
class Batch:
    """Crops as uint8 (B, crop, crop, 3), and the alignment of the face in each, (B, 2, 3), NaN without one."""

    pixels: np.ndarray
    matrices: np.ndarray


class CropSampler:
    """Random crops on the grid, mirrored half of the time; a function of the generator alone.

    With `landmarks`, a function from files to five points each or None, crops lie so that the face
    is inside where it fits.
    """

    def __init__(
        self, sources: tuple[Source, ...], root: Path, crop: int, landmarks: LandmarkFinder | None = None
    ) -> None:
        self.crop = crop
        kept = [[p for p in training_photos(s.set, root) if not is_held_back(p)] for s in sources]
        if not all(kept):
            raise UsageError("a dataset has too few people: all of them are held back for validation")
        self.counts = {s.set: len(photos) for s, photos in zip(sources, kept, strict=True)}
        self.images = [load(photos, crop) for photos in kept]
        self.points = [
            landmarks([photo.path for photo in photos]) if landmarks else [None] * len(photos) for photos in kept
        ]
        shares = np.array([s.share for s in sources])
        self.shares = shares / shares.sum()

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        pixels = np.empty((size, self.crop, self.crop, 3), np.uint8)
        matrices = np.full((size, 2, 3), np.nan)
        for i, source in enumerate(rng.choice(len(self.shares), size, p=self.shares)):
            index = rng.integers(len(self.images[source]))
            image, points = self.images[source][index], self.points[source][index]
            corner = np.array([self._start(rng, image.shape[axis], points, 1 - axis) for axis in (0, 1)])
            patch = image[corner[0] : corner[0] + self.crop, corner[1] : corner[1] + self.crop]
            mirror = rng.random() < 0.5
            pixels[i] = patch[:, ::-1] if mirror else patch
            if points is not None:
                inside = points - corner[::-1]
                if mirror:
                    inside = (inside * [-1, 1] + [self.crop - 1, 0])[MIRRORED]
                if (inside >= 0).all() and (inside < self.crop).all():
                    matrices[i] = similarity(inside)
        return Batch(pixels, matrices)

    def _start(self, rng: np.random.Generator, side: int, points: np.ndarray | None, coordinate: int) -> int:
        """Where a crop begins along a side, on the grid, with all points inside where that is possible."""
        first, last = 0, (side - self.crop) // GRID
        if points is not None:
            lowest = max(first, int(np.ceil((points[:, coordinate].max() + 1 - self.crop) / GRID)))
            highest = min(last, int(points[:, coordinate].min() // GRID))
            if lowest <= highest:
                first, last = lowest, highest
        return GRID * int(rng.integers(first, last + 1))


def validation_photos(sources: tuple[Source, ...], root: Path, count: int) -> list[Photo]:
    """`count` photos of held-back people, one a person, of the first source."""
    held = [p for p in training_photos(sources[0].set, root) if is_held_back(p)]
    if not held:
        raise UsageError(f"dataset '{sources[0].set}' has too few people: none is held back for validation")
    first = list({photo.person: photo for photo in reversed(held)}.values())[::-1]
    return first[:count]
