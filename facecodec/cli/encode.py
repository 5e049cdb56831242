"""facecodec encode: images -> .fic files."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecodec.cli import batch, files
from facecodec.cli.models import MODEL
from facecodec.cli.targets import Target, target_options
from facecodec.cli.tasks import Note, Output
from facecodec.container import MAGIC
from facecodec.errors import FormatError, UsageError
from facecodec.search import DEFAULT_EFFORT, EFFORTS

if TYPE_CHECKING:
    from facecodec.search.efforts import Progress


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=click.Path(readable=False))
@click.option(
    "-o",
    "--output",
    "out",
    metavar="OUT",
    type=click.Path(),
    help="Output file or folder; '-' is standard output.",
)
@target_options
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(EFFORTS[0], EFFORTS[-1]),
    default=DEFAULT_EFFORT,
    show_default=True,
    metavar="E",
    help="1 does not search. 2 to 9 search for a better file: for a face of 250x250, 2 takes 0.7 s "
    "and saves 6 to 17% of the bits at equal cosine, 4 takes 1.8 s and saves 11 to 24%, 7 takes "
    "8 s and saves 19 to 37%; see docs/effort.md.",
)
@batch.max_side_option
@click.option("--keep-suffix", is_flag=True, help="Name the output of a.jpg a.jpg.fic, not a.fic.")
@click.option(
    "--keep-metadata",
    is_flag=True,
    help="Keep EXIF and the colour profile. By default they are dropped.",
)
@click.option(
    "--verify", is_flag=True, help="Read each file back and decode it before reporting it."
)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    type=MODEL,
    help="Name of an installed model, l2-ipr by default, or a model file.",
)
@batch.shared_options
def encode(
    inputs: tuple[str, ...],
    out: str | None,
    target: Target,
    effort: int,
    max_side: int | None,
    keep_suffix: bool,
    keep_metadata: bool,
    verify: bool,
    model: str | None,
    options: batch.Options,
) -> None:
    """Compress images to .fic files.

    INPUT is an image, a folder or tar file of images, a URL, or '-'.
    Without -o the output is written beside the input. Inputs are kept.
    """
    from PIL import Image

    from facecodec import frozen, images
    from facecodec.codec import open_codec

    Image.MAX_IMAGE_PIXELS = (
        options.max_pixels
    )  # Pillow's own limit, checked before it takes memory
    path = frozen.model_path(model)
    naming = files.Naming(".fic", keep_suffix)
    wanted = images.suffixes()
    plan = files.plan(inputs, options.listed(), out, naming, wanted, "images")
    names = wanted | images.UNREAD_SUFFIXES
    for job in plan.jobs:
        if job.target is not None and job.target.suffix.lower() in names:
            raise UsageError(
                f"{job.target} has an image's suffix, but would be a .fic file: give -o another name"
            )
    codec = open_codec(path)  # here, so that a bad model is reported once, not for each input
    if effort > DEFAULT_EFFORT:
        _ = codec.search  # likewise a missing search file
    shows = effort > DEFAULT_EFFORT and len(plan.jobs) == 1 and options.cluster is None
    operation = Encode(
        path,
        target,
        options.max_pixels,
        keep_metadata,
        verify,
        effort,
        max_side,
        shows and not options.quiet and sys.stderr.isatty(),
    )
    batch.run(plan, operation, options, verify, passed_over(plan.unwanted))


def passed_over(unwanted: Counter[str]) -> str | None:
    """Returns a remark on files in folders that look like pictures but cannot be read, or None."""
    from facecodec import images, plugins

    found = {suffix: unwanted[suffix] for suffix in sorted(images.UNREAD_SUFFIXES & set(unwanted))}
    if not found:
        return None
    readable = frozenset().union(*plugins.PACKAGES.values())
    groups = []
    for remedy, kinds in (
        ("convert them first", set(found) - readable),
        (plugins.REMEDY, readable),
    ):
        counts = ", ".join(f"{found[suffix]} {suffix}" for suffix in found if suffix in kinds)
        if counts:
            groups.append(f"({counts}): {remedy}")
    return f"skipped unreadable pictures {'; '.join(groups)}"


@dataclass(frozen=True)
class Encode:
    """Turns the bytes of an image file into those of a .fic file that meets the target."""

    model: Path
    target: Target
    max_pixels: int
    keep_metadata: bool
    verify: bool
    effort: int = DEFAULT_EFFORT
    max_side: int | None = None  # pixels of the coded picture
    shows_progress: bool = False

    def expect(self, content: bytes) -> None:
        if content.startswith(MAGIC):
            raise FormatError("it is a .fic file already: decode it")

    def __call__(self, content: bytes) -> Output:
        import numpy as np
        from PIL import Image

        from facecodec import images
        from facecodec.codec import open_codec

        Image.MAX_IMAGE_PIXELS = self.max_pixels  # again, because this may be another process
        pixels, dropped, metadata = images.read(
            io.BytesIO(content), self.max_pixels, self.keep_metadata
        )
        if self.max_side is not None:
            reduced = Image.fromarray(pixels)
            images.reduce(reduced, self.max_side)
            pixels = np.asarray(reduced)
        notes = [Note(f"dropped {what}", what.lstrip("0123456789 ")) for what in dropped]
        height, width = pixels.shape[:2]
        codec = open_codec(self.model)
        with _bar(self.shows_progress) as progress:
            picture = codec.analyse(pixels, metadata, self.effort, progress)
            encoded = self.target.encode(picture)
        data = encoded.data
        if self.verify and self.effort == DEFAULT_EFFORT:  # after a search it is always compared
            codec.check(data, pixels)
        if len(data) >= len(content):
            notes.append(Note(f"its {len(content)} bytes became {len(data)}, not fewer"))
        facts = {
            "width": width,
            "height": height,
            "bytes": len(data),
            "bpp": round(8 * len(data) / (width * height), 5),
            "quality": encoded.q,
            "model": codec.card.name,
        }
        if self.effort > DEFAULT_EFFORT:
            before = picture.unsearched(encoded.quality_byte).data
            facts |= {"effort": self.effort, "bytes_at_effort_1": len(before)}
        return Output(data, facts, notes)


@contextmanager
def _bar(shown: bool) -> Iterator[Progress | None]:
    """Yields a function that shows the progress of a search. The bar restarts with each search."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    saved = TextColumn("{task.fields[saved]:.0%} of the bits saved")
    columns = (TextColumn("searching"), BarColumn(), TimeRemainingColumn(), saved)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1, saved=0.0)
        yield lambda share, saved: bar.update(task, completed=share, saved=max(0.0, saved))
