"""Which inputs there are, where their outputs go, and how those come to be whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from facecodec.errors import FacecodecError, UsageError

STANDARD = "-"
FILE_SUFFIXES = (".fic", ".png", ".jpg", ".jpeg", ".ppm")


class OutputError(FacecodecError):
    """An output could not be written."""


@dataclass(frozen=True)
class Job:
    """One input and its output; None stands for standard input and standard output."""

    source: Path | None
    target: Path | None
    makes_folders: bool = False  # whether the target lies below a folder OUT, made as needed

    @property
    def input_name(self) -> str:
        return STANDARD if self.source is None else str(self.source)

    @property
    def output_name(self) -> str:
        return STANDARD if self.target is None else str(self.target)


@dataclass(frozen=True)
class Plan:
    """The jobs, and the inputs that could not become one: (name, reason)."""

    jobs: list[Job]
    failures: list[tuple[str, str]]


def plan(
    inputs: tuple[str, ...],
    listed: list[str] | None,
    out: str | None,
    suffix: str,
    is_wanted: Callable[[Path], bool],
    kind: str,
) -> Plan:
    """Pair inputs with outputs named `suffix`; folders are searched for files that `is_wanted`, of a `kind`.

    `listed` are the paths of --files0-from. Raises UsageError for what cannot be meant, two inputs
    with one output or an output that is also an input among it.
    """
    names = list(inputs) + (listed or [])
    if listed is None and not inputs:
        raise UsageError("no input given: name files or folders, '-' for standard input, or --files0-from")
    if "" in names:
        raise UsageError("an input's name is empty: is a shell variable unset?")
    if STANDARD in names:
        if len(names) > 1:
            raise UsageError("'-' cannot be combined with other inputs")
        if out is not None and out != STANDARD and _is_folder(out):
            raise UsageError(f"standard input has no name to use in folder {out}: give -o a file name")
        return Plan([Job(None, None if out in (None, STANDARD) else Path(out))], [])
    several = len(names) > 1 or listed is not None or any(os.path.isdir(name) for name in names)
    if out == STANDARD and several:
        raise UsageError("standard output takes one picture: give one input file, or -o a folder")
    folder = None if out is None or out == STANDARD or not (several or _is_folder(out)) else Path(out)
    if folder is not None and os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"{out} is a file, and {'several inputs need' if several else 'that names'} a folder")
    if folder is not None and not _is_folder(out) and folder.suffix.lower() in FILE_SUFFIXES:
        raise UsageError(f"{out} looks like a file, and several inputs need a folder: {out}/ if it is to be one")

    named = [Path(name) for name in inputs]
    # A missing input is an error of its own, and must not change where the others go.
    there = [path for path in named if os.path.exists(path)]
    folders = [os.path.abspath(path if os.path.isdir(path) else path.parent) for path in there]
    base = Path(os.path.commonpath(folders)) if folders else Path.cwd()
    found, failures = [], []  # each file, and the folder its place below OUT is relative to
    for path, root in [*((p, base) for p in named), *((Path(name), Path.cwd()) for name in listed or [])]:
        files, wrong = find(path, is_wanted, kind)
        found += [(file, root) for file in files]
        failures += wrong

    jobs = []
    for path, root in dict.fromkeys(found):
        if out == STANDARD:
            target = None
        elif folder is not None:
            target = (folder / _place(path, root)).with_suffix(suffix)
        elif out is not None:
            target = Path(out)
        else:
            target = path.with_suffix(suffix)
        jobs.append(Job(path, target, makes_folders=folder is not None))
    _refuse_collisions(jobs)
    return Plan(jobs, failures)


def find(path: Path, is_wanted: Callable[[Path], bool], kind: str) -> tuple[list[Path], list[tuple[str, str]]]:
    """The file at `path`, or those in a folder that `is_wanted`, of a `kind`; and failures as a Plan has them."""
    if not os.path.isdir(path):
        return [path], []
    failures: list[tuple[str, str]] = []
    files = [each for each in _walk(path, failures) if is_wanted(each)]
    if not files and not failures:
        failures.append((str(path), f"the folder holds no {kind}: check the path"))
    return files, failures


def read_list(name: str) -> list[str]:
    """The NUL-separated paths of --files0-from, '-' being standard input."""
    try:
        data = sys.stdin.buffer.read() if name == STANDARD else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"--files0-from {name}: {explain(error)}") from None
    if b"\n" in data and b"\0" not in data:
        raise UsageError(f"--files0-from {name}: paths must be separated by NUL bytes, as find -print0 writes them")
    return [os.fsdecode(part) for part in data.split(b"\0") if part]


def _is_folder(out: str) -> bool:
    return out.endswith(("/", os.sep)) or os.path.isdir(out)


def _walk(folder: Path, unreadable: list[tuple[str, str]]) -> Iterator[Path]:
    """Files below a folder, in order; folders that cannot be listed go to `unreadable`, with the reason."""

    def note(error: OSError) -> None:
        unreadable.append((str(error.filename), explain(error)))

    for parent, folders, files in os.walk(folder, onerror=note):
        folders.sort()
        for file in sorted(files):
            yield Path(parent) / file


def _place(path: Path, root: Path) -> Path:
    """Where a file lies relative to `root`; one outside it keeps its whole path, below OUT all the same."""
    absolute = Path(os.path.abspath(path))
    return absolute.relative_to(root if absolute.is_relative_to(root) else absolute.anchor)


def _refuse_collisions(jobs: list[Job]) -> None:
    sources = {os.path.realpath(job.source): job for job in jobs if job.source is not None}
    targets: dict[str, Job] = {}
    colliding: list[str] = []
    for job in jobs:
        if job.target is None or is_special(job.target):
            continue
        real = os.path.realpath(job.target)
        if real in sources:
            name = sources[real].input_name
            if not os.path.lexists(real):
                raise UsageError(f"{name}: no such file; if it is to be the output, give -o {name}")
            raise UsageError(f"{job.output_name} is an input too, and inputs are never overwritten: give another -o")
        if real in targets:
            colliding.append(f"{targets[real].input_name} and {job.input_name} would both write {job.output_name}")
        targets.setdefault(real, job)
    if colliding:
        more = f" (and {len(colliding) - 1} more do so)" if len(colliding) > 1 else ""
        raise UsageError(f"{colliding[0]}{more}: take one alone, with another -o")


def is_special(path: Path) -> bool:
    """A device or pipe, which is written to and never replaced."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def refuse_existing(job: Job, force: bool) -> None:
    """Raise OutputError, before any work is done, where the output is there already."""
    if job.target is None:
        return
    if os.path.isdir(job.target):
        raise OutputError(f"{job.target} is a folder: give -o another name")
    if not force and os.path.isfile(job.target):
        raise _exists(job)


