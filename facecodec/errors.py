"""The errors that the package raises on purpose."""

from __future__ import annotations

import re
from collections.abc import Mapping


class FacecodecError(Exception):
    """An input could not be handled. The message is one line that says what to do.

    It consists of the fact and, after a colon, the advice. In the advice, {name} stands for an
    argument of the function that was called; the command line puts its option there.
    """

    def __init__(self, fact: str, advice: str = "") -> None:
        # An OSError with two arguments takes the first one for its errno.
        super().__init__(fact, *([advice] if advice else []))
        self.fact, self.advice = fact, advice

    def message(self, names: Mapping[str, str]) -> str:
        """Returns the message, with `names` in place of the arguments' names."""
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
