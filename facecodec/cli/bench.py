"""facecodec bench: measures codecs on photographs of faces."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from facecodec.bench import SCHEMA, SEEN, UNSEEN
from facecodec.cli.console import complain, tell, warn
from facecodec.cli.extras import require
from facecodec.cli.paths import LocalPath
from facecodec.cli.targets import BYTES
from facecodec.errors import ImageError, UsageError
from facecodec.search import DEFAULT_EFFORT, EFFORTS

QUIET = 60  # seconds between lines about progress, without a terminal
DEFAULT_CODECS = ("jpeg", "hevc", "webp", "avif", "jpeg2000", "jpegxl")


recogniser_option = click.option(
    "--recogniser",
    "--recognizer",
    "recognisers",
    multiple=True,
    metavar="NAME|FILE.onnx",
    default=(SEEN, UNSEEN),
    help=f"Recognition network; {SEEN} and {UNSEEN} by default.",
)


def recognising(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of what recognises faces to a command."""
    again = click.option(
        "--find-again", is_flag=True, help="Find faces again, in the decoded pictures."
    )
    return shared_options(recogniser_option(again(command)))


def shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that the whole bench and its subcommands share to a command."""
    folder = LocalPath()
    for option in reversed(
        (
            click.option(
                "--dataset",
                default="lfw",
                show_default=True,
                metavar="NAME|FOLDER",
                help="lfw, celeba-hq or another set of docs/data.md, or a folder of photographs.",
            ),
            click.option("--data", "data", type=folder, metavar="DIR", help="Folder of datasets."),
            click.option(
                "--codec",
                "codecs",
                multiple=True,
                metavar="NAME[:SETTING,...]",
                help=f"Reference codec or model; {', '.join(DEFAULT_CODECS)} by default.",
            ),
            click.option(
                "--model",
                "models",
                multiple=True,
                metavar="NAME[:Q,...]",
                help="Model; the default model if none is given.",
            ),
            click.option(
                "--effort",
                "efforts",
                type=click.IntRange(EFFORTS[0], EFFORTS[-1]),
                multiple=True,
                metavar="1..9",
                help="Effort of models; with several, each model is measured at each.  [default: 1]",
            ),
            click.option(
                "--limit",
                type=click.IntRange(min=1),
                metavar="N",
                help="Take whole people until there are N photographs.",
            ),
            click.option(
                "-o",
                "--output",
                "out",
                type=folder,
                metavar="DIR",
                help="Folder for the report; bench-DATASET by default.",
            ),
            click.option("--resume", is_flag=True, help="Continue a report that exists."),
        )
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@recognising
@click.pass_context
def bench(context: click.Context, **options: Any) -> None:
    """Measure codecs on faces: rate, quality and recognition; all of it without a subcommand."""
    if context.invoked_subcommand is None:
        measure_and_report(("quality", "identify", "verify"), **options)


@bench.command()
@recognising
def identify(**options: Any) -> None:
    """FRR at FAR = 1% by identification, and bits at parity with HEVC."""
    measure_and_report(("identify",), **options)


@bench.command()
@recognising
def verify(**options: Any) -> None:
    """Accuracy of verification on LFW's pairs."""
    measure_and_report(("verify",), **options)


@bench.command()
@shared_options
def quality(**options: Any) -> None:
    """Rate, PSNR, SSIM and MS-SSIM alone, without recognition."""
    measure_and_report(("quality",), **options)


@bench.command()
@click.option(
    "--bytes",
    "limits",
    type=BYTES,
    multiple=True,
    metavar="N",
    help="1024 if none.",
)
@recognising
def budget(limits: tuple[int, ...], **options: Any) -> None:
    """Measure recognition within N bytes per picture.

    Every codec may shrink the picture, and codes it at the finest setting that fits.
    """
    measure_and_report(("identify", "verify", "budget"), limits=limits or (1024,), **options)


@bench.command()
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Rounds.",
)
@shared_options
def speed(repeats: int, **options: Any) -> None:
    """Time coding: of one picture in its own process, and of a batch.

    It takes 20 photographs, or --limit.
    """
    time_and_report(repeats, **options)


