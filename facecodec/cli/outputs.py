"""Reading inputs, and writing outputs whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from facecodec.cli.files import Job
from facecodec.cli.paths import exists, explain, in_store, is_special, is_url, reaching
from facecodec.errors import FacecodecError

BLOCK = 1 << 20  # bytes read at a time


class OutputError(FacecodecError):
    """An output could not be written."""


def refuse_existing(job: Job, force: bool) -> None:
    """Raises OutputError if the output exists, so that no work is done for nothing."""
    if job.target is None or (force and is_url(job.target)):
        return
    if not is_url(job.target) and os.path.isdir(job.target):
        raise OutputError(f"{job.target} is a folder: give -o another name")
    if not force and (exists(job.target) if is_url(job.target) else job.target.is_file()):
        raise already_there(job)


def outputs_there(jobs: Iterable[Job]) -> set[Job]:
    """Returns the jobs whose output is an existing file.

    Each folder of a store is listed only once.
    """
    listed: dict[str, set[str]] = {}
    found = set()
    for job in jobs:
        if job.target is None:
            continue
        if not is_url(job.target):
            if os.path.isfile(job.target):  # also False for a name that is too long
                found.add(job)
            continue
        folder = job.target.parent
        if str(folder) not in listed:
            try:
                with reaching(folder):
                    store, path = in_store(folder)
                    names = store.ls(path, detail=False)
                    listed[str(folder)] = {PurePosixPath(each).name for each in names}
            except FileNotFoundError:
                listed[str(folder)] = set()
        if job.target.name in listed[str(folder)]:
            found.add(job)
    return found


def _make_folders(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # which here is not about the output
        raise NotADirectoryError(errno.ENOTDIR, error.strerror, error.filename) from None


def already_there(job: Job) -> OutputError:
    return OutputError(f"{job.target} exists: -f overwrites it")


def read_input(job: Job) -> bytes:
    if job.source is not None:
        with reaching(job.source):
            return job.source.read_bytes()
    if sys.stdin is None:
        raise FacecodecError("standard input is closed")
    return sys.stdin.buffer.read()


def write_output(job: Job, data: bytes, force: bool) -> None:
    """Writes `data` to the output, whole or not at all. Raises OutputError."""
    with writing(job, force) as file:
        file.write(data)


@contextmanager
def writing(job: Job, force: bool) -> Iterator[IO[bytes]]:
    """Yields a file to write to.

    It gets the output's name at the end of the block. If the block raises, the file is removed.
    Raises OutputError, also for an OSError of the block.
    """
    try:
        if job.target is None:
            if sys.stdout is None:
                raise OutputError("standard output is closed")
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif is_special(job.target):
            with open(job.target, "wb") as file:
                yield file
        elif is_url(job.target):
            with _remote(job.target, force) as file:
                yield file
        else:
            if job.makes_folders:
                _make_folders(job.target.parent)
            with _whole(
                Path(os.path.realpath(job.target)), force, _permissions(job.source)
            ) as file:
                yield file
    except BrokenPipeError:
        raise
    except FileExistsError:
        raise already_there(job) from None
    except OSError as error:
        wrong = explain(error)
        folder = None if job.target is None or is_url(job.target) else job.target.parent
        if error.errno == errno.ENOENT and folder is not None and not folder.exists():
            wrong = f"there is no folder {folder}: make it first"
        raise OutputError(f"cannot write {job.output_name}: {wrong}") from None


def compare_output(job: Job, digest: bytes) -> None:
    """Raises OutputError unless the output, read back, has this SHA-256.

    Standard output and devices are not compared, because they cannot be read.
    """
    if job.target is None or is_special(job.target):
        return
    found = hashlib.sha256()
    with reaching(job.target), job.target.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    if found.digest() != digest:
        raise OutputError(
            f"{job.target}: the file read back is not the file written: check the disk"
        )


@contextmanager
def _remote(target: Path, force: bool) -> Iterator[IO[bytes]]:
    """Yields a local file, and sends it to a store when it is whole.

    Most stores cannot refuse to overwrite an object, so this checks before whether it exists.
    """
    import tempfile  # slow to import

    if not force and exists(target):
        raise FileExistsError
    with tempfile.NamedTemporaryFile() as file:
        yield file
        file.flush()
        with reaching(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            store, path = in_store(target)
            store.put_file(file.name, path)


@contextmanager
def _whole(target: Path, force: bool, mode: int | None) -> Iterator[IO[bytes]]:
    """Yields a file that becomes `target`.

    Raises FileExistsError if `target` exists by then, unless `force`. The output gets no more
    permissions than `mode`, the input's.
    """
    partial = target.with_name(f".facecodec-{os.urandom(8).hex()}.partial")
    try:  # encloses everything, because Ctrl-C may come as soon as the file exists
        unnamed = _unnamed(target.parent)
        with unnamed or open(partial, "xb") as file:
            _limit(file, mode)
            yield file
            file.flush()
            name = _link(file, target, partial if force else None) if unnamed else None
            if unnamed and name is None:
                import shutil

                file.seek(0)
                with open(partial, "xb") as copy:
                    _limit(copy, mode)
                    shutil.copyfileobj(file, copy)
        if name == target:
            return
        if force:
            os.replace(partial, target)
        else:
            _name(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _permissions(source: Path | None) -> int | None:
    try:
        return None if source is None or is_url(source) else stat.S_IMODE(source.stat().st_mode)
    except OSError:  # the source has been deleted since it was read
        return None


def _limit(file: IO[bytes], mode: int | None) -> None:
    if mode is not None and hasattr(os, "fchmod"):
        os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode) & mode)


def _unnamed(folder: Path) -> IO[bytes] | None:
    """Opens a file without a name, of which not even kill -9 leaves a trace.

    Returns None if the system cannot.
    """
    try:
        return open(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), "w+b")
    except (AttributeError, OSError):  # not Linux, or not this file system
        return None


def _link(file: IO[bytes], target: Path, otherwise: Path | None) -> Path | None:
    """Gives an unnamed file the name `target`, or `otherwise` if that exists already.

    `target` comes first, because a process that is killed after it has linked `otherwise` leaves
    that name behind. Returns the name, or None if the system cannot. Raises FileExistsError.
    """
    try:  # src_dir_fd makes Python follow the link, although the path is absolute
        os.link(f"/proc/self/fd/{file.fileno()}", target, src_dir_fd=file.fileno())
    except FileExistsError:
        if otherwise is None:
            raise
        return _link(file, otherwise, None)
    except OSError:
        return None
    return target


def _name(partial: Path, target: Path) -> None:
    """Renames a file, without overwriting another one where the file system allows that."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:
        os.replace(partial, target)
    else:
        partial.unlink()
