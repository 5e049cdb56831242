"""facecodec train: trains a model by a configuration."""

from __future__ import annotations

import sys
import time
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
    "starts",
    multiple=True,
    type=LocalPath(),
    metavar="NAME|FILE",
    help="Start from a model or from RUN/checkpoint.pt. If given several times, start from the mean "
    "of all.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    metavar="M",
    help="Save and stop after M minutes, without validation; --resume continues. 0 only validates.",
)
@click.option("--resume", is_flag=True, help="Continue from the run's last checkpoint.")
def train(
    config: Path,
    run: Path,
    data: Path | None,
    starts: tuple[Path, ...],
    minutes: float | None,
    resume: bool,
) -> None:
    """Train a model as CONFIG.toml says.

    The run writes log.jsonl and checkpoint.pt into DIR, which `freeze` reads.
    """
    begun = time.monotonic()  # importing torch, which takes seconds, counts too
    require_training_extra()
    from facecodec.frozen import installed_models
    from facecodec.training.config import load_config
    from facecodec.training.loop import train as train_run

    if starts and resume:
        raise UsageError("--from starts a run and --resume continues one: give one of them")
    installed = installed_models()
    starts = tuple(installed.get(str(start), start) for start in starts)
    train_run(load_config(config), run, data, starts, minutes, resume, _show, begun)


def require_training_extra() -> None:
    """Raises UsageError, which names the extra, if packages for training are missing."""
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
    elif "unreadable" in row:
        for path, reason in row["unreadable"].items():
            warn(f"{path} is left out: {reason}")
    elif "stopped" in row:
        warn(
            f"time is up: step {row['stopped']} of {row['steps']} is saved but not validated; "
            "--resume continues, and --resume --minutes 0 only validates"
        )
    else:
        tell_json(row, sys.stderr)
