"""facecodec encode: images -> .fic files."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import click

from facecodec.cli import batch, files
from facecodec.cli.jobs import Note, Worked
from facecodec.container import DEFAULT_QUALITY, MAGIC, quality_byte, unpack
from facecodec.errors import FormatError, UsageError


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("-o", "--output", "out", metavar="OUT", help="Output file or folder; '-' is standard output.")
@click.option(
    "-q",
    "--quality",
    type=float,
    metavar="Q",
    help=f"1 (smallest) to 8, in steps of 1/32; {DEFAULT_QUALITY:g} by default.",
)
@click.option(
    "--max-bytes", type=click.IntRange(min=1), metavar="N", help="The best quality whose file fits into N bytes."
)
@click.option("--target-bpp", type=float, metavar="X", help="The best quality within X bits per pixel.")
@click.option("-m", "--model", metavar="MODEL", help="Name of an installed model, or a model file.")
@batch.shared_options
def encode(
    inputs: tuple[str, ...],
    out: str | None,
    quality: float | None,
    max_bytes: int | None,
    target_bpp: float | None,
    model: str | None,
    force: bool,
    skip_existing: bool,
    processes: int,
    files0_from: str | None,
    max_pixels: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compress images to .fic files.

    INPUT is an image, a folder that is searched for images, or '-'. Without -o the output lies
    beside the input. Inputs are kept.
    """
    from PIL import Image

    from facecodec import checkpoint, images
    from facecodec.codec import open_codec

    Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow's own limit, checked before it takes memory

    if sum(given is not None for given in (quality, max_bytes, target_bpp)) > 1:
        raise UsageError("-q, --max-bytes and --target-bpp exclude each other: give one")
    if target_bpp is not None and not 0 < target_bpp < math.inf:
        raise UsageError(f"--target-bpp {target_bpp:g} is not a rate: give a number above zero")
    quality = DEFAULT_QUALITY if quality is None else quality
    quality_byte(quality)  # refused before anything is read
    path = checkpoint.model_path(model)
    listed = None if files0_from is None else files.read_list(files0_from)
    plan = files.plan(inputs, listed, out, ".fic", batch.has_suffix(images.SUFFIXES), "images")
    for job in plan.jobs:
        if job.target is not None and job.target.suffix.lower() in images.SUFFIXES:
            raise UsageError(f"{job.target} has the name of an image, and a .fic file is none: give -o another name")
    to_stdout = any(job.target is None for job in plan.jobs)
    reporter = batch.Reporter(as_json, quiet, to_stdout)
    open_codec(path)  # what is wrong with the model is no fault of the inputs
    work = Encode(path, quality, max_bytes, target_bpp, max_pixels)
    batch.run(plan, force, skip_existing, processes, reporter, work)


@dataclass(frozen=True)
class Encode:
    """The bytes of an image file -> those of a .fic file, as the options say."""

    model: Path
    quality: float
    max_bytes: int | None
    target_bpp: float | None
    max_pixels: int

    def __call__(self, content: bytes) -> Worked:
        from PIL import Image

        from facecodec import images
        from facecodec.codec import open_codec

        if content.startswith(MAGIC):
            raise FormatError("it is a .fic file already: decode it")
        Image.MAX_IMAGE_PIXELS = self.max_pixels  # Pillow's own limit, checked before it takes memory
        pixels, dropped = images.read(io.BytesIO(content), self.max_pixels)
        notes = [Note(f"dropped {what}", what.lstrip("0123456789 ")) for what in dropped]
        height, width = pixels.shape[:2]
        codec = open_codec(self.model)
        limit = self.max_bytes if self.target_bpp is None else int(self.target_bpp * width * height / 8)
        data = codec.encode(pixels, self.quality) if limit is None else codec.encode_within(pixels, limit)
        if len(data) >= len(content):
            notes.append(Note(f"its {len(content)} bytes became {len(data)}, not fewer"))
        result = {
            "width": width,
            "height": height,
            "bytes": len(data),
            "bpp": round(8 * len(data) / (width * height), 5),
            "quality": unpack(data).q,
            "model": codec.card.name,
        }
        return Worked(data, result, notes)
