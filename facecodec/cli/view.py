"""facecodec view: shows .fic files in a browser."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import click

from facecodec.cli import files
from facecodec.cli.console import complain
from facecodec.cli.files import Job
from facecodec.cli.outputs import read_input, refuse_existing, write_output
from facecodec.cli.paths import LocalPath
from facecodec.cli.tasks import reason
from facecodec.errors import FormatError, UsageError


@click.command()
@click.argument("names", nargs=-1, metavar="[FILE]...", type=click.Path(readable=False))
@click.option(
    "-o",
    "--output",
    "out",
    metavar="PAGE.html",
    type=LocalPath(),
    help="Write one self-contained page, and do not open it.",
)
@click.option(
    "--script",
    "folder",
    metavar="DIR",
    type=LocalPath(),
    help="Write into DIR the files with which your own page can show <fic-image src=...>, and the "
    "models of FILEs.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite files that exist.")
def view(names: tuple[str, ...], out: Path | None, folder: Path | None, force: bool) -> None:
    """Show .fic files in your browser, until its page is closed or Ctrl-C is pressed.

    FILE is a .fic file, a folder of .fic files, a URL, or '-'. Without FILE the
    page is empty: drop files on it.
    """
    from facecodec import viewer

    if out is not None and folder is not None:
        raise UsageError("-o and --script exclude each other: give one")
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: a page's name ends in .html")
    found, failed = read(names)
    models = viewer.models_of(content for _, content in found)
    if folder is not None:
        outputs = {
            Job(None, folder / name, makes_folders=True): content
            for name, content in viewer.script(models).items()
        }
        for output in outputs:
            refuse_existing(output, force)
        for output, content in outputs.items():
            write_output(output, content, force)
    elif found or not failed:
        if out is not None:
            write_output(Job(None, out), viewer.page(found, models), force)
        else:
            show(lambda alive: viewer.page(found, models, alive))
    if failed:
        sys.exit(1)


def read(names: tuple[str, ...]) -> tuple[list[tuple[str, bytes]], bool]:
    """Returns the name and bytes of every readable file, and whether any could not be read.

    It prints on stderr why a file could not be read.
    """
    found: list[tuple[str, bytes]] = []
    failures: list[tuple[str, str]] = []
    for name in names:
        jobs = [Job(None, None)]
        if name != files.STANDARD:
            paths, missing = files.find_fic(name)
            failures += missing
            jobs = [Job(path, None) for path in paths]
        for job in jobs:
            try:
                shown = "stdin.fic" if job.source is None else job.source.name
                found.append((shown, _checked(job)))
            except Exception as error:
                failures.append((job.input_name, reason(error)))
    for name, wrong in failures:
        complain(f"{name}: {wrong}")
    return found, bool(failures)


def _checked(job: Job) -> bytes:
    """Returns the content of a .fic file. Raises FormatError for anything else."""
    from facecodec.container import unpack

    if job.is_shard:
        raise FormatError("extract its .fic files first")
    content = read_input(job)
    unpack(content)
    return content


def show(make_page: Callable[[str], bytes]) -> None:
    """Serves a page and opens it in the user's browser, until it is closed or Ctrl-C is pressed."""
    import webbrowser
    from threading import Thread

    from facecodec.cli.serve import PageServer

    with PageServer(make_page) as server:
        complain(f"showing {server.address} until it is closed; Ctrl-C ends it")
        # Some browsers return only when they are closed, and would wait for a page until then.
        Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.1)
