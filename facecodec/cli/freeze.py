"""facecodec freeze: a training run -> a model file."""

from __future__ import annotations

from pathlib import Path

import click

from facecodec.cli.console import tell
from facecodec.cli.paths import LocalPath
from facecodec.cli.train import require_training_extra


@click.command()
@click.argument("run", type=LocalPath(), metavar="DIR")
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    type=LocalPath(),
    metavar="FILE.safetensors",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite a file that exists.")
def freeze(run: Path, out: Path, force: bool) -> None:
    """Turn the run in DIR into the model FILE.

    Later runs can start from it. If a model is overwritten, files coded with it can no longer be
    decoded.
    """
    require_training_extra()
    from facecodec.training.freeze import freeze as freeze_run

    mark = freeze_run(run, out, force)
    tell(f"{out}: {out.stat().st_size} bytes, fingerprint {mark}")
