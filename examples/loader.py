"""Feeds pictures from tar shards of .fic files to a training loop in PyTorch.

pip install torch
facecodec encode shard-*.tar -o coded/
python examples/loader.py coded/*.tar
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import facecodec

SIDE = 112  # pixels; a batch needs pictures of one size


class Shards(IterableDataset):
    """Yields each .fic member of the shards as a uint8 tensor (3, SIDE, SIDE).

    The workers of a DataLoader share the shards. Each loads the model once, at its first picture.
    """

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        mine = self.paths if worker is None else self.paths[worker.id :: worker.num_workers]
        for path in mine:
            with tarfile.open(path) as shard:
                for member in shard:
                    if member.name.endswith(".fic"):
                        content = shard.extractfile(member)
                        assert content is not None, "a .fic member is a file"
                        picture = facecodec.decode(content.read())
                        small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                        yield torch.from_numpy(np.array(small)).permute(2, 0, 1)


def main(paths: list[str]) -> None:
    loader = DataLoader(Shards(paths), batch_size=16, num_workers=min(2, len(paths)))
    for batch in loader:
        print(f"{len(batch)} pictures, mean {batch.float().mean():.1f}")  # train on them here


if __name__ == "__main__":
    main(sys.argv[1:])
