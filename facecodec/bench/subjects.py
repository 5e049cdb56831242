"""The photographs on which codecs are measured, with people, landmarks and pairs.

Only test people are in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from facecodec import images
from facecodec.bench.codecs.fit import resized
from facecodec.datasets import LFW_FOLDERS, Photo, photographs
from facecodec.errors import ImageError, UsageError
from facecodec.faces.alignment import CUT, cut_face, scaled_template
from facecodec.faces.detection import cached_landmarks
from facecodec.folders import cache_folder, data_folder

ALIGNED = "-align"  # after a dataset's name: its faces, as aligned 448x448 pictures
SIDE = re.compile(r"(.+)@(\d+)")  # a dataset's name, and the longer side of its pictures in pixels
FOLDS = 10


@dataclass(frozen=True)
class Subject:
    """A photograph: its file, its person, and the landmarks (5, 2) of the original's face.

    The landmarks are None without a face.
    """

    path: Path
    person: str
    landmarks: np.ndarray | None

    @property
    def name(self) -> str:
        """Returns the file and its folder, as LFW names photographs."""
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True)
class Pair:
    """Two photographs to compare, by their place among a dataset's subjects."""

    first: int
    second: int
    same: bool
    fold: int


@dataclass(frozen=True)
class Dataset:
    """Photographs in the order of their file names; each person's first `gallery` are enrolled."""

    name: str
    subjects: list[Subject]
    gallery: int = 1
    pairs: list[Pair] = field(default_factory=list)

    @property
    def has_all_folds(self) -> bool:
        """Returns whether there are pairs in each of the folds, as verification needs."""
        return len({pair.fold for pair in self.pairs}) == FOLDS


def load_dataset(
    name: str, data: Path | None, limit: int | None = None, faces: bool = True
) -> Dataset:
    """Returns the test people of a dataset of facecodec/datasets.py, or a folder of photographs.

    A dataset's name may end in -align, and in @SIDE for pictures of this longer side. `data` is
    the folder of datasets (folders.data_folder).
    With `limit`, whole people are taken until there are so many photographs. Without `faces`, no
    faces are detected and no subject has landmarks. Raises UsageError for a dataset that is not
    there.
    """
    sized = SIDE.fullmatch(name)
    if sized and not Path(name).is_dir():
        return of_side(load_dataset(sized[1], data, limit, faces), int(sized[2]))
    if name.endswith(ALIGNED) and not Path(name).is_dir():
        return aligned(load_dataset(name.removesuffix(ALIGNED), data, limit))
    photos = photographs(name, "test", data)
    photos = sorted(photos, key=lambda photo: photo.path.as_posix())
    if limit is not None:
        photos = whole_people(photos, limit)
    points: list[np.ndarray | None] = [None] * len(photos)
    if faces:
        points = cached_landmarks([photo.path for photo in photos])
    if faces and name == "lfw":  # its photographs are aligned, and one has no face that is found
        mean = np.mean([place for place in points if place is not None], axis=0)
        points = [mean if place is None else place for place in points]
    subjects = [
        Subject(photo.path, photo.person, place)
        for photo, place in zip(photos, points, strict=True)
    ]
    pairs = lfw_pairs(data_folder(data), subjects) if name == "lfw" else []
    return Dataset(name, subjects, gallery=3 if name == "celeba-hq" else 1, pairs=pairs)


def chosen(dataset: Dataset, indices: Sequence[int]) -> Dataset:
    """Returns a dataset of the photographs at `indices`, in this order, with their pairs."""
    place = {index: number for number, index in enumerate(indices)}
    pairs = [
        replace(pair, first=place[pair.first], second=place[pair.second])
        for pair in dataset.pairs
        if pair.first in place and pair.second in place
    ]
    return replace(dataset, subjects=[dataset.subjects[index] for index in indices], pairs=pairs)


def in_pairs(dataset: Dataset) -> Dataset:
    """Returns a dataset of the photographs that are in pairs.

    Raises UsageError if there are no pairs in one of the folds.
    """
    if not dataset.has_all_folds:
        raise UsageError("pairs are measured on the whole of lfw: leave out --limit and --dataset")
    return chosen(
        dataset, sorted({index for pair in dataset.pairs for index in (pair.first, pair.second)})
    )


def aligned(dataset: Dataset) -> Dataset:
    """Returns the dataset's faces as aligned 448x448 pictures, kept in the user's cache.

    Photographs without a face are left out.
    """
    place = cache_folder() / "aligned" / Path(dataset.name).name
    subjects = []
    for number, subject in enumerate(dataset.subjects):
        if subject.landmarks is None:
            continue
        path = _kept(place, number, subject)
        Image.fromarray(cut_face(images.load(subject.path), subject.landmarks)).save(path)
        subjects.append(replace(subject, path=path, landmarks=scaled_template(CUT)))
    return Dataset(dataset.name + ALIGNED, subjects, dataset.gallery)


def of_side(dataset: Dataset, side: int) -> Dataset:
    """Returns the dataset with pictures of a longer side of `side` pixels, in the user's cache.

    Landmarks are those of the photographs, so that faces too small to be found are measured too.
    """
    place = cache_folder() / "sized" / f"{Path(dataset.name).name}@{side}"
    subjects = []
    for number, subject in enumerate(dataset.subjects):
        try:
            pixels = images.load(subject.path)
        except (ImageError, OSError):  # the bench names it, and leaves it out
            subjects.append(subject)
            continue
        height, width = pixels.shape[:2]
        scale = side / max(height, width)
        path = _kept(place, number, subject)
        shape = (max(1, round(scale * height)), max(1, round(scale * width)))
        Image.fromarray(resized(pixels, shape)).save(path)
        points = subject.landmarks
        points = None if points is None else (points + 0.5) * scale - 0.5
        subjects.append(replace(subject, path=path, landmarks=points))
    return replace(dataset, name=f"{dataset.name}@{side}", subjects=subjects)


def _kept(place: Path, number: int, subject: Subject) -> Path:
    """Returns the file, below `place`, for the picture that is made of a photograph."""
    path = place / str(number) / subject.path.parent.name / f"{subject.path.stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def lfw_pairs(root: Path, subjects: Sequence[Subject]) -> list[Pair]:
    """Returns the pairs of pairsDevTest.txt, which are of test people only, in ten equal folds.

    Pairs with a missing photograph are left out.
    """
    places = [root / name / "pairsDevTest.txt" for name in LFW_FOLDERS] + [
        root / "pairsDevTest.txt"
    ]
    listing = next((path for path in places if path.exists()), None)
    if listing is None:
        return []
    number = {subject.path.name: index for index, subject in enumerate(subjects)}
    count, *lines = listing.read_text().splitlines()
    pairs = []
    for index, line in enumerate(lines):
        words = line.split("\t")
        same = len(words) == 3
        one, two = ((words[0], words[1]), (words[0], words[2])) if same else (words[:2], words[2:])
        files = [f"{person}_{int(image):04d}.jpg" for person, image in (one, two)]
        if all(file in number for file in files):
            fold = index % int(count) * FOLDS // int(count)
            pairs.append(Pair(number[files[0]], number[files[1]], same, fold))
    return pairs


def whole_people(photos: list[Photo], limit: int) -> list[Photo]:
    people: dict[str, list[Photo]] = {}
    for photo in photos:
        people.setdefault(photo.person, []).append(photo)
    kept: list[Photo] = []
    for each in people.values():
        if len(kept) >= limit:
            break
        kept += each
    return kept