@bench.command()
@click.argument("results", nargs=-1, required=True, type=LocalPath(), metavar="RESULTS...")
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    type=LocalPath(),
    metavar="DIR",
    help="Folder.",
)
def report(results: tuple[Path, ...], out: Path) -> None:
    """Write a report again from results.json files; several become one report."""
    require_bench()
    from facecodec.bench.report import read, redraw

    redraw([read(path) for path in results], [path.parent for path in results], out)


@bench.command()
@click.argument("dataset", type=click.Choice(["lfw"]))
def download(dataset: str) -> None:
    """Download LFW, funneled, into your cache folder (200 MB)."""
    require_bench()
    from facecodec.bench.download import download_lfw

    place, missing = download_lfw()
    tell(f"LFW is in {place}")
    if missing:
        raise UsageError(
            f"put {' and '.join(missing)}, which split LFW's people, into {place} (docs/data.md)"
        )


def chosen(
    codecs: tuple[str, ...], models: tuple[str, ...], efforts: tuple[int, ...]
) -> dict[str, tuple[float, ...]]:
    """Returns the requested settings of each codec; () if only its name is given.

    A model is a codec at each effort. Without any model, the default model is added. Raises
    UsageError for an unknown codec.
    """
    from facecodec.bench.codecs import at_effort, find_codec, is_reference
    from facecodec.frozen import DEFAULT_MODEL

    def parts(given: str) -> tuple[str, str, str]:
        return given.rpartition(":") if ":" in given else (given, "", "")

    asked_for = (codecs or DEFAULT_CODECS) + models
    if all(is_reference(parts(given)[0]) for given in asked_for):
        asked_for += (DEFAULT_MODEL,)
    settings: dict[str, tuple[float, ...]] = {}
    for given in asked_for:
        name, colon, numbers = parts(given)
        try:
            asked = tuple(float(number) for number in numbers.split(",")) if colon else ()
        except ValueError:
            raise UsageError(f"{given}: settings are numbers, as in {name}:10,20") from None
        for effort in efforts or (DEFAULT_EFFORT,):
            codec = at_effort(name, effort)
            find_codec(codec)
            settings[codec] = tuple(dict.fromkeys((*settings.get(codec, ()), *asked)))
    return settings


def measure_and_report(
    parts: tuple[str, ...],
    dataset: str,
    data: Path | None,
    codecs: tuple[str, ...],
    models: tuple[str, ...],
    efforts: tuple[int, ...],
    limit: int | None,
    out: Path | None,
    resume: bool,
    recognisers: tuple[str, ...] = (),
    find_again: bool = False,
    limits: tuple[int, ...] = (),
) -> None:
    """Measures `parts` and writes the report; `limits`, in bytes, make every codec fit them."""
    require_bench()
    from facecodec.bench.codecs import find_codec
    from facecodec.bench.conclusion import conclusion
    from facecodec.bench.gallery import add_pictures
    from facecodec.bench.measure import open_bench
    from facecodec.bench.report import write
    from facecodec.bench.run import ORIGINAL, bench_results
    from facecodec.bench.subjects import in_pairs, load_dataset
    from facecodec.bench.tables import show

    asked = chosen(codecs, models, efforts)
    settings: dict[str, tuple[float, ...]] = {ORIGINAL: (0,)}
    if limits:
        for name, given in asked.items():
            if given:
                raise UsageError(
                    f"{name}: every codec takes the finest setting that fits: leave out settings"
                )
        settings |= {f"{name}@fit": limits for name in asked}
    else:
        settings |= {name: given or find_codec(name).settings for name, given in asked.items()}
    out = folder_for(dataset, out, resume)
    run = open_bench(recognisers, data, find_again)
    try:
        loaded = load_dataset(dataset, data, limit, faces=bool(recognisers))
        if parts == ("verify",):
            loaded = in_pairs(loaded)
        results = bench_results(
            run, loaded, settings, parts, Progress(len(loaded.subjects), settings), tell_left_out
        )
    finally:
        run.close()
    results["commands"] = [sys.argv[1:]]
    add_pictures(results, loaded.subjects, out, counter("pictures"))
    write(results, out)
    show(results, conclusion(results))


