"""facecodec train: a configuration -> a training run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from facecodec.cli.console import tell_json, warn
from facecodec.cli.extras import require
from facecodec.cli.paths import LocalPath
from facecodec.errors import UsageError


@click.command()
@click.argument("config", type=LocalPath(), metavar="CONFIG.toml")
@click.option(
    "--run",
    required=True,
    type=LocalPath(),
    metavar="DIR",
    help="Folder of the run.",
)
@click.option("--data", type=LocalPath(), metavar="DIR", help="Folder of datasets.")
@click.option(
    "--from",
    "start",
    type=LocalPath(),
    metavar="FILE",
    help="Start from a model or from RUN/checkpoint.pt.",
)
@click.option("--minutes", type=float, metavar="M", help="Stop after M minutes; --resume goes on.")
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
def train(
    config: Path,
    run: Path,
    data: Path | None,
    start: Path | None,
    minutes: float | None,
    resume: bool,
) -> None:
    """Train a model as CONFIG.toml says.

    DIR gets log.jsonl and checkpoint.pt, and `freeze` reads it.
    """
    require_training_extra()
    from facecodec.training.config import load_config
    from facecodec.training.loop import train as train_run

    if start is not None and resume:
        raise UsageError("--from begins a run and --resume goes on with one: give one of them")
    train_run(load_config(config), run, data, start, minutes, resume, _show)


def require_training_extra() -> None:
    """Raises UsageError, naming the extra, where training's packages are missing."""
    require(
        ("torch", "compressai", "onnx", "pytorch_msssim", "matplotlib"),
        "pip install 'facecodec[train]'",
    )


def _show(row: dict[str, Any]) -> None:
    if "loss" in row:
        share = row["step"] / row["steps"]
        left = row["seconds"] / share * (1 - share) / 60
        text = (
            f"step {row['step']}/{row['steps']}  loss {row['loss']:.4f}  bpp {row['bpp']:.4f}  "
            f"{left:.0f} min left"
        )
        warn(text, end="\r" if sys.stderr.isatty() else "\n")
    elif "validation" in row:
        warn(f"step {row['step']}  validation objective {row['objective']:.4f}")
        names = list(row["validation"][0])
        warn("  " + "".join(f"{name:>10}" for name in names))
        for rates in row["validation"]:
            warn("  " + "".join(f"{rates[name]:>10.5g}" for name in names))
    else:
        tell_json(row, sys.stderr)
