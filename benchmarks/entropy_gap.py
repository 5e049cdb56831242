"""Measures the bits that better probability tables would save, on training people.

    python benchmarks/entropy_gap.py weights/l2-rec.safetensors weights/l2-ipr.safetensors
       [-q Q ...] [--limit N]

It codes photographs, and counts how often each symbol of y and z was coded with each table. It then
prints how many bits other tables would save. They are fitted to one half of the photographs, and
measured on the other half:

- shape: each table has the shape that the symbols have, where the model has a Gaussian's. This is
  the most that a shape parameter could save.
- neighbours: in addition, every second position (as on a checkerboard) chooses among ten tables, by
  the magnitudes of its four neighbours and by those that their tables expect. The other half of the
  positions has no neighbours yet, and saves nothing.

Means are left as they are. `channels` is in how many of y's channels 99.9% of its symbols other
than zero are: if these are not all, more latents would hold nothing but zeros.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np

from facecodec import images
from facecodec.codec import Codec, open_container
from facecodec.datasets import photographs
from facecodec.entropy import Encoder, Tables
from facecodec.families.hyperprior import Hyperprior
from facecodec.families.sliced import Sliced
from facecodec.folders import data_root

LARGEST = 40  # symbols beyond this count as this
CONTEXTS = 10
PRIOR = 100  # symbols for which the tables without context count in those with one
EXPECTED = (0.02, 0.1, 0.4, 1.0)  # limits of the neighbours' expected magnitudes, if all are zero
NEARLY_ALL = 0.999
RELATIVE = (0.7, 1.2, 2.0, 5.0)  # limits of their magnitudes, relative to the expected ones


@dataclass
class Counts:
    """How often each symbol occurs with each table, and in each context at odd positions."""

    tables: Tables
    whole: np.ndarray = field(init=False)
    odd: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        shape = len(self.tables), 2 * LARGEST + 1
        self.whole = np.zeros(shape)
        self.odd = np.zeros((shape[0], CONTEXTS, shape[1]))
        self._magnitudes = np.array([magnitude(self.tables, i) for i in range(shape[0])])

    def add(self, symbols: np.ndarray, indices: np.ndarray) -> None:
        """Counts a band, (M, rows, columns)."""
        entries = np.clip(symbols, -LARGEST, LARGEST).astype(int) + LARGEST
        np.add.at(self.whole, (indices, entries), 1)
        odd = np.indices(symbols.shape[1:]).sum(0) % 2 == 1
        near = around(np.minimum(np.abs(symbols), 3))
        expected = around(self._magnitudes[indices])
        contexts = np.where(
            near == 0,
            np.digitize(expected, EXPECTED),
            CONTEXTS // 2 + np.digitize(near / np.maximum(expected, 1e-3), RELATIVE),
        )
        where = indices[:, odd], contexts[:, odd], entries[:, odd]
        np.add.at(self.odd, where, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("-q", "--quality", type=float, action="append")
    parser.add_argument("--limit", type=int, default=60, help="photographs")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    photos = photographs("lfw", "train", data_root(arguments.data))
    photos = photos[:: max(1, len(photos) // arguments.limit)][: arguments.limit]
    pictures = [images.load(photo.path) for photo in photos]
    print("| model | q | shape | neighbours too | channels |\n| --- | --- | --- | --- | --- |")
    for path in arguments.models:
        codec = Codec(path, threads=1)
        for quality in arguments.quality or (2, 4, 6, 8):
            (fitting, measuring), files = counted(codec, pictures, quality)
            shape, neighbours = savings(fitting, measuring)
            used, channels = channels_used(codec, files)
            print(
                f"| `{path.stem}` | {quality:g} | {shape:+.2%} | {neighbours:+.2%} "
                f"| {used} of {channels} |",
                flush=True,
            )


def counted(
    codec: Codec, pictures: list[np.ndarray], quality: float
) -> tuple[tuple[Counts, Counts], list[bytes]]:
    """Returns the counts of every second picture and of the others, and the files of all."""
    assert isinstance(codec.family, (Hyperprior, Sliced))
    tables = codec.family.tables
    halves = Counts(tables), Counts(tables)
    files = []
    band = Encoder.band
    for number, pixels in enumerate(pictures):

        def counting(
            self: Encoder,
            symbols: np.ndarray,
            indices: np.ndarray,
            half: Counts = halves[number % 2],
        ) -> None:
            half.add(symbols, indices.astype(int))
            band(self, symbols, indices)

        with mock.patch.object(Encoder, "band", counting):
            files.append(codec.encode(pixels, quality))
    return halves, files


def channels_used(codec: Codec, files: list[bytes]) -> tuple[int, int]:
    """Returns in how many channels nearly all symbols of y but zeros are, and the channels of y."""
    symbols = (codec.symbols(open_container(file)).y for file in files)
    counts = np.sum([np.count_nonzero(each, axis=(1, 2)) for each in symbols], 0)
    share = np.cumsum(np.sort(counts)[::-1]) / counts.sum()
    return int(np.searchsorted(share, NEARLY_ALL)) + 1, len(counts)


def savings(fitting: Counts, measuring: Counts) -> tuple[float, float]:
    """Returns the relative change of the bits by tables of the right shape, and by neighbours."""
    given = np.array([bits(measuring.tables, i) for i in range(len(measuring.tables))])
    before = (measuring.whole * given).sum()
    shape = fitted(fitting.whole, 2.0**-given)
    by_shape = cost(measuring.whole, shape)
    contexts = fitted(fitting.odd, shape[:, None])
    odd = measuring.odd.sum(1)
    by_neighbours = by_shape - cost(odd, shape) + cost(measuring.odd, contexts)
    return by_shape / before - 1, by_neighbours / before - 1


def fitted(counts: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Returns symmetric probabilities for counts, (..., symbols), where few say little."""
    counts = counts + counts[..., ::-1] + PRIOR * prior / prior.sum(-1, keepdims=True)
    probabilities: np.ndarray = counts / counts.sum(-1, keepdims=True)
    return probabilities


def cost(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the bits of counted symbols."""
    return float(-(counts * np.log2(probabilities)).sum())


def bits(tables: Tables, index: int) -> np.ndarray:
    """Returns the bits of each symbol of -LARGEST..LARGEST by a table.

    Beyond its reach they are those of the escape and of the shortest code after it.
    """
    symbols = np.arange(-LARGEST, LARGEST + 1)
    escaped = np.abs(symbols) > tables.reach[index]
    return tables.bits(symbols, np.full(len(symbols), index)) + 2.0 * escaped


def magnitude(tables: Tables, index: int) -> float:
    """Returns the mean magnitude that a table expects."""
    return float((2.0 ** -bits(tables, index) * np.abs(np.arange(-LARGEST, LARGEST + 1))).sum())


def around(values: np.ndarray) -> np.ndarray:
    """Returns the sum over the four neighbours of each position, (M, rows, columns)."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    total: np.ndarray = (
        padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    )
    return total


if __name__ == "__main__":
    main()
