"""facecodec decode: .fic files -> images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facecodec.cli import batch, files
from facecodec.errors import UsageError


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("-o", "--output", "out", metavar="OUT", help="Output file or folder; '-' is standard output.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["png", "jpg", "ppm"]),
    help="Image format; otherwise by the output's suffix, else png.",
)
@batch.shared_options
def decode(
    inputs: tuple[str, ...],
    out: str | None,
    format_: str | None,
    force: bool,
    files0_from: str | None,
    max_pixels: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Restore images from .fic files.

    INPUT is a .fic file, a folder that is searched for them, or '-'. Without -o the output lies
    beside the input.
    """
    from facecodec import images
    from facecodec.codec import codec_of, open_container

    suffix = f".{format_ or 'png'}"
    listed = None if files0_from is None else files.read_list(files0_from)
    plan = files.plan(inputs, listed, out, suffix, batch.has_suffix(frozenset({".fic"})), ".fic files")
    targets = [job.target for job in plan.jobs]
    image_format = format_ or _format_of(targets[0] if len(targets) == 1 else None)
    reporter = batch.Reporter(as_json, quiet, None in targets)

    def work(data: bytes, job: files.Job) -> tuple[bytes, dict[str, Any]]:
        parsed = open_container(data, max_pixels)
        codec = codec_of(parsed)
        image = codec.decode_container(parsed)
        return images.write(image, image_format), {
            "width": parsed.width,
            "height": parsed.height,
            "bytes": len(data),
            "bpp": round(8 * len(data) / (parsed.width * parsed.height), 5),
            "quality": parsed.q,
            "model": codec.card.name,
        }

    batch.run(plan, force, reporter, work)


def _format_of(target: Path | None) -> str:
    """The format that a file name asks for. Raises UsageError for one that is not written."""
    from facecodec import images

    if target is None or files.is_special(target):
        return "png"
    try:
        return images.SUFFIX_FORMATS[target.suffix.lower()]
    except KeyError:
        known = ", ".join(images.SUFFIX_FORMATS)
        raise UsageError(f"{target}: the name should end in one of {known}, or give --format") from None
