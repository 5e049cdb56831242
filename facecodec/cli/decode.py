"""facecodec decode: .fic files -> images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from facecodec.cli import batch, files
from facecodec.cli.models import reader_option
from facecodec.cli.paths import is_special
from facecodec.cli.tasks import Output
from facecodec.container import MAGIC
from facecodec.errors import FormatError, UsageError


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
@click.option(
    "--format",
    "format_",
    type=click.Choice(
        ["png", "jpg", "jpeg", "webp", "avif", "tiff", "tif", "ppm"], case_sensitive=False
    ),
    help="Image format; by default from the output's suffix, or png.",
)
@batch.max_side_option
@reader_option
@batch.shared_options
def decode(
    inputs: tuple[str, ...],
    out: str | None,
    format_: str | None,
    max_side: int | None,
    model: Path | None,
    options: batch.Options,
) -> None:
    """Restore images from .fic files.

    INPUT is a .fic file, a folder or tar file of .fic files, a URL, or '-'.
    Without -o the output is written beside the input.
    """
    from facecodec import images

    format_ = images.SUFFIX_FORMATS[f".{format_}"] if format_ else None
    naming = files.Naming(f".{format_ or 'png'}")
    plan = files.plan(inputs, options.listed(), out, naming, files.FIC, ".fic files")
    targets = [job.target for job in plan.jobs]
    image_format = format_ or _format_of(targets[0] if len(targets) == 1 else None)
    images.check_written(image_format)
    batch.run(plan, Decode(image_format, options.max_pixels, model, max_side), options)


@dataclass(frozen=True)
class Decode:
    """Turns the bytes of a .fic file into those of an image file."""

    image_format: str
    max_pixels: int
    model: Path | None = None
    max_side: int | None = None  # pixels of the image

    def expect(self, content: bytes) -> None:
        if content and not content.startswith(MAGIC[:1]):
            raise FormatError("not a .fic file: give one that encode has made")

    def __call__(self, content: bytes) -> Output:
        from facecodec import images
        from facecodec.codec import codec_of, open_container

        parsed = open_container(content, self.max_pixels)
        codec = codec_of(parsed, self.model)
        image = codec.decode_container(parsed)
        if self.max_side is not None:
            images.reduce(image, self.max_side)
        facts = {
            "width": parsed.width,
            "height": parsed.height,
            "bytes": len(content),
            "bpp": round(8 * len(content) / (parsed.width * parsed.height), 5),
            "quality": parsed.q,
            "model": codec.card.name,
        }
        return Output(images.write(image, self.image_format), facts)


def _format_of(target: Path | None) -> str:
    """Returns the format of a file name's suffix. Raises UsageError for an unknown suffix."""
    from facecodec import images

    if target is None or files.is_shard(target) or is_special(target):
        return "png"
    try:
        return images.SUFFIX_FORMATS[target.suffix.lower()]
    except KeyError:
        known = ", ".join(images.SUFFIX_FORMATS)
        raise UsageError(
            f"{target}: the name should end in one of {known}, or give --format"
        ) from None
