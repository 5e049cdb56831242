"""The only module that prints. Each print is one safe line, whatever characters names contain."""

from __future__ import annotations

import json
import sys
from typing import IO, Any, TextIO

import click

from facecodec.errors import FacecodecError
from facecodec.text import printable

OPTIONS = {  # by the library's arguments that they set
    "data": "--data DIR",
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
    """Prints a line on stderr. `start` and `end` may move the cursor: they are not escaped."""
    _write(text, sys.stderr, end, start)


def message_of(error: FacecodecError) -> str:
    """Returns an error's message, with options in place of the library's arguments."""
    return error.message(OPTIONS)


def complain(text: str) -> None:
    """Prints on stderr what went wrong."""
    warn(f"facecodec: {text}")


def end(failed: int, count: int) -> None:
    """Exits with 1 if any of `count` files failed, and says how many if there were several."""
    if failed and count > 1:
        complain(f"{failed} of {count} files failed")
    if failed:
        sys.exit(1)


def tell_json(value: Any, file: IO[str] | None = None) -> None:
    """Prints a line of JSON, in which all but ASCII is escaped, on stdout or `file`."""
    print(json.dumps(value), file=file or sys.stdout, flush=True)


def complain_of_usage(error: click.ClickException) -> None:
    """Prints click's message about wrong arguments, with a hint at --help; or the help itself."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        for line in error.format_message().splitlines():
            warn(line)
        return
    context = getattr(error, "ctx", None)
    hint = "" if context is None else f" See {context.command_path} --help."
    complain(error.format_message() + hint)


def _write(text: str, file: TextIO | None, end: str, start: str = "") -> None:
    if file is None:  # the stream was closed before the program started
        return
    # A character that the terminal's encoding lacks is escaped too.
    encoding = file.encoding or "utf-8"
    line = printable(text).encode(encoding, "backslashreplace").decode(encoding)
    print(start + line, file=file, end=end, flush=True)
