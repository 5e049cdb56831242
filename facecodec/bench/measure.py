"""Measures one codec at one setting over many photographs: rate, quality and recognition.

It uses all cores.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from facecodec import images
from facecodec.bench.codecs import code, find_codec
from facecodec.bench.metrics import ms_ssim, psnr, ssim
from facecodec.bench.store import Store, key
from facecodec.bench.subjects import Subject
from facecodec.errors import ImageError, UsageError
from facecodec.faces.recognisers import (
    FacenetRecogniser,
    Recogniser,
    find_recogniser,
    load_recogniser,
    read_contract,
)
from facecodec.folders import cache_folder
from facecodec.processes import end_with_parent, usable_cores

# The part of a measurement with bytes and quality; every other part is an EmbeddingSpec.
PICTURE = "picture"
SAVE_EVERY = 200  # photographs
# Part of the cache keys: increase it whenever the reading of photographs changes; 2: upright.
READING = 2
# The same for faces.alignment: increase it whenever crops change.
ALIGNMENT = 2


@dataclass(frozen=True)
class EmbeddingSpec:
    """Which embedding to compute: the recogniser, and the picture that gives the landmarks.

    With `found_again` it is the decoded picture, otherwise the original.
    """

    recogniser: str
    found_again: bool = False

    def __str__(self) -> str:
        return f"{self.recogniser}, found again" if self.found_again else self.recogniser


Part = str | EmbeddingSpec  # of a measurement


@dataclass(frozen=True)
class Measured:
    """The measurement of one photograph under one codec.

    MS-SSIM is None if the picture is too small; an embedding is NaN if no face was found.
    """

    bytes: int
    pixels: int
    psnr: float
    ssim: float
    ms_ssim: float | None
    embeddings: dict[EmbeddingSpec, np.ndarray]


class Bench:
    """A pool of measuring processes, and a store of measurements.

    `recognisers` has the results of recognisers.find_recogniser by name. With `find_again`, faces
    are also detected on the decoded pictures.
    """

    def __init__(self, recognisers: dict[str, str], store: Store, find_again: bool = False) -> None:
        self.recognisers = recognisers
        self.specs = [
            EmbeddingSpec(name, again)
            for again in (False, True)[: 1 + find_again]
            for name in recognisers
        ]
        self._store = store
        self._pool: ProcessPoolExecutor | None = None

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._store.close()

    def photographs(
        self,
        codec: str,
        setting: float,
        subjects: list[Subject],
        report: Callable[[int], None] = lambda done: None,
    ) -> list[Measured]:
        """Measures as `attempts`, but raises ImageError for a file that cannot be read any more."""
        measured = []
        attempts = self.attempts(codec, setting, subjects, report)
        for subject, each in zip(subjects, attempts, strict=True):
            if each is None:
                raise ImageError(f"{subject.path} cannot be read any more")
            measured.append(each)
        return measured

    def attempts(
        self,
        codec: str,
        setting: float,
        subjects: list[Subject],
        report: Callable[[int], None] = lambda done: None,
    ) -> list[Measured | None]:
        """Returns the measurements of `subjects` in order; None for a file that cannot be read.

        `report` takes the number of photographs done. Raises UsageError for a codec that cannot run
        here.
        """
        found = find_codec(codec)
        reason = found.missing()
        if reason:
            raise UsageError(f"codec {codec}: {reason}")
        # Codecs of one library have the same version, so the key needs the name too.
        coded = (found.name, found.version(), f"{setting:g}")
        keys = [self._keys(coded, subject) for subject in subjects]
        known = self._store.get(each for parts in keys for each in parts.values())
        work = []
        for subject, parts in zip(subjects, keys, strict=True):
            wanted = [part for part, each in parts.items() if each not in known]
            if wanted:
                work.append((subject, wanted))
        done = len(subjects) - len(work)
        fresh: dict[bytes, bytes] = {}
        names = {subject.path: parts for subject, parts in zip(subjects, keys, strict=True)}
        try:
            for (subject, _), values in zip(work, self._measure(codec, setting, work), strict=True):
                fresh |= {
                    names[subject.path][part]: value for part, value in (values or {}).items()
                }
                done += 1
                if done % SAVE_EVERY == 0:
                    self._store.put(fresh)
                    known |= fresh
                    fresh = {}
                report(done)
        finally:  # Ctrl-C must not lose measurements
            self._store.put(fresh)
            known |= fresh
        return [
            _measured({part: known[each] for part, each in parts.items()})
            if parts.get(PICTURE) in known
            else None
            for parts in keys
        ]

    def _keys(self, coded: tuple[str, ...], subject: Subject) -> dict[Part, bytes]:
        """Returns the key of each part of a measurement. `coded` identifies codec and setting.

        There are none if the photograph's file cannot be read.
        """
        try:
            read = (*coded, READING, _digest(subject.path))
        except OSError:
            return {}
        keys: dict[Part, bytes] = {PICTURE: key(*read, PICTURE)}
        for spec in self.specs:
            known = _identity(self.recognisers[spec.recogniser])
            place = None if subject.landmarks is None else subject.landmarks.round(3).tolist()
            keys[spec] = key(*read, *known, ALIGNMENT, "found again" if spec.found_again else place)
        return keys

    def _measure(
        self, codec: str, setting: float, work: list[tuple[Subject, list[Part]]]
    ) -> Iterator[dict[Part, bytes] | None]:
        if not work:
            return iter(())
        processes = self._processes()
        with _without_interrupts():
            return processes.map(partial(_measure, codec, setting), work, chunksize=16)

    def _processes(self) -> ProcessPoolExecutor:
        """Returns the pool. It is started when something has to be measured."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                usable_cores(), context, initializer=_start, initargs=(self.recognisers,)
            )
        return self._pool


