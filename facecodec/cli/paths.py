"""Paths of files here, and of those that a URL names, which fsspec reaches."""

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
    """Returns whether a path, or the name of one, is a URL's.

    A URL's path is a UPath, whose `protocol` names its store; before universal-pathlib 0.3 it is a
    pathlib.Path too, so that its type says nothing.
    """
    return "://" in path if isinstance(path, str) else bool(getattr(path, "protocol", ""))


def to_path(name: str) -> Path:
    """Returns the path of a name. Raises UsageError for a URL whose package is not installed."""
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
        _ = path.fs  # loads the package for this kind of store
    except (ImportError, ValueError) as error:
        raise UsageError(f"{name}: {error}") from None
    return path


class LocalPath(click.Path):
    """The type of an argument that is a path here. Raises UsageError for a URL.

    A pathlib.Path of "s3://bucket/x" is the file x in a folder "s3:" here.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if is_url(str(value)):
            self.fail(f"'{value}' is a URL: give a path on this machine", param, ctx)
        return super().convert(value, param, ctx)


def in_store(path: Path) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL's store, and the path in it."""
    remote: Any = path  # a UPath, which type checkers do not know
    return remote.fs, remote.path


@contextmanager
def reaching(path: Path | None) -> Iterator[None]:
    """Turns what a URL's store raises into the OSError that a local file would have raised."""
    try:
        yield
    except Exception as error:
        if path is None or not is_url(path) or isinstance(error, (OSError, FacecodecError)):
            raise
        raise OSError(f"{type(error).__name__}: {error}") from None


def exists(path: Path) -> bool:
    if not is_url(path):
        return os.path.exists(path)
    with reaching(path):
        return path.exists()


def is_folder(path: Path) -> bool:
    """Returns whether a folder is there.

    A URL with a suffix is taken for a file, without a request.
    """
    if not is_url(path):
        return os.path.isdir(path)
    with reaching(path):
        return not path.suffix and path.is_dir()


def is_special(path: Path) -> bool:
    """Returns whether a path is a device or pipe, which is written to and never replaced."""
    return (
        not is_url(path)
        and os.path.exists(path)
        and not os.path.isfile(path)
        and not os.path.isdir(path)
    )


def real(path: Path) -> str:
    """Returns a path that all names of one file share."""
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
    """Returns what went wrong and what to do about it, in a few words."""
    remedies = {
        errno.ENOENT: "no such file or folder: check the path",
        errno.EACCES: "permission denied: check owner and mode of the file and its folder",
        errno.ENOSPC: "no space left: free some and run this again",
        errno.EROFS: "the file system is read-only: choose another place",
        errno.EISDIR: "it is a folder: name the files in it",
        errno.ENOTDIR: "a part of the path is not a folder",
        errno.ENAMETOOLONG: "the name is too long: give -o a shorter one",
        errno.EFBIG: "larger than the limit for files: raise it",
        errno.EDQUOT: "the disk quota is used up: free some space and run this again",
    }
    if isinstance(error, FileNotFoundError):  # stores raise it without a number
        return remedies[errno.ENOENT]
    return remedies.get(error.errno or 0, error.strerror or str(error))
