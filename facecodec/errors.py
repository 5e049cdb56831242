"""What can go wrong. Every error the package raises on purpose is one of these."""

from __future__ import annotations


class FacecodecError(Exception):
    """An input could not be handled; the message is one line that says what to do."""


class UsageError(FacecodecError):
    """The caller asked for something that does not exist: a quality, a model, an option."""


class FormatError(FacecodecError):
    """The bytes are not a .fic file that this version reads."""


class ModelError(FacecodecError):
    """A frozen model is missing, damaged or of an unknown kind."""


class ImageError(FacecodecError):
    """The picture cannot be read, or is too large."""
