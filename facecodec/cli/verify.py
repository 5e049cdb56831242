"""facecodec verify: whether .fic files are whole and decode, without writing a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from facecodec.cli import batch, files
from facecodec.errors import FacecodecError, UsageError


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=click.Path())
@batch.files0_option
@batch.max_pixels_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each file.")
def verify(inputs: tuple[str, ...], files0_from: str | None, max_pixels: int, as_json: bool) -> None:
    """Check .fic files: header, checksum, model and every symbol. Silent about those that are good.

    INPUT is a .fic file, a folder that is searched for them, or '-'.
    """
    names = [*inputs, *(files.read_list(files0_from) if files0_from else [])]
    if not names:
        raise UsageError("no input given: name files or folders, '-' for standard input, or --files0-from")
    wanted = batch.has_suffix(frozenset({".fic"}))
    count = failed = 0
    for name in names:
        found, failures = files.find(Path(name), wanted, ".fic files") if name != files.STANDARD else ([None], [])
        results = failures + [(str(path or name), _reason(path, max_pixels)) for path in found]
        for each, reason in results:
            count += 1
            if as_json:
                print(json.dumps({"input": each} | ({"error": reason} if reason else {})))
            if reason:
                failed += 1
                print(f"facecodec: {each}: {reason}", file=sys.stderr)
    if failed and count > 1:
        print(f"facecodec: {failed} of {count} files failed", file=sys.stderr)
    if failed:
        sys.exit(1)


def _reason(path: Path | None, max_pixels: int) -> str | None:
    """What is wrong with a file, None for standard input, or None."""
    from facecodec.codec import codec_of, open_container

    try:
        parsed = open_container(sys.stdin.buffer.read() if path is None else path.read_bytes(), max_pixels)
        codec_of(parsed).symbols(parsed)
    except FacecodecError as error:
        return str(error)
    except OSError as error:
        return files.explain(error)
    return None
