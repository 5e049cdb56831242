"""The one place that writes to the terminal: what is printed is one line, whatever names hold."""

from __future__ import annotations

import json
import sys
from typing import IO, Any, TextIO

import click

from facecodec.errors import FacecodecError
from facecodec.text import printable

OPTIONS = {  # by the argument of the library that each of them sets
    "force": "-f",
    "max_pixels": "--max-pixels",
    "model": "-m FILE",
    "resume": "--resume",
    "run": "--run",
    "start": "--from",
}


def tell(text: str, end: str = "\n") -> None:
    """Prints a line on stdout."""
    _write(text, sys.stdout, end)


def warn(text: str, start: str = "", end: str = "\n") -> None:
    """Prints a line on stderr; `start` and `end` are ours, and may move the cursor."""
    _write(text, sys.stderr, end, start)


def message_of(error: FacecodecError) -> str:
    """Returns the message of an error, with our options where it names arguments of the library."""
    return error.message(OPTIONS)


def complain(text: str) -> None:
    """Says on stderr what went wrong."""
    warn(f"facecodec: {text}")


def tell_json(value: Any, file: IO[str] | None = None) -> None:
    """Prints a line of JSON, which escapes all but ASCII, on stdout or `file`."""
    print(json.dumps(value), file=file or sys.stdout, flush=True)


def complain_of_usage(error: click.ClickException) -> None:
    """Says what click found wrong with the arguments, with its hint at --help."""
    context = getattr(error, "ctx", None)
    if context is not None:
        for line in context.get_usage().splitlines():
            warn(line)
        warn(f"Try '{context.command_path} --help' for help.")
        warn("")
    warn(f"Error: {error.format_message()}")


def _write(text: str, file: TextIO | None, end: str, start: str = "") -> None:
    if file is None:  # it was closed before we began
        return
    # A terminal that lacks a letter is shown its number, too.
    encoding = file.encoding or "utf-8"
    line = printable(text).encode(encoding, "backslashreplace").decode(encoding)
    print(start + line, file=file, end=end, flush=True)
