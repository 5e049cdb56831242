"""facecodec bench: codecs over photographs of faces."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from facecodec.bench import SEEN, UNSEEN
from facecodec.cli.extras import require
from facecodec.errors import UsageError

DEFAULT_CODECS = ("jpeg", "hevc", "webp", "avif", "jpeg2000", "jpegxl")


recognizer_option = click.option(
    "--recognizer",
    "recognisers",
    multiple=True,
    metavar="NAME|FILE.onnx",
    default=(SEEN, UNSEEN),
    help=f"Recognition network; {SEEN} and {UNSEEN} by default.",
)


def shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the whole bench and of each measurement alone."""
    folder = click.Path(path_type=Path)
    for option in reversed(
        (
            click.option("--dataset", default="lfw", show_default=True, metavar="NAME|FOLDER", help="docs/data.md."),
            click.option("--data-dir", "data", type=folder, metavar="DIR", help="Folder of datasets."),
            click.option(
                "--codec",
                "codecs",
                multiple=True,
                metavar="NAME[:SETTING,...]",
                help=f"Reference codec, or model of ours; {', '.join(DEFAULT_CODECS)} by default.",
            ),
            click.option(
                "--model", "models", multiple=True, metavar="NAME", help="Model of ours; the default one if none."
            ),
            recognizer_option,
            click.option("--find-again", is_flag=True, help="Look for faces on decoded pictures too."),
            click.option(
                "--limit", type=click.IntRange(min=1), metavar="N", help="Whole people, N photographs or more."
            ),
            click.option(
                "-o",
                "--output",
                "out",
                type=folder,
                metavar="DIR",
                help="Folder for the report; bench-DATASET.",
            ),
            click.option("--resume", is_flag=True, help="Go on with a report that is there already."),
        )
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@shared_options
@click.pass_context
def bench(context: click.Context, **options: Any) -> None:
    """Measure codecs on faces: rate, quality and recognition. Without a subcommand, all of it."""
    if context.invoked_subcommand is None:
        measure_and_report(("quality", "identify", "verify"), **options)


def alone(part: str, told: str) -> None:
    @bench.command(part, help=told)
    @shared_options
    def command(**options: Any) -> None:
        measure_and_report((part,), **options)


alone("identify", "FRR at FAR = 1% by identification, and bits at parity with HEVC.")
alone("verify", "Accuracy of verification on pairs.")
alone("quality", "Rate, PSNR, SSIM and MS-SSIM alone, without recognition.")


def chosen(codecs: tuple[str, ...], models: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Settings by codec. Raises UsageError for a codec or a setting that does not exist."""
    from facecodec.bench.codecs import find_codec
    from facecodec.checkpoint import DEFAULT_MODEL

    settings = {}
    for given in (codecs or DEFAULT_CODECS) + (models or (DEFAULT_MODEL,)):
        name, colon, numbers = given.rpartition(":") if ":" in given else (given, "", "")
        try:
            asked = tuple(float(number) for number in numbers.split(",")) if colon else ()
        except ValueError:
            raise UsageError(f"{given}: settings are numbers, as in {name}:10,20") from None
        settings[name] = asked or find_codec(name).settings
    return settings


def measure_and_report(
    parts: tuple[str, ...],
    dataset: str,
    data: Path | None,
    codecs: tuple[str, ...],
    models: tuple[str, ...],
    recognisers: tuple[str, ...],
    find_again: bool,
    limit: int | None,
    out: Path | None,
    resume: bool,
) -> None:
    require_bench()
    from facecodec.bench.datasets import load_dataset
    from facecodec.bench.measure import open_bench
    from facecodec.bench.report import show, write
    from facecodec.bench.run import bench_results
    from facecodec.training.data import data_root

    settings = chosen(codecs, models)
    out = out or Path(f"bench-{Path(dataset).name}")
    if (out / "results.json").exists() and not resume:
        raise UsageError(f"{out} holds a report already: continue it with --resume, or give another -o")
    root = data_root(data)
    loaded = load_dataset(dataset, root, limit)
    run = open_bench(() if parts == ("quality",) else recognisers, root, find_again)
    try:
        results = bench_results(run, loaded, settings, parts, Progress(len(loaded.subjects), settings))
    finally:
        run.close()
    results["command"] = sys.argv[1:]
    write(results, out)
    show(results)


def require_bench() -> None:
    """Raise UsageError where packages are missing that measuring takes."""
    require(("torch", "pytorch_msssim", "facenet_pytorch", "sklearn"), "see docs/bench.md")


class Progress:
    """One line on a terminal, with what is left to do by the pace so far; silence elsewhere."""

    def __init__(self, photographs: int, settings: Mapping[str, Sequence[float]]) -> None:
        self.photographs = photographs
        self.total = photographs * sum(map(len, settings.values()))
        self.steps = [(codec, setting) for codec, each in settings.items() for setting in each]
        self.began = time.monotonic()

    def __call__(self, codec: str, setting: float, done: int) -> None:
        if not sys.stderr.isatty():
            return
        before = self.steps.index((codec, setting)) * self.photographs
        share = (before + done) / self.total
        left = (time.monotonic() - self.began) * (1 / share - 1) / 60
        line = f"{codec} {setting:g}: {done}/{self.photographs}, {share:.0%} of all, {left:.0f} min left"
        print(f"\r{line:78}", end="\n" if share == 1 else "", file=sys.stderr, flush=True)