def open_bench(recognisers: Sequence[str], data: Path | None, find_again: bool = False) -> Bench:
    """Returns a bench with the user's store. `recognisers` are names or files."""
    found = {Path(name).stem: find_recogniser(name, data) for name in recognisers}
    return Bench(found, Store(cache_folder() / "bench.sqlite"), find_again)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keeps Ctrl-C, which a terminal sends to all processes, from those that start meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _identity(recogniser: str) -> list[str]:
    """Returns, for a cache key, what embeddings of a recogniser depend on.

    The recogniser comes from recognisers.find_recogniser.
    """
    if not recogniser.endswith(".onnx"):
        return [recogniser]
    path = Path(recogniser)
    return [_digest(path), *read_contract(path).departures()]


def _measured(values: dict[Part, bytes]) -> Measured:
    embeddings = {
        part: np.frombuffer(value, np.float32)
        for part, value in values.items()
        if isinstance(part, EmbeddingSpec)
    }
    return Measured(**json.loads(values[PICTURE]), embeddings=embeddings)


_recognisers: dict[str, Recogniser | FacenetRecogniser]  # set in each process of the pool


def _start(recognisers: dict[str, str]) -> None:
    global _recognisers
    import torch
    from threadpoolctl import threadpool_limits

    end_with_parent()
    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's BLAS: there is one process per core already
    _recognisers = {name: load_recogniser(found) for name, found in recognisers.items()}


def _measure(
    codec: str, setting: float, work: tuple[Subject, list[Part]]
) -> dict[Part, bytes] | None:
    """Returns the requested parts of a photograph's measurement, in the form that is stored.

    Returns None if the photograph cannot be read.
    """
    from PIL import Image

    from facecodec.faces.alignment import crop_face
    from facecodec.faces.detection import find_landmarks

    subject, wanted = work
    try:
        pixels = images.load(subject.path)
    except (ImageError, OSError):
        return None
    with tempfile.TemporaryDirectory() as folder:
        size, decoded = code(codec, pixels, setting, Path(folder, "coded"))
    values: dict[Part, bytes] = {}
    if PICTURE in wanted:
        picture: dict[str, float | None] = {
            "bytes": size,
            "pixels": pixels.shape[0] * pixels.shape[1],
        }
        picture |= {metric.__name__: metric(pixels, decoded) for metric in (psnr, ssim, ms_ssim)}
        values[PICTURE] = json.dumps(picture).encode()
    places = {False: subject.landmarks}
    specs = [part for part in wanted if isinstance(part, EmbeddingSpec)]
    if any(spec.found_again for spec in specs):
        places[True] = next(iter(find_landmarks([Image.fromarray(decoded)])))
    for spec in specs:
        place = places[spec.found_again]
        embed = _recognisers[spec.recogniser]
        if place is None:
            aligned = np.full((3, embed.contract.size, embed.contract.size), np.nan, np.float32)
        else:
            aligned = crop_face(decoded, place, embed.contract)
        values[spec] = embed(aligned).astype(np.float32).tobytes()
    return values
