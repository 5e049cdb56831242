"""The photographs that codecs are measured on, with people and landmarks. Test people alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facecodec.bench.measure import Subject
from facecodec.errors import UsageError
from facecodec.faces import cache_folder
from facecodec.faces.detection import cached_landmarks
from facecodec.training.data import Photo, celeba, lfw


def load_subjects(dataset: str, root: Path, limit: int | None = None) -> list[Subject]:
    """`lfw`, `celeba-hq-mini` or `celeba-wild-mini` below `root`, in order of file names.

    `limit` takes whole people, the first ones, until so many photographs are reached. Where no face is
    found, LFW's aligned photographs take the mean landmarks of the others; elsewhere they are left out.
    """
    photos = lfw(root, "test") if dataset == "lfw" else celeba(root, dataset, "test")
    photos = sorted(photos, key=lambda photo: photo.path.as_posix())
    if limit is not None:
        photos = _whole_people(photos, limit)
    points = cached_landmarks([photo.path for photo in photos], cache_folder() / "landmarks.json")
    found = [p for p in points if p is not None]
    if not found:
        raise UsageError(f"no face was found in {dataset}")
    mean = np.mean(found, axis=0)
    return [
        Subject(photo.path, photo.person, mean if place is None else place)
        for photo, place in zip(photos, points, strict=True)
        if place is not None or dataset == "lfw"
    ]


def _whole_people(photos: list[Photo], limit: int) -> list[Photo]:
    people: dict[str, list[Photo]] = {}
    for photo in photos:
        people.setdefault(photo.person, []).append(photo)
    kept: list[Photo] = []
    for each in people.values():
        if len(kept) >= limit:
            break
        kept += each
    return kept
