"""facecodec encode: images -> .fic files."""

from __future__ import annotations

import io
from typing import Any

import click

from facecodec.cli import batch, files
from facecodec.container import DEFAULT_QUALITY, MAGIC, quality_byte
from facecodec.errors import FormatError, UsageError


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("-o", "--output", "out", metavar="OUT", help="Output file or folder; '-' is standard output.")
@click.option(
    "-q",
    "--quality",
    type=float,
    default=DEFAULT_QUALITY,
    show_default=True,
    metavar="Q",
    help="1 (smallest) to 8, in steps of 1/32.",
)
@click.option("-m", "--model", metavar="MODEL", help="Name of an installed model, or a model file.")
@batch.shared_options
def encode(
    inputs: tuple[str, ...],
    out: str | None,
    quality: float,
    model: str | None,
    force: bool,
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

    byte = quality_byte(quality)
    path = checkpoint.model_path(model)
    listed = None if files0_from is None else files.read_list(files0_from)
    plan = files.plan(inputs, listed, out, ".fic", batch.has_suffix(images.SUFFIXES), "images")
    for job in plan.jobs:
        if job.target is not None and job.target.suffix.lower() in images.SUFFIXES:
            raise UsageError(f"{job.target} has the name of an image, and a .fic file is none: give -o another name")
    to_stdout = any(job.target is None for job in plan.jobs)
    reporter = batch.Reporter(as_json, quiet, to_stdout)
    codec = open_codec(path)

    def work(content: bytes, job: files.Job) -> tuple[bytes, dict[str, Any]]:
        if content.startswith(MAGIC):
            raise FormatError("it is a .fic file already: decode it")
        pixels, dropped = images.read(io.BytesIO(content), max_pixels)
        for what in dropped:
            reporter.note_once(job.input_name, f"dropped {what}", what.lstrip("0123456789 "))
        data = codec.encode(pixels, quality)
        if len(data) >= len(content):
            reporter.note(job.input_name, f"its {len(content)} bytes became {len(data)}, not fewer")
        height, width = pixels.shape[:2]
        return data, {
            "width": width,
            "height": height,
            "bytes": len(data),
            "bpp": round(8 * len(data) / (width * height), 5),
            "quality": 1 + byte / 32,
            "model": codec.card.name,
        }

    batch.run(plan, force, reporter, work)
