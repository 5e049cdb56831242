"""facecodec verify: checks that .fic files are whole and decode, without writing pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import click

from facecodec.cli import batch, files
from facecodec.cli.console import complain, end, tell_json
from facecodec.cli.files import Job
from facecodec.cli.models import reader_option
from facecodec.cli.outputs import read_input
from facecodec.cli.tasks import reason


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=click.Path(readable=False))
@batch.files0_option
@batch.max_pixels_option
@reader_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per file.")
def verify(
    inputs: tuple[str, ...],
    files0_from: str | None,
    max_pixels: int,
    model: Path | None,
    as_json: bool,
) -> None:
    """Check .fic files: header, checksum, model and every symbol. Only bad files are reported.

    INPUT is a .fic file, a folder or tar file of .fic files, a URL, or '-'.
    """
    names = files.all_names(inputs, files.read_list(files0_from))
    count = failed = 0
    for name in names:
        for each, wrong in _checked(name, max_pixels, model):
            count += 1
            if as_json:
                tell_json({"input": each} | ({"error": wrong} if wrong else {}))
            if wrong:
                failed += 1
                complain(f"{each}: {wrong}")
    end(failed, count)


def _checked(name: str, max_pixels: int, model: Path | None) -> Iterator[tuple[str, str | None]]:
    """Yields every file of an input, and what is wrong with it, or None."""
    if name == files.STANDARD:
        yield name, _wrong(partial(read_input, Job(None, None)), max_pixels, model)
        return
    found, failures = files.find_fic(name)
    yield from failures
    for path in found:
        if files.is_shard(path):
            yield from _checked_shard(path, max_pixels, model)
        else:
            yield str(path), _wrong(partial(read_input, Job(path, None)), max_pixels, model)


def _checked_shard(
    path: Path, max_pixels: int, model: Path | None
) -> Iterator[tuple[str, str | None]]:
    from facecodec.cli.shards import open_shard

    try:
        with open_shard(path) as contents:
            for info, content in contents:
                if info.isreg() and PurePosixPath(info.name).suffix.lower() in files.FIC:
                    wrong = _wrong(partial(bytes, content), max_pixels, model)
                    yield f"{path}/{info.name}", wrong
    except Exception as error:
        yield str(path), reason(error)


def _wrong(read: Callable[[], bytes], max_pixels: int, model: Path | None) -> str | None:
    """Returns what is wrong with the file that `read` returns, or None."""
    try:
        check(read(), max_pixels, model)
    except Exception as error:
        return reason(error)
    return None


def check(content: bytes, max_pixels: int, model: Path | None = None) -> None:
    """Raises a FacecodecError unless these are the bytes of a whole .fic file that decodes."""
    from facecodec.codec import codec_of, open_container

    parsed = open_container(content, max_pixels)
    codec_of(parsed, model).count_escapes(parsed)
