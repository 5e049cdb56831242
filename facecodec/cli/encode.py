"""facecodec encode: images -> .fic files."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecodec.cli import batch, files
from facecodec.cli.extras import require
from facecodec.cli.models import MODEL
from facecodec.cli.tasks import Note, Output
from facecodec.container import DEFAULT_QUALITY, MAGIC, quality_byte, unpack
from facecodec.errors import FormatError, ImageError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from facecodec.codec import Codec
    from facecodec.faces.similarity import Likeness


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
@click.option(
    "-q",
    "--quality",
    type=float,
    metavar="Q",
    help=f"1 (smallest) to 8, in steps of 1/32; {DEFAULT_QUALITY:g} by default.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    metavar="N",
    help="The best quality whose file fits into N bytes.",
)
@click.option(
    "--target-bpp", type=float, metavar="X", help="The best quality within X bits per pixel."
)
@click.option(
    "--min-similarity",
    type=click.FloatRange(0, 1),
    metavar="S",
    help="The lowest quality whose decoded face has a cosine similarity of S or more to the original.",
)
@click.option(
    "--recognizer",
    "recogniser",
    metavar="NAME|FILE.onnx",
    type=click.Path(),
    help="The network that S is measured by.",
)
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
    quality: float | None,
    max_bytes: int | None,
    target_bpp: float | None,
    min_similarity: float | None,
    recogniser: str | None,
    keep_metadata: bool,
    verify: bool,
    model: str | None,
    force: bool,
    skip_existing: bool,
    processes: int | None,
    cluster: str | None,
    files0_from: str | None,
    max_pixels: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compress images to .fic files.

    INPUT is an image, a folder that is searched for images, a tar file of images, a URL, or '-'. Without
    -o the output lies beside the input. Inputs are kept.
    """
    from PIL import Image

    from facecodec import frozen, images
    from facecodec.codec import open_codec

    Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow's own limit, checked before it takes memory

    if sum(given is not None for given in (quality, max_bytes, target_bpp, min_similarity)) > 1:
        raise UsageError(
            "-q, --max-bytes, --target-bpp and --min-similarity exclude each other: give one"
        )
    if recogniser is not None and min_similarity is None:
        raise UsageError("--recognizer is for --min-similarity: give that too")
    if target_bpp is not None and not 0 < target_bpp < math.inf:
        raise UsageError(f"--target-bpp {target_bpp:g} is not a rate: give a number above zero")
    quality = DEFAULT_QUALITY if quality is None else quality
    quality_byte(quality)  # refused before anything is read
    path = frozen.model_path(model)
    listed = None if files0_from is None else files.read_list(files0_from)
    plan = files.plan(inputs, listed, out, ".fic", images.SUFFIXES, "images")
    for job in plan.jobs:
        if job.target is not None and job.target.suffix.lower() in images.SUFFIXES:
            raise UsageError(
                f"{job.target} has the name of an image, and a .fic file is none: give -o another name"
            )
    to_stdout = any(job.target is None for job in plan.jobs)
    reporter = batch.Reporter(as_json, quiet, to_stdout)
    open_codec(path)  # what is wrong with the model is no fault of the inputs
    if min_similarity is not None:
        from facecodec.faces import INSTALL

        require(
            ("torch", "facenet_pytorch"),
            f"for --min-similarity, pip install 'facecodec[train]' and {INSTALL}",
        )
        from facecodec.bench import SEEN
        from facecodec.faces.recognisers import find_recogniser

        recogniser = find_recogniser(recogniser or SEEN, None)
    work = Encode(
        path,
        quality,
        max_bytes,
        target_bpp,
        max_pixels,
        keep_metadata,
        verify,
        min_similarity,
        recogniser,
    )
    batch.run(plan, force, skip_existing, processes, cluster, reporter, work, verify)


@dataclass(frozen=True)
class Encode:
    """The bytes of an image file -> those of a .fic file, as the options say."""

    model: Path
    quality: float
    max_bytes: int | None
    target_bpp: float | None
    max_pixels: int
    keep_metadata: bool
    verify: bool
    min_similarity: float | None
    recogniser: str | None

    def expect(self, content: bytes) -> None:
        if content.startswith(MAGIC):
            raise FormatError("it is a .fic file already: decode it")

    def __call__(self, content: bytes) -> Output:
        from PIL import Image

        from facecodec import images
        from facecodec.codec import open_codec

        Image.MAX_IMAGE_PIXELS = (
            self.max_pixels
        )  # Pillow's own limit, checked before it takes memory
        pixels, dropped, metadata = images.read(
            io.BytesIO(content), self.max_pixels, self.keep_metadata
        )
        notes = [Note(f"dropped {what}", what.lstrip("0123456789 ")) for what in dropped]
        height, width = pixels.shape[:2]
        codec = open_codec(self.model)
        limit = (
            self.max_bytes if self.target_bpp is None else int(self.target_bpp * width * height / 8)
        )
        if self.min_similarity is not None:
            data = self._keeping(codec, pixels, metadata)
        elif limit is None:
            data = codec.encode(pixels, self.quality, metadata)
        else:
            data = codec.encode_within(pixels, limit, metadata)
        if self.verify:
            codec.check(data, pixels)
        if len(data) >= len(content):
            notes.append(Note(f"its {len(content)} bytes became {len(data)}, not fewer"))
        facts = {
            "width": width,
            "height": height,
            "bytes": len(data),
            "bpp": round(8 * len(data) / (width * height), 5),
            "quality": unpack(data).q,
            "model": codec.card.name,
        }
        return Output(data, facts, notes)

    def _keeping(
        self, codec: Codec, pixels: np.ndarray, metadata: list[tuple[str, bytes]]
    ) -> bytes:
        """The smallest file whose face is as like the original as is asked for."""
        import numpy as np

        likeness = open_likeness(self.recogniser).to(pixels)
        found = 0.0

        def accepts(decoded: Image.Image) -> bool:
            nonlocal found
            found = likeness(np.asarray(decoded))
            return found >= self.min_similarity

        try:
            return codec.encode_accepted(pixels, accepts, metadata)
        except ImageError:
            raise ImageError(
                f"even q 8 keeps a similarity of {found:.3f} alone, not {self.min_similarity:g}"
            ) from None


@cache
def open_likeness(recogniser: str) -> Likeness:
    from facecodec.faces.similarity import Likeness

    return Likeness(recogniser)
