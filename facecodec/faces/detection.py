"""Landmarks of the main face of each image, by facenet-pytorch's MTCNN, cached on disk."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from facecodec import images
from facecodec.errors import ImageError, UsageError
from facecodec.faces import INSTALL
from facecodec.folders import cache_folder
from facecodec.processes import usable_cores
from facecodec.search.detector import MIN_FACE, SURE, enlarged, main_face, reduction

SAVE_EVERY = 200
CACHE = "landmarks-2.json"  # the number grows when reading photographs changes; 2: upright
CHUNK = 100  # files per task of a process


def find_landmarks(pictures: Iterable[Image.Image]) -> Iterable[np.ndarray | None]:
    """Yields the landmarks (5, 2), (x, y) in pixels, of each picture's main face, or None.

    The main face is large and central. Raises UsageError without facenet-pytorch.
    """
    for boxes, _, points, size in _detections(pictures):
        yield points[main_face(boxes, size)] if len(boxes) else None


def find_faces(pictures: Iterable[Image.Image]) -> Iterable[np.ndarray]:
    """Yields the landmarks (N, 5, 2) of each picture's faces.

    These are the main face and all others that the detector is sure of. Raises UsageError without
    facenet-pytorch.
    """
    for boxes, certainties, points, size in _detections(pictures):
        found = certainties >= SURE
        if len(boxes):
            found[main_face(boxes, size)] = True
        yield points[found]


def _detections(
    pictures: Iterable[Image.Image],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]]:
    """Yields each picture's boxes (N, 4), confidences (N,), landmarks (N, 5, 2), and its size."""
    try:
        from facenet_pytorch import MTCNN
    except ImportError:
        raise UsageError(f"finding faces needs facenet-pytorch: {INSTALL}") from None
    detector = MTCNN(keep_all=True, min_face_size=MIN_FACE, post_process=False)
    nothing = np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2))
    for image in pictures:
        factor = reduction(*image.size)
        if min(image.size) < MIN_FACE * factor:  # MTCNN's pyramid would have no level
            yield *nothing, image.size
            continue
        seen = image.convert("RGB").reduce(factor)
        boxes, certainties, points = detector.detect(seen, landmarks=True)
        if boxes is None:
            yield *nothing, image.size
        else:
            yield (
                factor * boxes,
                certainties,
                enlarged(points.astype(np.float64), factor),
                image.size,
            )


def cached_landmarks(
    files: list[Path],
    cache: Path | None = None,
) -> list[np.ndarray | None]:
    """Returns the landmarks (5, 2) of each file's main face, in the upright picture, or None.

    A file that cannot be read has none.

    `cache` is a JSON file, by the content of photographs; it is read first and then extended. By
    default it lies in the user's cache folder.
    """
    cache = cache_folder() / CACHE if cache is None else cache
    known = json.loads(cache.read_text()) if cache.exists() else {}
    keys = [_key(file) for file in files]
    missing = [
        (key, file)
        for key, file in zip(keys, files, strict=True)
        if key is not None and key not in known
    ]
    found = _in_files([file for _, file in missing])
    for done, ((key, _), points) in enumerate(zip(missing, found, strict=True), 1):
        known[key] = None if points is None else points.round(3).tolist()
        if done % SAVE_EVERY == 0 or done == len(missing):
            _save(known, cache)
    places = (None if key is None else known[key] for key in keys)
    return [None if place is None else np.array(place) for place in places]


def _key(file: Path) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:32]
    except OSError:
        return None


def _in_files(files: list[Path]) -> Iterator[np.ndarray | None]:
    """Yields the landmarks of files. Uses one process per core if there are many files."""
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]
    if len(chunks) <= 1:
        yield from find_landmarks(map(_readable, files)) if files else ()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(usable_cores(), context, initializer=_use_one_thread) as pool:
        for found in pool.map(_in_chunk, chunks):
            yield from found


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _in_chunk(files: list[Path]) -> list[np.ndarray | None]:
    return list(find_landmarks(map(_readable, files)))


def _readable(file: Path) -> Image.Image:
    """Returns the picture in a file, or an empty picture, without faces, if it cannot be read."""
    try:
        return Image.fromarray(images.load(file))
    except (ImageError, OSError):
        return Image.new("RGB", (1, 1))


def _save(known: dict[str, object], cache: Path) -> None:
    """Adds `known` to what is in the cache by now, perhaps from another process."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    together = (json.loads(cache.read_text()) if cache.exists() else {}) | known
    partial = cache.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(together))
    os.replace(partial, cache)
