"""The errors that the package raises on purpose."""

from __future__ import annotations

import re
from collections.abc import Mapping


class FacecodecError(Exception):
    """An input could not be handled; the message is one line that says what to do.

    The message is the fact and, after a colon, the advice. In the advice, {name} is an argument of
    the function that was called; the command line replaces it by its option.
    """

    def __init__(self, fact: str, advice: str = "") -> None:
        super().__init__(fact, *([advice] if advice else []))  # two would be an OSError's errno
        self.fact, self.advice = fact, advice

    def message(self, names: Mapping[str, str]) -> str:
        """Returns the message, with other names for the arguments."""
        arguments = {name: names.get(name, name) for name in re.findall(r"{(\w+)}", self.advice)}
        return self.fact + (f": {self.advice.format(**arguments)}" if self.advice else "")

    def __str__(self) -> str:
        return self.message({})


class UsageError(FacecodecError):
    """The caller asked for something that does not exist: a quality, a model, an option."""


class FormatError(FacecodecError):
    """The bytes are not a .fic file that this version reads."""


class ModelError(FacecodecError):
    """A frozen model is missing, damaged or of an unknown kind."""


class ImageError(FacecodecError):
    """The picture cannot be read, or is too large."""
