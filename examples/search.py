"""Finds the pictures of a gallery of .fic files that show the same face as another .fic file.

    pip install scikit-learn
    facecodec encode photos/ -o gallery/
    facecodec encode who.jpg
    python examples/search.py gallery/ who.fic

No pixels are made: `facecodec embed` reads an embedding from the latents of each file.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
from sklearn.neighbors import NearestNeighbors

NEAREST = 5


def embed(path: str) -> tuple[list[str], np.ndarray]:
    """Returns the names of the files that have an embedding, and the embeddings (N, D)."""
    done = subprocess.run(
        [sys.executable, "-m", "facecodec", "embed", "--json", path],
        stdout=subprocess.PIPE,
        text=True,
    )  # it names on stderr the files that it could not embed, and goes on
    found = [json.loads(line) for line in done.stdout.splitlines()]
    found = [each for each in found if each.get("embedding")]
    if not found:
        raise SystemExit(f"{path}: no embedding")
    return [each["input"] for each in found], np.array([each["embedding"] for each in found])


def main(gallery: str, query: str) -> None:
    names, embeddings = embed(gallery)
    _, wanted = embed(query)
    index = NearestNeighbors(n_neighbors=min(NEAREST, len(names)), metric="cosine").fit(embeddings)
    distances, rows = index.kneighbors(wanted[:1])
    for distance, row in zip(distances[0], rows[0], strict=True):
        print(f"{1 - distance:.3f}  {names[row]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
