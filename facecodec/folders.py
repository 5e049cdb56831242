"""The folders outside the package: the user's cache, what desktops read, and the data for training
and measuring."""

from __future__ import annotations

import os
from pathlib import Path

from facecodec.errors import UsageError


def cache_folder() -> Path:
    """The user's cache: $XDG_CACHE_HOME/facecodec or ~/.cache/facecodec. It need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facecodec"


def desktop_folder() -> Path:
    """Where desktops look for a user's programs: $XDG_DATA_HOME, or ~/.local/share. It need not exist."""
    given = Path(os.environ.get("XDG_DATA_HOME", ""))
    return given if given.is_absolute() else Path.home() / ".local" / "share"


def data_folder(given: Path | None) -> Path:
    """The folder of datasets, which need not exist.

    It is `given`, or $FACECODEC_DATA, or ../shared/data beside the checkout, or in the user's cache.
    """
    if given is not None:
        return given
    if "FACECODEC_DATA" in os.environ:
        return Path(os.environ["FACECODEC_DATA"])
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    return beside if beside.is_dir() else cache_folder() / "data"


def data_root(given: Path | None) -> Path:
    """As `data_folder`. Raises UsageError where the folder does not exist."""
    root = data_folder(given)
    if not root.is_dir():
        raise UsageError(
            f"no data folder {root}: give one with an option or FACECODEC_DATA (docs/data.md)"
        )
    return root
