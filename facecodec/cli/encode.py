"""facecodec encode: images -> .fic files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import click

from facecodec.cli import batch, files
from facecodec.cli.models import MODEL
from facecodec.cli.targets import Target, target_options
from facecodec.cli.tasks import Note, Output
from facecodec.container import MAGIC
from facecodec.errors import FormatError, UsageError


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=click.Path())
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
    "--keep-metadata",
    is_flag=True,
    help="Keep EXIF and the colour profile, which are dropped otherwise.",
)
@click.option(
    "--verify", is_flag=True, help="Read each file back and decode it before it is reported."
)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    type=MODEL,
    help="Name of an installed model, or a model file.",
)
@batch.shared_options
def encode(
    inputs: tuple[str, ...],
    out: str | None,
    target: Target,
    keep_metadata: bool,
    verify: bool,
    model: str | None,
    options: batch.Options,
) -> None:
    """Compress images to .fic files.

    INPUT is an image, a folder that is searched for images, a tar file of images, a URL, or '-'.
    Without -o the output lies beside the input. Inputs are kept.
    """
    from PIL import Image

    from facecodec import frozen, images
    from facecodec.codec import open_codec

    Image.MAX_IMAGE_PIXELS = (
        options.max_pixels
    )  # Pillow's own limit, checked before it takes memory
    path = frozen.model_path(model)
    plan = files.plan(inputs, options.listed(), out, ".fic", images.SUFFIXES, "images")
    for job in plan.jobs:
        if job.target is not None and job.target.suffix.lower() in images.SUFFIXES:
            raise UsageError(
                f"{job.target} has the name of an image, and a .fic file is none: "
                "give -o another name"
            )
    open_codec(path)  # a model that fails is reported once, not for each input
    operation = Encode(path, target, options.max_pixels, keep_metadata, verify)
    batch.run(plan, operation, options, verify)


@dataclass(frozen=True)
class Encode:
    """From the bytes of an image file to those of a .fic file that meets the target."""

    model: Path
    target: Target
    max_pixels: int
    keep_metadata: bool
    verify: bool

    def expect(self, content: bytes) -> None:
        if content.startswith(MAGIC):
            raise FormatError("it is a .fic file already: decode it")

    def __call__(self, content: bytes) -> Output:
        from PIL import Image

        from facecodec import images
        from facecodec.codec import open_codec

        Image.MAX_IMAGE_PIXELS = self.max_pixels  # as above: this may be another process
        pixels, dropped, metadata = images.read(
            io.BytesIO(content), self.max_pixels, self.keep_metadata
        )
        notes = [Note(f"dropped {what}", what.lstrip("0123456789 ")) for what in dropped]
        codec = open_codec(self.model)
        encoded = self.target.encode(codec.analyse(pixels, metadata))
        data = encoded.data
        if self.verify:
            codec.check(data, pixels)
        if len(data) >= len(content):
            notes.append(Note(f"its {len(content)} bytes became {len(data)}, not fewer"))
        height, width = pixels.shape[:2]
        facts = {
            "width": width,
            "height": height,
            "bytes": len(data),
            "bpp": round(8 * len(data) / (width * height), 5),
            "quality": encoded.q,
            "model": codec.card.name,
        }
        return Output(data, facts, notes)