def time_and_report(
    repeats: int,
    dataset: str,
    data: Path | None,
    codecs: tuple[str, ...],
    models: tuple[str, ...],
    efforts: tuple[int, ...],
    limit: int | None,
    out: Path | None,
    resume: bool,
) -> None:
    """Times the codecs and writes the report."""
    require_bench()
    from facecodec.bench.conclusion import conclusion
    from facecodec.bench.report import write
    from facecodec.bench.run import environment
    from facecodec.bench.speed import speed_results
    from facecodec.bench.subjects import load_dataset
    from facecodec.bench.tables import show

    asked = chosen(codecs, models, efforts)
    out = folder_for(dataset, out, resume)
    count = limit or 20
    subjects = load_dataset(dataset, data, count, faces=False).subjects[:count]
    pictures = [subject.path for subject in subjects if can_be_read(subject.path)]
    if not pictures:
        raise UsageError(f"none of the photographs of {dataset} can be read")

    speed = speed_results(asked, pictures, repeats, counter("rounds"), tell_left_out)
    results = {
        "schema": SCHEMA,
        "commands": [sys.argv[1:]],
        "environment": environment(),
        "skipped": speed.pop("skipped"),
        "speed": speed,
    }
    write(results, out)
    show(results, conclusion(results))


def can_be_read(picture: Path) -> bool:
    """Returns whether a picture can be read, and says so if not."""
    from facecodec import images

    try:
        images.load(picture)
    except (ImageError, OSError) as error:
        complain(f"{picture} is left out: {error}")
        return False
    return True


def folder_for(dataset: str, out: Path | None, resume: bool) -> Path:
    """Returns the folder of the report.

    Raises UsageError if there is a report, unless `resume`.
    """
    out = out or Path(f"bench-{Path(dataset).name}")
    if (out / "results.json").exists() and not resume:
        raise UsageError(
            f"{out} already has a report: continue it with --resume, or give another -o"
        )
    return out


def require_bench() -> None:
    """Raises UsageError if packages for measuring are missing."""
    from facecodec.faces import INSTALL

    remedy = f"pip install 'facecodec[train,bench]' and {INSTALL}"
    require(
        ("torch", "pytorch_msssim", "facenet_pytorch", "sklearn", "matplotlib", "bjontegaard"),
        remedy,
    )


def tell_left_out(skipped: dict[str, str]) -> None:
    for codec, reason in skipped.items():
        complain(f"{codec} is left out: {reason}")


class StatusLine:
    """Shows progress on stderr: on a terminal always, otherwise a line every QUIET seconds."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def show(self, text: str, last: bool = False) -> None:
        now = time.monotonic()
        if sys.stderr.isatty():
            warn(f"{text:78}", start="\r", end="\n" if last else "")
        elif last or now - self._said >= QUIET:
            warn(text)
            self._said = now


def counter(what: str) -> Callable[[int, int], None]:
    """Returns a function that shows how many are done, and of how many."""
    line = StatusLine()
    return lambda done, total: line.show(f"{done} of {total} {what}", last=done == total)


class Progress:
    """Shows which photograph and codec is being measured, and the time left."""

    def __init__(self, photographs: int, settings: Mapping[str, Sequence[float]]) -> None:
        self.photographs = photographs
        self.total = photographs * sum(map(len, settings.values()))
        self.steps = [(codec, setting) for codec, each in settings.items() for setting in each]
        self.began = time.monotonic()
        self.line = StatusLine()

    def __call__(self, codec: str, setting: float, done: int) -> None:
        before = self.steps.index((codec, setting)) * self.photographs
        share = (before + done) / self.total
        left = (time.monotonic() - self.began) * (1 / share - 1) / 60
        line = (
            f"{codec} {setting:g}: {done}/{self.photographs}, {share:.0%} of all, "
            f"{left:.0f} min left"
        )
        self.line.show(line, last=share == 1)
