"""What a subcommand needs beyond the packages of coding."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from facecodec.errors import UsageError


def require(packages: Sequence[str], remedy: str) -> None:
    """Raises UsageError, naming what is missing and what to do, unless all can be imported."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} not installed: {remedy}")