def _exists(job: Job) -> OutputError:
    return OutputError(f"{job.target} exists: -f overwrites it, --skip-existing passes over it")


def read_input(job: Job) -> bytes:
    if job.source is not None:
        return job.source.read_bytes()
    if sys.stdin is None:
        raise FacecodecError("standard input is closed")
    return sys.stdin.buffer.read()


def write_output(job: Job, data: bytes, force: bool) -> None:
    """Put `data` under the output's name once it is whole. Raises OutputError; leaves nothing partial."""
    try:
        if job.target is None:
            if sys.stdout is None:
                raise OutputError("standard output is closed")
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        elif is_special(job.target):
            job.target.write_bytes(data)
        else:
            if job.makes_folders:
                job.target.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(Path(os.path.realpath(job.target)), data, force, _permissions(job.source))
    except BrokenPipeError:
        raise
    except FileExistsError:
        raise _exists(job) from None
    except OSError as error:
        raise OutputError(f"cannot write {job.output_name}: {explain(error)}") from None


def compare_output(job: Job, data: bytes) -> None:
    """Raise OutputError unless the output, read back, is `data`; standard output and devices cannot be."""
    if job.target is not None and not is_special(job.target) and job.target.read_bytes() != data:
        raise OutputError(f"{job.target}: what is read back is not what was written: check the disk")


def _write_whole(target: Path, data: bytes, force: bool, mode: int | None) -> None:
    """Raises FileExistsError where the target has come to be in the meantime, unless `force`.

    `mode` are the input's permissions, of which the output is to have no more.
    """
    partial = target.with_name(f".facecodec-{os.urandom(8).hex()}.partial")
    try:  # around everything: Ctrl-C may come as soon as the file is there
        if not _write_unnamed(partial if force else target, data, mode):
            with open(partial, "xb") as file:
                _limit(file, mode)
                file.write(data)
            if not force:
                _name(partial, target)
        if force:
            os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _permissions(source: Path | None) -> int | None:
    try:
        return None if source is None else stat.S_IMODE(source.stat().st_mode)
    except OSError:  # it has vanished since it was read
        return None


def _limit(file: IO[bytes], mode: int | None) -> None:
    if mode is not None and hasattr(os, "fchmod"):
        os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode) & mode)


def _write_unnamed(path: Path, data: bytes, mode: int | None) -> bool:
    """Write a file that gets its name when it is whole, so that even kill -9 leaves nothing.

    False where the system has no such files. Raises FileExistsError.
    """
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except (AttributeError, OSError):  # not Linux, or not this file system
        return False
    with open(descriptor, "wb") as file:
        _limit(file, mode)
        file.write(data)
        file.flush()
        try:  # a directory to start from, which an absolute path has no use for, makes Python follow the link
            os.link(f"/proc/self/fd/{file.fileno()}", path, src_dir_fd=file.fileno())
        except FileExistsError:
            raise
        except OSError:
            return False
    return True


def _name(partial: Path, target: Path) -> None:
    """Rename, but not over a file that exists; some file systems can only do the former."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:
        os.replace(partial, target)
    else:
        partial.unlink()


def explain(error: OSError) -> str:
    """What went wrong and what to do about it, in a few words."""
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
    return remedies.get(error.errno or 0, error.strerror or str(error))
