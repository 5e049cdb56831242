"""Training and validation images: people's faces, by person, with some people held back.

Crops lie on the 16-pixel grid of the image they come from: cameras write JPEGs on that grid, users
encode whole files, and so the network meets the grid where it will meet it later.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facecodec.errors import UsageError
from facecodec.faces import cache_folder
from facecodec.faces.alignment import align, scaled_template, similarity
from facecodec.training.config import Source

LandmarkFinder = Callable[[list[Path]], list[np.ndarray | None]]

GRID = 16
KNOWN_SHARE = 0.5  # of the first source's crops, where there is a closed set, show its people
HELD_BACK = 0.05  # share of the training people kept for validation
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
CUT = 448  # side of an aligned picture
CLEARANCE = (
    1.2  # a crop without the face keeps this many times the landmarks' extent away from them
)
LFW_FOLDERS = ("lfw-deepfunneled", "lfw_funneled", "lfw")


@dataclass(frozen=True)
class Photo:
    path: Path
    person: str


def data_root(given: Path | None) -> Path:
    """The folder of datasets: given, $FACECODEC_DATA, ../shared/data beside the checkout, or in the user's cache."""
    if given is not None:
        root = given
    elif "FACECODEC_DATA" in os.environ:
        root = Path(os.environ["FACECODEC_DATA"])
    else:
        beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
        root = beside if beside.is_dir() else cache_folder() / "data"
    if not root.is_dir():
        raise UsageError(
            f"no data folder {root}: give one with an option or FACECODEC_DATA (docs/data.md)"
        )
    return root


def lfw(root: Path, split: str) -> list[Photo]:
    """LFW's images of the people of peopleDevTrain.txt or peopleDevTest.txt (`split` train or test).

    Deep-funneled, funneled or original, whichever is there; the lists lie beside the people or beside their folder.
    """
    folder = next(
        (root / name for name in LFW_FOLDERS if (root / name).is_dir()), root / LFW_FOLDERS[0]
    )
    people = f"peopleDev{split.capitalize()}.txt"
    listing = (
        folder / people
        if (folder / people).exists() or not (root / people).exists()
        else root / people
    )
    photos = []
    for line in listing.read_text().splitlines()[1:]:
        person, count = line.split("\t")
        photos += [
            Photo(folder / person / f"{person}_{i:04d}.jpg", person)
            for i in range(1, int(count) + 1)
        ]
    return photos


def celeba(root: Path, name: str, split: str) -> list[Photo]:
    """The images of celeba-wild-mini or celeba-hq-mini whose people celeba-split.txt puts in `split`."""
    splits = dict(line.split() for line in (root / "celeba-split.txt").read_text().splitlines())
    lines = (root / name / "identity.txt").read_text().splitlines()
    pairs = [line.split() for line in lines]
    return [
        Photo(root / name / "images" / file, person)
        for file, person in pairs
        if splits[person] == split
    ]


def celeba_hq(root: Path, split: str) -> list[Photo]:
    """CelebAMask-HQ's 30,000 images, each with its person by CelebA's identity_CelebA.txt.

    People named in celeba-split.txt are where it puts them; of the others three in ten are for testing.
    """
    base = root / "CelebAMask-HQ"
    identities = dict(
        line.split() for line in (root / "identity_CelebA.txt").read_text().splitlines()
    )
    rows = [
        line.split()
        for line in (base / "CelebA-HQ-to-CelebA-mapping.txt").read_text().splitlines()[1:]
    ]
    photos = [Photo(base / "CelebA-HQ-img" / f"{row[0]}.jpg", identities[row[2]]) for row in rows]
    listing = root / "celeba-split.txt"
    splits = (
        dict(line.split() for line in listing.read_text().splitlines()) if listing.exists() else {}
    )

    def split_of(person: str) -> str:
        return splits.get(person) or ("test" if _draw(person) >= 1 - 0.3 else "train")

    return [photo for photo in photos if split_of(photo.person) == split]


