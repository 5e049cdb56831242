"""Measures what exactness costs: real file sizes against the torch network's ideal.

    python benchmarks/rate_gap.py [--images N] [--model NAME] [--data DIR]

The ideal is -log2 p of rounded latents, with a float hyper-synthesis and continuous scales. For
each quality it prints the bytes per file of the ideal, of the files' streams, and of whole files.
It also prints the ideal size of the same symbols under the integer tables, which shows the cost of
integers alone. The last column compares these bits with the entropy of the predicted distributions,
which shows how well the entropy model fits these pictures (Xiao et al. 2022, section 4.4.2).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import facecodec
from facecodec.codec import open_container
from facecodec.container import quality_byte
from facecodec.datasets import lfw
from facecodec.entropy import PRECISION, Tables
from facecodec.families.hyperprior import Hyperprior
from facecodec.families.sliced import Sliced
from facecodec.folders import data_root
from facecodec.sessions import pad
from facecodec.training.starts import begin, build_network, load_start
from facecodec.training.validation import to_tensor
from freeze_search import configuration


def ideal_bits(tables: Tables, symbols: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Returns the bits of each symbol. An escape costs its table's entry and 20 bits."""
    return tables.bits(symbols, indices) + 20 * (np.abs(symbols) > tables.reach[indices])


def entropies(tables: Tables) -> np.ndarray:
    """Returns the entropy of each table, in bits per symbol."""
    terms = tables.counts * (PRECISION - np.log2(tables.counts))
    return np.add.reduceat(terms, tables.starts[:-1]) / (1 << PRECISION)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    codec = facecodec.open_model(arguments.model)
    if not isinstance(codec.family, Hyperprior | Sliced):
        parser.error(f"{codec.card.name} is of the family {codec.card.family}, without z and y")
    network = build_network(configuration(codec.card.name)).eval()
    begin(network, load_start(codec.card.path)[0], codec.card.path)
    photos = lfw(data_root(arguments.data), "test")
    files = [photo.path for photo in photos[:: len(photos) // arguments.images]]
    family, tables = codec.family, codec.family.tables
    print(f"{len(files)} images; bytes a file")
    print(
        "  q   float ideal   integer ideal       streams          file   integer/float   file/float   integer/expected"
    )
    expected = entropies(tables)
    for q in range(1, 9):
        byte = quality_byte(q)
        sums = np.zeros(5)
        for file in files:
            pixels = np.array(Image.open(file).convert("RGB"))
            with torch.no_grad():
                coded = network(
                    to_tensor(pad(pixels, 16)[None], torch.device("cpu")), torch.tensor([float(q)])
                )
            data = codec.encode(pixels, q)
            parsed = open_container(data)
            symbols = codec.symbols(parsed)
            z_tables = np.broadcast_to(family.z.table[byte][:, None, None], symbols.z.shape)
            bits = ideal_bits(tables, symbols.z, z_tables).sum()
            promised = expected[z_tables].sum()
            bits += ideal_bits(tables, symbols.y, symbols.tables).sum()
            promised += expected[symbols.tables].sum()
            streams = sum(map(len, parsed.streams))
            sums += (
                (coded.y_bits + coded.z_bits).item() / 8,
                bits / 8,
                streams,
                len(data),
                promised / 8,
            )
        ideal, integer, streams, whole, prior = sums / len(files)
        ratios = f"{integer / ideal:16.4f}{whole / ideal:13.4f}{integer / prior:18.4f}"
        print(f"{q:3}{ideal:14.1f}{integer:16.1f}{streams:14.1f}{whole:14.1f}{ratios}")


if __name__ == "__main__":
    main()
