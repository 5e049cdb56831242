"""Batches of crops to train on, and the photographs to validate on.

Crops are on the 16-pixel grid of their image. Cameras write JPEGs on that grid and users encode
whole files, so training and use have the grid at the same place. A source may also resize each crop
by another factor, so that the network sees faces of all sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from facecodec import images
from facecodec.datasets import TEST_SHARE, Photo, draw, is_held_back, photographs
from facecodec.errors import ImageError, UsageError
from facecodec.faces.alignment import CUT, cut_face, scaled_template
from facecodec.template import similarity
from facecodec.training.config import Source

LandmarkFinder = Callable[[list[Path]], list[np.ndarray | None]]

GRID = 16
KNOWN_SHARE = 0.5  # share of the first source's crops with people of a closed set
CLEARANCE = 1.2  # distance of a crop without the face, as a multiple of the landmarks' extent


@dataclass(frozen=True)
class ClosedSet:
    """People that a head learns to tell apart, and their photographs for testing."""

    people: list[str]
    tests: frozenset[Photo]


def closed_set(photos: list[Photo], count: int) -> ClosedSet:
    """Returns the `count` people with the most photographs, without held-back people.

    Three in ten of their photographs are for testing.
    """
    often = Counter(photo.person for photo in photos if not is_held_back(photo))
    people = sorted(often, key=lambda person: (-often[person], person))[:count]
    chosen = set(people)
    return ClosedSet(
        people,
        frozenset(p for p in photos if p.person in chosen and draw(p.path.name) >= 1 - TEST_SHARE),
    )


def extend(pixels: np.ndarray, minimum: int) -> np.ndarray:
    """Extends a picture by mirroring at the right and bottom, to the grid and to `minimum`."""
    height, width = (max(minimum, side + -side % GRID) for side in pixels.shape[:2])
    return np.pad(
        pixels,
        ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)),
        mode="symmetric",
    )


MIRRORED = [1, 0, 2, 4, 3]  # the order of the five points in a mirror image


@dataclass(frozen=True)
class Batch:
    """Crops of one size, uint8 (B, crop, crop, 3), with the alignments (B, 2, 3) of their faces.

    The alignment is NaN without a face. `labels` (B,) are the numbers of people of a closed set, or
    -1 for other people.
    """

    pixels: np.ndarray
    matrices: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Picture:
    """A picture, uint8 (H, W, 3), from which crops are taken.

    `points` (5, 2) are its face's landmarks, or None; `person` is its person's name.
    """

    pixels: np.ndarray
    points: np.ndarray | None
    person: str = ""


def load_pictures(
    photos: list[Photo],
    points: list[np.ndarray | None],
    faces: str,
    unreadable: dict[str, str],
) -> list[Picture]:
    """Returns the photos, prepared according to a source's `faces`.

    Photos without a face are left out if `faces` needs one. Files that cannot be read are left out
    and added to `unreadable` with the reason.
    """
    found = list(zip(photos, points, strict=True))
    if faces == "cut":
        found = [(photo, place) for photo, place in found if place is not None]
    with ThreadPoolExecutor() as pool:
        pixels = list(pool.map(_pixels, [photo.path for photo, _ in found]))
    pictures = []
    for (photo, place), image in zip(found, pixels, strict=True):
        if isinstance(image, str):
            unreadable[str(photo.path)] = image
            continue
        if faces == "cut" and place is not None:
            image = cut_face(image, place)
        place = scaled_template(CUT) if faces in ("aligned", "cut") else place
        pictures.append(Picture(image, place, photo.person))
    return pictures


def _pixels(path: Path) -> np.ndarray | str:
    """Returns the picture in a file, or why it cannot be read."""
    try:
        return images.load(path)
    except ImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


class CropSampler:
    """Draws random crops on the grid, mirrored half of the time.

    Its batches depend only on the generator. `landmarks` takes files and returns the landmarks of
    each, or None. With it, crops contain the face if it fits, or avoid it if the source's `faces`
    is "none".
    """

    def __init__(
        self,
        sources: tuple[Source, ...],
        data: Path | None,
        crop: int,
        landmarks: LandmarkFinder | None = None,
        classes: int = 0,
    ) -> None:
        """Loads the pictures of all sources.

        `classes` people of the first source are a closed set; its test photographs are left out.
        """
        self.crop = crop
        self.crops = np.array([source.crop or crop for source in sources])
        closed = closed_set(photographs(sources[0].set, "train", data), classes)
        self.labels = {person: number for number, person in enumerate(closed.people)}
        self.counts: dict[str, int] = {}
        self.unreadable: dict[str, str] = {}
        self.pictures: list[list[Picture]] = []
        self.corners: list[
            list[np.ndarray]
        ] = []  # the possible corners of crops of each picture, (N, 2), as (y, x)
        for source, side in zip(sources, self.crops.tolist(), strict=True):
            photos = [
                photo for photo in photographs(source.set, "train", data) if not is_held_back(photo)
            ]
            photos = [photo for photo in photos if photo not in closed.tests]
            points: list[np.ndarray | None] = [None] * len(photos)
            if landmarks is not None and source.faces != "aligned":
                points = landmarks([photo.path for photo in photos])
            pictures = [
                replace(picture, pixels=extend(picture.pixels, side))
                for picture in load_pictures(photos, points, source.faces, self.unreadable)
            ]
            corners = [crop_corners(picture, side, source.faces) for picture in pictures]
            kept = [i for i in range(len(pictures)) if len(corners[i])]
            if not kept:
                raise UsageError(
                    f"dataset '{source.set}' has nothing to train on: "
                    "it has too few people, or no crops of this size"
                )
            self.pictures.append([pictures[i] for i in kept])
            self.corners.append([corners[i] for i in kept])
            self.counts[source.set] = max(self.counts.get(source.set, 0), len(kept))
        self.known = [
            i for i, picture in enumerate(self.pictures[0]) if picture.person in self.labels
        ]
        self.resizes = [source.resize for source in sources]
        shares = np.array([s.share for s in sources])
        self.shares = shares / shares.sum()

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        """Returns `size` crops; if the source's crop is not the run's, about as many pixels."""
        crop = int(self.crops[rng.choice(len(self.shares), p=self.shares)])
        shares = np.where(self.crops == crop, self.shares, 0)
        size = max(1, round(size * self.crop**2 / crop**2))
        pixels = np.empty((size, crop, crop, 3), np.uint8)
        matrices = np.full((size, 2, 3), np.nan)
        labels = np.full(size, -1)
        for i, source in enumerate(rng.choice(len(shares), size, p=shares / shares.sum())):
            index = int(rng.integers(len(self.pictures[source])))
            if source == 0 and self.known and rng.random() < KNOWN_SHARE:
                index = self.known[rng.integers(len(self.known))]
            picture, corners = self.pictures[source][index], self.corners[source][index]
            if self.resizes[source] != (1, 1):
                low, high = np.log(self.resizes[source])
                picture = resized_crop(picture, crop, np.exp(rng.uniform(low, high)), rng)
                corners = np.zeros((1, 2), int)
            y, x = corners[rng.integers(len(corners))]
            patch = picture.pixels[y : y + crop, x : x + crop]
            mirror = rng.random() < 0.5
            pixels[i] = patch[:, ::-1] if mirror else patch
            labels[i] = self.labels.get(picture.person, -1)
            if picture.points is not None:
                inside = picture.points - [x, y]
                if mirror:
                    inside = (inside * [-1, 1] + [crop - 1, 0])[MIRRORED]
                if (inside >= 0).all() and (inside < crop).all():
                    matrices[i] = similarity(inside)
        return Batch(pixels, matrices, labels)


def resized_crop(picture: Picture, crop: int, factor: float, rng: np.random.Generator) -> Picture:
    """Resizes a part of the picture by `factor` to (crop, crop). It has the face if that fits.

    The factor is raised if the resized picture would be smaller than the crop. The filter is
    bicubic, and wide enough to average pixels when shrinking.
    """
    height, width = picture.pixels.shape[:2]
    side = min(crop / factor, height, width)
    factor = crop / side
    low, high = np.zeros(2), np.array([height, width]) - side
    if picture.points is not None:
        first, last = picture.points.min(0)[::-1], picture.points.max(0)[::-1]
        inside_low, inside_high = np.maximum(low, last - side), np.minimum(high, first)
        if (inside_low <= inside_high).all():
            low, high = inside_low, inside_high
    y, x = rng.uniform(low, high)
    resized = Image.fromarray(picture.pixels).resize(
        (crop, crop), Image.Resampling.BICUBIC, (x, y, x + side, y + side)
    )
    points = None if picture.points is None else (picture.points + 0.5 - [x, y]) * factor - 0.5
    return Picture(np.asarray(resized), points, picture.person)


def crop_corners(picture: Picture, crop: int, faces: str) -> np.ndarray:
    """Returns the possible corners (N, 2), (y, x), of a source's crops.

    The crops contain the face if it fits, or avoid it if `faces` is "none".
    """
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


def validation_photos(sources: tuple[Source, ...], data: Path | None, count: int) -> list[Photo]:
    """Returns photos of `count` held-back people of the first source, one per person."""
    held = [p for p in photographs(sources[0].set, "train", data) if is_held_back(p)]
    if not held:
        raise UsageError(
            f"dataset '{sources[0].set}' has too few people to hold back any for validation"
        )
    first = list({photo.person: photo for photo in reversed(held)}.values())[::-1]
    return first[:count]