def folder(path: Path) -> list[Photo]:
    """Every image below a folder.

    Who is on it says identity.txt (file, person), where there is one, or else the folder an image lies in; one in
    no folder is a person of its own.
    """
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    names = path / "identity.txt"
    people = dict(line.split() for line in names.read_text().splitlines()) if names.exists() else {}
    folders = {p: str(p.parent.relative_to(path)) if p.parent != path else p.stem for p in files}
    return [Photo(p, people.get(p.name, folders[p])) for p in files]


def training_photos(name: str, root: Path) -> list[Photo]:
    try:
        if name == "lfw":
            photos = lfw(root, "train")
        elif name in ("celeba-wild-mini", "celeba-hq-mini"):
            photos = celeba(root, name, "train")
        elif name == "celeba-hq":
            photos = celeba_hq(root, "train")
        else:
            photos = folder(Path(name) if Path(name).is_absolute() else root / name)
    except FileNotFoundError as error:
        raise UsageError(
            f"dataset '{name}' is not under {root}: {error.filename} is missing"
        ) from None
    if not photos:
        raise UsageError(f"dataset '{name}' under {root} has no images")
    return photos


def _draw(person: str) -> float:
    """A number in 0..1 from a hash of the name, so that choices are the same in every run and on every machine."""
    return hashlib.sha256(person.encode()).digest()[0] / 256


def is_held_back(photo: Photo) -> bool:
    return _draw(photo.person) < HELD_BACK


@dataclass(frozen=True)
class ClosedSet:
    """People to be told apart, and those of their photographs that are for testing."""

    people: list[str]
    tests: frozenset[Photo]


def closed_set(photos: list[Photo], count: int) -> ClosedSet:
    """The `count` people with the most photographs, of whom three in ten are for testing; held-back people apart."""
    often = Counter(photo.person for photo in photos if not is_held_back(photo))
    people = sorted(often, key=lambda person: (-often[person], person))[:count]
    chosen = set(people)
    return ClosedSet(
        people, frozenset(p for p in photos if p.person in chosen and _draw(p.path.name) >= 1 - 0.3)
    )


def read(path: Path) -> np.ndarray:
    """The picture in a file, uint8 (H, W, 3). Raises OSError for one that cannot be read."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def cut_face(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face as an aligned picture, uint8 (448, 448, 3)."""
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    return align(image, similarity(points)[None], CUT)[0].round().byte().permute(1, 2, 0).numpy()


def extend(pixels: np.ndarray, minimum: int) -> np.ndarray:
    """Mirrored outwards at the right and bottom to the grid and to `minimum`."""
    height, width = (max(minimum, side + -side % GRID) for side in pixels.shape[:2])
    return np.pad(
        pixels,
        ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)),
        mode="symmetric",
    )


MIRRORED = [1, 0, 2, 4, 3]  # left and right of the five points change places in a mirror


@dataclass(frozen=True)
class Batch:
    """Crops as uint8 (B, crop, crop, 3), and the alignment of the face in each, (B, 2, 3), NaN without one.

    `labels` (B,) are the numbers of the people of a closed set, -1 for others.
    """

    pixels: np.ndarray
    matrices: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Picture:
    """What crops are taken from: uint8 (H, W, 3), its face's five points (5, 2) or None, and who it shows."""

    pixels: np.ndarray
    points: np.ndarray | None
    person: str = ""


def load_pictures(
    photos: list[Photo], points: list[np.ndarray | None], faces: str
) -> list[Picture]:
    """The photos as a source's `faces` says; those without a face are missing where it needs one."""
    if faces == "aligned":
        points = [scaled_template(CUT)] * len(photos)
    elif faces == "cut":
        photos, points = zip(
            *[(a, b) for a, b in zip(photos, points, strict=True) if b is not None], strict=True
        )
    with ThreadPoolExecutor() as pool:
        pixels = list(pool.map(read, [photo.path for photo in photos]))
    if faces == "cut":
        pixels = [cut_face(image, place) for image, place in zip(pixels, points, strict=True)]
        points = [scaled_template(CUT)] * len(pixels)
    return [
        Picture(image, place, photo.person)
        for photo, image, place in zip(photos, pixels, points, strict=True)
    ]


