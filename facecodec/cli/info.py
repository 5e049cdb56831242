"""facecodec info: shows what a .fic file contains, without decoding its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facecodec.cli.batch import max_pixels_option
from facecodec.cli.console import complain, end, tell, tell_json
from facecodec.cli.files import STANDARD, Job
from facecodec.cli.outputs import read_input, write_output
from facecodec.cli.paths import LocalPath, to_path
from facecodec.cli.tasks import reason
from facecodec.container import DEFAULT_MAX_PIXELS, check_size
from facecodec.errors import FormatError, ModelError, UsageError

KEPT, LEFT_OUT = (255.0, 220.0, 0.0), (20.0, 40.0, 160.0)  # RGB colours of the heatmap


@click.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="FILE...", type=click.Path(readable=False)
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per file.")
@click.option("--escapes", is_flag=True, help="Also read all symbols and count the escapes.")
@click.option(
    "--extract",
    "folder",
    metavar="DIR",
    type=LocalPath(),
    help="Write the images inside files into DIR.",
)
@click.option(
    "--heatmap",
    metavar="OUT.png",
    type=LocalPath(),
    help="Draw where the one FILE keeps samples.",
)
@max_pixels_option
@click.option("-f", "--force", is_flag=True, help="Overwrite files that exist.")
def info(
    names: tuple[str, ...],
    as_json: bool,
    escapes: bool,
    folder: Path | None,
    heatmap: Path | None,
    max_pixels: int,
    force: bool,
) -> None:
    """Show what .fic files contain: size, quality, model, streams and their bytes.

    No model is needed, but only the file's own model gives the names of streams. This reads the
    header only; `facecodec verify` reads all symbols.
    """
    if heatmap is not None and (len(names) > 1 or heatmap.suffix.lower() != ".png"):
        raise UsageError("--heatmap draws one PNG picture of one FILE")
    failed = 0
    for name in names:
        try:
            job = Job(None if name == STANDARD else to_path(name), None)
            data = read_input(job)
            facts = {"input": name} | describe(data, escapes, max_pixels)
            if folder is not None:
                extract(data, job, folder, max_pixels, force)
            if heatmap is not None:
                drawn = draw_allocation(data, max_pixels)
                write_output(Job(job.source, heatmap), drawn, force)
        except UsageError:
            raise
        except Exception as error:
            failed += 1
            wrong = reason(error)
            if as_json:
                tell_json({"input": name, "error": wrong})
            complain(f"{name}: {wrong}")
            continue
        if as_json:
            tell_json(facts)
        else:
            _show(facts)
    end(failed, len(names))


def describe(
    data: bytes, escapes: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS
) -> dict[str, Any]:
    """Returns the facts that `info --json` prints (docs/cli.md), without the input's name.

    With `escapes` it also counts escapes if the model is installed, which reads all symbols. Raises
    FormatError.
    """
    from facecodec import container
    from facecodec.codec import codec_of

    parsed = container.unpack(data)
    stored = sum(map(len, parsed.streams)) + sum(len(chunk) for _, chunk in parsed.chunks)
    streams: list[dict[str, Any]] = [
        {"name": None, "bytes": len(s), "escapes": None} for s in parsed.streams
    ]
    model = wrong = None
    try:
        codec = codec_of(parsed)
    except ModelError as error:  # the header can still be shown
        wrong = error.fact
    else:
        model = codec.card.name
        for stream, name in zip(streams, codec.stream_names, strict=False):
            stream["name"] = name
        if escapes:
            check_size(parsed.width, parsed.height, max_pixels)
            counts = codec.count_escapes(parsed)
            for stream in streams:
                stream["escapes"] = counts[stream["name"]]
    return {
        "version": container.VERSION,
        "width": parsed.width,
        "height": parsed.height,
        "bytes": len(data),
        "bpp": round(8 * len(data) / (parsed.width * parsed.height), 5),
        "quality": parsed.q,
        "doubled": parsed.doubled,
        "fingerprint": parsed.fingerprint.hex(),
        "model": model,
        "model_error": wrong,
        "header_bytes": len(data) - stored,
        "streams": streams,
        "chunks": [{"type": kind, "bytes": len(chunk)} for kind, chunk in parsed.chunks],
    }


def extract(data: bytes, source: Job, folder: Path, max_pixels: int, force: bool) -> None:
    """Writes the images inside a file to DIR/NAME-IMAGE. Raises OutputError.

    Raises FormatError if files of this family contain no images.
    """
    from facecodec.codec import codec_of, open_container
    from facecodec.families import Illustrated

    parsed = open_container(data, max_pixels)
    codec = codec_of(parsed)
    codec.count_escapes(parsed)  # checks that the file decodes before anything is written
    if not isinstance(codec.family, Illustrated):
        raise FormatError(f"a file of model {codec.card.name} contains no image file: decode it")
    stem = "stdin" if source.source is None else source.source.stem
    for name, content in codec.family.images(parsed.streams).items():
        write_output(
            Job(source.source, folder / f"{stem}-{name}", makes_folders=True), content, force
        )


def draw_allocation(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> bytes:
    """Returns a PNG file of the grey picture under its allocation.

    Yellow regions keep all samples, blue ones none. Raises FormatError if the family keeps all
    samples everywhere.
    """
    import numpy as np
    from PIL import Image

    from facecodec.codec import codec_of, open_container
    from facecodec.families import Allocating
    from facecodec.families.hyperlatent import bands
    from facecodec.images import write

    parsed = open_container(data, max_pixels)
    codec = codec_of(parsed)
    size = (parsed.height, parsed.width)
    if not isinstance(codec.family, Allocating):
        raise FormatError(
            f"a file of model {codec.card.name} keeps all samples everywhere: "
            "there is nothing to draw"
        )
    grey = np.asarray(codec.decode_container(parsed).convert("L"))
    shares = codec.family.allocation(parsed.streams, size, parsed.quality_byte)
    drawn = np.empty((*size, 3), np.uint8)
    for rows in bands(size[0], 64):  # a whole picture may take gigabytes as floats
        places = shares[rows, :, None].astype(np.float32)
        colours = places * np.array(KEPT, np.float32) + (1 - places) * np.array(
            LEFT_OUT, np.float32
        )
        drawn[rows] = np.rint(0.6 * grey[rows, :, None] + 0.4 * colours)
    return write(Image.fromarray(drawn), "png")


def _show(facts: dict[str, Any]) -> None:
    tell(
        f"{facts['input']}: {facts['width']}x{facts['height']}, {facts['bytes']} bytes, "
        f"{facts['bpp']:.3f} bpp"
    )
    doubled = ", coded at twice the size" if facts["doubled"] else ""
    tell(f"  quality  {facts['quality']:g}{doubled}")
    if facts["model"] is None:
        tell(f"  model    {facts['fingerprint']}, cannot be used here: {facts['model_error']}")
    else:
        tell(f"  model    {facts['model']} ({facts['fingerprint']})")
    tell(f"  header   {facts['header_bytes']} bytes, format version {facts['version']}")
    for number, stream in enumerate(facts["streams"]):
        escapes = "" if stream["escapes"] is None else f", {stream['escapes']} escapes"
        tell(f"  stream   {stream['name'] or number}: {stream['bytes']} bytes{escapes}")
    for chunk in facts["chunks"]:
        tell(f"  chunk    {chunk['type']}: {chunk['bytes']} bytes")
