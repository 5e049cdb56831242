"""One codec at one setting over many photographs, on all cores: rate, quality and recognition."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facecodec.bench.codecs import code
from facecodec.bench.metrics import ms_ssim, psnr
from facecodec.bench.recognition import MIN_QUERIES, distances, frr_at_far, load_embedder


@dataclass(frozen=True)
class Subject:
    """A photograph: its file, who is on it, and the five landmarks (5, 2) of the original."""

    path: Path
    person: str
    landmarks: np.ndarray


@dataclass(frozen=True)
class Measured:
    """One photograph under one codec: bytes and pixels, PSNR, MS-SSIM or None, an embedding for each recogniser."""

    bytes: int
    pixels: int
    psnr: float
    ms_ssim: float | None
    embeddings: list[np.ndarray]


class Bench:
    """A pool of processes that measure. `recognisers` maps names to what recognition.find_recogniser gave."""

    def __init__(self, recognisers: dict[str, str]) -> None:
        self.recognisers = recognisers
        self._originals: dict[tuple[Path, ...], list[Measured]] = {}
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(
            os.cpu_count(), context, initializer=_start, initargs=(list(recognisers.values()),)
        )

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def photographs(
        self, codec: str, setting: float, subjects: list[Subject], report: Callable[[int], None] = lambda done: None
    ) -> list[Measured]:
        rows = []
        for row in self._pool.map(partial(_measure, codec, setting), subjects, chunksize=16):
            rows.append(row)
            report(len(rows))
        return rows

    def originals(self, subjects: list[Subject]) -> list[Measured]:
        key = tuple(subject.path for subject in subjects)
        if key not in self._originals:
            self._originals[key] = self.photographs("original", 0, subjects)
        return self._originals[key]

    def row(
        self, codec: str, setting: float, subjects: list[Subject], report: Callable[[int], None] = lambda done: None
    ) -> dict[str, Any]:
        """bpp (total bits over total pixels), means of PSNR, MS-SSIM and cosine to the original, and FRR@FAR=1%.

        FRR is missing where there are too few queries for it.
        """
        measured = self.photographs(codec, setting, subjects, report)
        people = [subject.person for subject in subjects]
        row: dict[str, Any] = {"codec": codec, "setting": setting, "images": len(subjects)}
        row["bpp"] = 8 * sum(m.bytes for m in measured) / sum(m.pixels for m in measured)
        row["psnr"] = float(np.mean([m.psnr for m in measured]))
        structure = [m.ms_ssim for m in measured if m.ms_ssim is not None]
        row["ms_ssim"] = float(np.mean(structure)) if structure else None
        originals = self.originals(subjects)
        for number, name in enumerate(self.recognisers):
            embeddings, wanted = (np.stack([m.embeddings[number] for m in ms]) for ms in (measured, originals))
            row[f"cosine:{name}"] = float((embeddings * wanted).sum(1).mean())
            if len(people) - len(set(people)) >= MIN_QUERIES:
                row[f"frr:{name}"] = frr_at_far(*distances(embeddings, people))
        return row


def _start(recognisers: Iterable[str]) -> None:
    global _embedders
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's BLAS: a process a core is enough
    _embedders = [load_embedder(found) for found in recognisers]


def _measure(codec: str, setting: float, subject: Subject) -> Measured:
    import torch
    from PIL import Image

    from facecodec.faces.alignment import align, similarity

    with Image.open(subject.path) as image:
        pixels = np.asarray(image.convert("RGB"))
    with tempfile.TemporaryDirectory() as folder:
        size, decoded = code(codec, pixels, setting, Path(folder, "coded"))
    tensor = torch.from_numpy(decoded.copy()).permute(2, 0, 1)[None].float()
    crop = align(tensor, similarity(subject.landmarks)[None])[0].numpy()
    embeddings = [embedder(crop) for embedder in _embedders]
    count = pixels.shape[0] * pixels.shape[1]
    return Measured(size, count, psnr(pixels, decoded), ms_ssim(pixels, decoded), embeddings)
