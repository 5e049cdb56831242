"""Paths of local files, and of files at URLs, which fsspec reads and writes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from facecodec.errors import FacecodecError, UsageError


def is_url(path: Path | str) -> bool:
    """Returns whether a path or name is a URL.

    A URL's path is a UPath, whose `protocol` names its store. Before universal-pathlib 0.3 a UPath
    is also a pathlib.Path, so the type does not tell.
    """
    return "://" in path if isinstance(path, str) else bool(getattr(path, "protocol", ""))


def to_path(name: str) -> Path:
    """Returns a name's path. Raises UsageError for a URL whose package is not installed."""
    if name.startswith("file://"):
        return Path(name.removeprefix("file://"))
    if not is_url(name):
        return Path(name)
    try:
        from upath import UPath
    except ImportError:
        raise UsageError(f"{name}: URLs need pip install 'facecodec[url]'") from None
    try:
        path: Any = UPath(name)
        _ = path.fs  # imports the package for this kind of store
    except (ImportError, ValueError) as error:
        raise UsageError(f"{name}: {error}") from None
    return path


class LocalPath(click.Path):
    """The type of an argument that is a local path. Raises UsageError for a URL.

    Otherwise "s3://bucket/x" would mean the file x in a local folder "s3:".
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if is_url(str(value)):
            self.fail(f"'{value}' is a URL: give a path on this machine", param, ctx)
        return super().convert(value, param, ctx)


def in_store(path: Path) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL's store, and the path within it."""
    remote: Any = path  # a UPath, whose attributes type checkers do not know
    return remote.fs, remote.path


@contextmanager
def reaching(path: Path | None) -> Iterator[None]:
    """Turns the exceptions of a URL's store into OSError, as for a local file."""
    try:
        yield
    except Exception as error:
        if path is None or not is_url(path):
            raise
        if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, OSError):
            # fsspec says so even if it could not connect.
            raise OSError("cannot reach its server: check the address and the network") from None
        if isinstance(error, (OSError, FacecodecError)):
            raise
        raise OSError(f"{type(error).__name__}: {error}") from None


def exists(path: Path) -> bool:
    if not is_url(path):
        return os.path.exists(path)
    with reaching(path):
        return path.exists()


def is_folder(path: Path) -> bool:
    """Returns whether a path is a folder.

    A URL with a suffix counts as a file, without a request to its store.
    """
    if not is_url(path):
        return os.path.isdir(path)
    with reaching(path):
        return not path.suffix and path.is_dir()


def is_read_only(path: Path) -> bool:
    """Returns whether a path is a URL of a web server, to which nothing can be written."""
    return getattr(path, "protocol", "") in ("http", "https")


def is_special(path: Path) -> bool:
    """Returns whether a path is a device or pipe. These are written to, never replaced."""
    return (
        not is_url(path)
        and os.path.exists(path)
        and not os.path.isfile(path)
        and not os.path.isdir(path)
    )


def real(path: Path) -> str:
    """Returns the same path for all names of a file."""
    return str(path) if is_url(path) else os.path.realpath(path)


def walk(folder: Path, unreadable: list[tuple[str, str]]) -> Iterator[Path]:
    """Yields the files below a folder, in order.

    A folder that cannot be listed goes to `unreadable`.
    """

    def note(error: OSError) -> None:
        unreadable.append((str(error.filename or folder), explain(error)))

    if is_url(folder):
        try:
            with reaching(folder):
                store, root = in_store(folder)
                found = store.find(root)
        except OSError as error:
            note(error)
            return
        yield from (folder / each[len(root) :].lstrip("/") for each in found)
        return
    for parent, folders, files in os.walk(folder, onerror=note):
        folders.sort()
        for file in sorted(files):
            yield Path(parent) / file


def explain(error: OSError) -> str:
    """Returns, in a few words, what went wrong and what to do about it."""
    remedies = {
        errno.ENOENT: "no such file or folder: check the path",
        errno.EACCES: "permission denied: check owner and mode of the file and its folder",
        errno.ENOSPC: "no space left: free some and run this again",
        errno.EROFS: "the file system is read-only: choose another place",
        errno.EISDIR: "it is a folder: name the files in it",
        errno.ENOTDIR: "a part of the path is not a folder: check the path",
        errno.ENAMETOOLONG: "the name is too long: give -o a shorter one",
        errno.EFBIG: "larger than the limit for files: raise it",
        errno.EDQUOT: "the disk quota is used up: free some space and run this again",
    }
    if isinstance(error, FileNotFoundError):  # stores raise it without an errno
        return remedies[errno.ENOENT]
    return remedies.get(error.errno or 0, error.strerror or str(error))
