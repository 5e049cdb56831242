"""facecodec verify: whether .fic files are whole and decode, without writing a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from facecodec.cli import batch
from facecodec.cli.files import STANDARD, explain
from facecodec.errors import FacecodecError


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="FILE...")
@batch.max_pixels_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each file.")
def verify(names: tuple[str, ...], max_pixels: int, as_json: bool) -> None:
    """Check .fic files: header, checksum, model and every symbol. Silent about those that are good."""
    from facecodec.codec import codec_of, open_container

    failed = 0
    for name in names:
        try:
            data = sys.stdin.buffer.read() if name == STANDARD else Path(name).read_bytes()
            parsed = open_container(data, max_pixels)
            codec_of(parsed).symbols(parsed)
        except (FacecodecError, OSError) as error:
            failed += 1
            reason = explain(error) if isinstance(error, OSError) else str(error)
            if as_json:
                print(json.dumps({"input": name, "error": reason}))
            print(f"facecodec: {name}: {reason}", file=sys.stderr)
        else:
            if as_json:
                print(json.dumps({"input": name}))
    if failed and len(names) > 1:
        print(f"facecodec: {failed} of {len(names)} files failed", file=sys.stderr)
    if failed:
        sys.exit(1)
