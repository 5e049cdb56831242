"""Checks for packages that a subcommand needs beyond those for coding."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from facecodec.errors import UsageError


def require(packages: Sequence[str], remedy: str) -> None:
    """Raises UsageError, with the missing packages and `remedy`, unless all are installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} not installed: {remedy}")
