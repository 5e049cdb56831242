"""Folders outside the package: the user's cache, the desktop's data, and the datasets."""

from __future__ import annotations

import os
from pathlib import Path

from facecodec.errors import UsageError


def cache_folder() -> Path:
    """Returns the user's cache folder, which need not exist.

    It is $XDG_CACHE_HOME/facecodec or ~/.cache/facecodec. Raises UsageError without a home folder.
    """
    return _of_the_user("XDG_CACHE_HOME", ".cache") / "facecodec"


def desktop_folder() -> Path:
    """Returns the folder where desktops look for a user's programs. It need not exist.

    It is $XDG_DATA_HOME or ~/.local/share. Raises UsageError without a home folder.
    """
    return _of_the_user("XDG_DATA_HOME", ".local/share")


def _of_the_user(variable: str, below: str) -> Path:
    """Returns the folder that an environment variable names, or else `below` the home folder."""
    given = Path(os.environ.get(variable, ""))
    if given.is_absolute():  # the XDG Base Directory Specification says to ignore relative paths
        return given
    home = os.path.expanduser("~")
    if not os.path.isabs(home) or os.environ.get("HOME") == "":
        raise UsageError(f"there is no home folder: set HOME or {variable} to the path of one")
    return Path(home, below)


def data_folder(given: Path | None) -> Path:
    """Returns the folder of datasets, which need not exist.

    It is the first of `given`, $FACECODEC_DATA, ../shared/data beside the checkout, and a folder in
    the user's cache.
    """
    if given is not None:
        return given
    if "FACECODEC_DATA" in os.environ:
        return Path(os.environ["FACECODEC_DATA"])
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    return beside if beside.is_dir() else cache_folder() / "data"


def data_root(given: Path | None) -> Path:
    """Returns the folder of datasets, as `data_folder`. Raises UsageError if it does not exist."""
    root = data_folder(given)
    if not root.is_dir():
        raise UsageError(
            f"no data folder {root}", "give {data} or set FACECODEC_DATA (docs/data.md)"
        )
    return root
