"""Measures what a training step costs under several configurations, in seconds of one core.

    python benchmarks/step_cost.py --from weights/msssim-ipr.safetensors CONFIG.toml ...

The configurations take steps in turn, so that a busy machine affects all alike. The others are
compared with the first. Times are processor times of one thread over whole steps: batch, both
passes and the optimizer's step.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from facecodec.datasets import photographs
from facecodec.training.config import Source, load_config
from facecodec.training.loop import Trainer

WARM_UP = 2  # steps of each that are not counted


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--from", dest="start", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--photographs", type=int, default=80, help="of LFW's training people")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few"
        for photo in photographs("lfw", "train", arguments.data)[: arguments.photographs]:
            place = few / photo.person / photo.path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(photo.path.resolve())
        trainers = [
            Trainer(
                replace(load_config(path), data=(Source(str(few)),), seed=number),
                Path(folder) / str(number),
                arguments.data,
                [arguments.start] if arguments.start else [],
                resume=False,
                report=lambda row: None,
            )
            for number, path in enumerate(arguments.configs)
        ]
        seconds: list[list[float]] = [[] for _ in trainers]
        for step in range(WARM_UP + arguments.steps):
            for trainer, taken in zip(trainers, seconds, strict=True):
                begun = time.process_time()
                trainer.make_step()
                if step >= WARM_UP:
                    taken.append(time.process_time() - begun)
    first = float(np.mean(seconds[0]))
    for path, taken in zip(arguments.configs, seconds, strict=True):
        mean, error = np.mean(taken), np.std(taken, ddof=1) / np.sqrt(len(taken))
        print(f"{path}: {mean:.3f} s a step (standard error {error:.3f}), {mean / first:.2f} times")


if __name__ == "__main__":
    main()