class CropSampler:
    """Random crops on the grid, mirrored half of the time; a function of the generator alone.

    With `landmarks`, a function from files to five points each or None, crops lie so that the face
    is inside where it fits, or outside where the source wants none.
    """

    def __init__(
        self,
        sources: tuple[Source, ...],
        root: Path,
        crop: int,
        landmarks: LandmarkFinder | None = None,
        classes: int = 0,
    ) -> None:
        """`classes` people of the first source are a closed set, whose test photographs are left out."""
        self.crop = crop
        closed = closed_set(training_photos(sources[0].set, root), classes)
        self.labels = {person: number for number, person in enumerate(closed.people)}
        self.counts = {}
        self.pictures: list[list[Picture]] = []
        self.corners: list[
            list[np.ndarray]
        ] = []  # of each picture, where its crops may begin, (N, 2) as (y, x)
        for source in sources:
            photos = [
                photo for photo in training_photos(source.set, root) if not is_held_back(photo)
            ]
            photos = [photo for photo in photos if photo not in closed.tests]
            seek = landmarks is not None and source.faces != "aligned"
            points = landmarks([photo.path for photo in photos]) if seek else [None] * len(photos)
            pictures = [
                replace(picture, pixels=extend(picture.pixels, crop))
                for picture in load_pictures(photos, points, source.faces)
            ]
            corners = [crop_corners(picture, crop, source.faces) for picture in pictures]
            kept = [i for i in range(len(pictures)) if len(corners[i])]
            if not kept:
                raise UsageError(
                    f"dataset '{source.set}' has nothing to train on: too few people, or no such crops"
                )
            self.pictures.append([pictures[i] for i in kept])
            self.corners.append([corners[i] for i in kept])
            self.counts[source.set] = len(kept)
        self.known = [
            i for i, picture in enumerate(self.pictures[0]) if picture.person in self.labels
        ]
        shares = np.array([s.share for s in sources])
        self.shares = shares / shares.sum()

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        pixels = np.empty((size, self.crop, self.crop, 3), np.uint8)
        matrices = np.full((size, 2, 3), np.nan)
        labels = np.full(size, -1)
        for i, source in enumerate(rng.choice(len(self.shares), size, p=self.shares)):
            index = rng.integers(len(self.pictures[source]))
            if source == 0 and self.known and rng.random() < KNOWN_SHARE:
                index = self.known[rng.integers(len(self.known))]
            picture, corners = self.pictures[source][index], self.corners[source][index]
            y, x = corners[rng.integers(len(corners))]
            patch = picture.pixels[y : y + self.crop, x : x + self.crop]
            mirror = rng.random() < 0.5
            pixels[i] = patch[:, ::-1] if mirror else patch
            labels[i] = self.labels.get(picture.person, -1)
            if picture.points is not None:
                inside = picture.points - [x, y]
                if mirror:
                    inside = (inside * [-1, 1] + [self.crop - 1, 0])[MIRRORED]
                if (inside >= 0).all() and (inside < self.crop).all():
                    matrices[i] = similarity(inside)
        return Batch(pixels, matrices, labels)


def crop_corners(picture: Picture, crop: int, faces: str) -> np.ndarray:
    """Corners (N, 2), (y, x), of the crops that a source may give: with the face where it fits, or clear of it."""
    rows, columns = (np.arange(0, side - crop + 1, GRID) for side in picture.pixels.shape[:2])
    corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    if picture.points is None:
        return corners
    low, high = picture.points.min(0)[::-1], picture.points.max(0)[::-1]
    if faces == "none":
        margin = CLEARANCE * (high - low).max()
        clear = (corners >= high + margin) | (corners + crop <= low - margin)
        return corners[clear.any(1)]
    inside = ((corners <= low) & (corners + crop > high)).all(1)
    return corners[inside] if inside.any() else corners


def validation_photos(sources: tuple[Source, ...], root: Path, count: int) -> list[Photo]:
    """`count` photos of held-back people, one a person, of the first source."""
    held = [p for p in training_photos(sources[0].set, root) if is_held_back(p)]
    if not held:
        raise UsageError(
            f"dataset '{sources[0].set}' has too few people: none is held back for validation"
        )
    first = list({photo.person: photo for photo in reversed(held)}.values())[::-1]
    return first[:count]
