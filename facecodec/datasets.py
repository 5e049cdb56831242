"""Lists the people and photographs of each dataset, by split, without reading pictures.

To add a dataset, write a function that takes the data folder and a split and returns photographs,
and add it to DATASETS. The split is `train` or `test`; nothing may be trained, tuned or selected on
`test`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from facecodec import images
from facecodec.errors import UsageError
from facecodec.folders import data_folder, data_root

HELD_BACK = 0.05  # share of the training people that is kept for validation
TEST_SHARE = 0.3  # share of people or photographs for testing, in a set without official splits
OLDEST_BAND = 7  # of All-Age-Faces: 70 to 80
LFW_FOLDERS = ("lfw-deepfunneled", "lfw_funneled", "lfw")


@dataclass(frozen=True)
class Photo:
    """A file, the person it shows, and that person's group if the dataset has groups."""

    path: Path
    person: str
    group: str = ""


def lfw(root: Path, split: str) -> list[Photo]:
    """Returns LFW's images of the people in peopleDevTrain.txt or peopleDevTest.txt.

    It takes the first release that is there: deep-funneled, funneled or original. The two lists lie
    in the folder of people or beside it.
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


def celeba(name: str, root: Path, split: str) -> list[Photo]:
    """Returns the images of celeba-wild-mini or celeba-hq-mini.

    celeba-split.txt says which people are in `split`.
    """
    splits = dict(_rows(root / "celeba-split.txt"))
    return [
        Photo(root / name / "images" / file, person)
        for file, person in _rows(root / name / "identity.txt")
        if splits[person] == split
    ]


def celeba_hq(root: Path, split: str) -> list[Photo]:
    """Returns CelebAMask-HQ's images, each with its person from CelebA's identity_CelebA.txt.

    celeba-split.txt gives the split of the people that it names. Of the others, TEST_SHARE are for
    testing.
    """
    base = root / "CelebAMask-HQ"
    identities = dict(_rows(root / "identity_CelebA.txt"))
    rows = _rows(base / "CelebA-HQ-to-CelebA-mapping.txt")[1:]
    photos = [Photo(base / "CelebA-HQ-img" / f"{row[0]}.jpg", identities[row[2]]) for row in rows]
    listing = root / "celeba-split.txt"
    splits = dict(_rows(listing)) if listing.exists() else {}

    def split_of(person: str) -> str:
        return splits.get(person) or ("test" if draw(person) >= 1 - TEST_SHARE else "train")

    return [photo for photo in photos if split_of(photo.person) == split]


def all_age_faces(root: Path, split: str) -> list[Photo]:
    """Returns All-Age-Faces, one photograph per person.

    The groups are bands of ten years by sex, f or m.
    """
    base = root / "all-age-faces-mini"
    return [
        Photo(base / "images" / file, Path(file).stem, f"{_band(int(age))}, {sex}")
        for file, age, sex, part in _rows(base / "list.txt")
        if part == split
    ]


def _band(age: int) -> str:
    decade = min(age // 10, OLDEST_BAND)
    return f"{10 * decade} to {80 if decade == OLDEST_BAND else 10 * decade + 9}"


def london_faces(root: Path, split: str) -> list[Photo]:
    """Returns the London set: two photographs of each person, neutral, then smiling."""
    base = root / "london-faces"
    return [
        Photo(base / "images" / file, person)
        for file, person, part in _rows(base / "list.txt")
        if part == split
    ]


def folder(path: Path) -> list[Photo]:
    """Returns every image below a folder.

    If there is an identity.txt (file, person), it names the person on each image. Otherwise an
    image's person is the folder that it lies in, and an image at the top is a person of its own.
    """
    # Only regular files: reading a pipe or device might never end.
    kinds = images.suffixes()
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in kinds and os.path.isfile(p))
    names = path / "identity.txt"
    people = _named(names) if names.exists() else {}
    folders = {p: str(p.parent.relative_to(path)) if p.parent != path else p.stem for p in files}
    return [Photo(p, people.get(p.name, folders[p])) for p in files]


def _named(listing: Path) -> dict[str, str]:
    """Returns the person of each file in an identity.txt. File names may contain spaces."""
    people: dict[str, str] = {}
    for number, line in enumerate(listing.read_text("utf-8").splitlines(), 1):
        words = line.rsplit(maxsplit=1)
        if len(words) == 1:
            raise UsageError(f"{listing}, line {number}: give a file, a space and its person")
        people |= [(words[0], words[1])] if words else []
    return people


def _rows(listing: Path) -> list[list[str]]:
    return [line.split() for line in listing.read_text().splitlines()]


DATASETS: dict[str, Callable[[Path, str], list[Photo]]] = {
    "lfw": lfw,
    "celeba-hq": celeba_hq,
    "celeba-hq-mini": partial(celeba, "celeba-hq-mini"),
    "celeba-wild-mini": partial(celeba, "celeba-wild-mini"),
    "all-age-faces-mini": all_age_faces,
    "london-faces": london_faces,
}


def photographs(name: str, split: str, data: Path | None) -> list[Photo]:
    """Returns the photographs of a dataset by name, or of any folder, which has no split.

    `data` is the folder of datasets (folders.data_folder); it is not needed if `name` is the path
    of a folder. Such a path is tried as it is, then below `data`. Raises UsageError for a dataset
    that is not there or is empty.
    """
    if name in DATASETS:
        root = data_root(data)
        try:
            photos = DATASETS[name](root, split)
        except FileNotFoundError as error:
            raise UsageError(
                f"dataset '{name}' is not under {root}: {error.filename} is missing (docs/data.md)"
            ) from None
    else:
        below = data_folder(data) / name
        place = next((path for path in (Path(name), below) if path.is_dir()), None)
        if place is None:
            raise UsageError(f"no dataset '{name}': {', '.join(DATASETS)}, or a folder")
        photos = folder(place)
    if not photos:
        raise UsageError(f"dataset '{name}' has no images")
    return photos


def draw(name: str) -> float:
    """Returns a hash of `name` as a number in 0..1, the same on every machine."""
    return hashlib.sha256(name.encode()).digest()[0] / 256


def is_held_back(photo: Photo) -> bool:
    """Returns whether a training person is kept for validation, and never trained on."""
    return draw(photo.person) < HELD_BACK
