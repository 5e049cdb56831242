"""Which inputs there are, where their outputs go, and how those come to be whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from facecodec.errors import FacecodecError, UsageError

STANDARD = "-"


class OutputError(FacecodecError):
    """An output could not be written."""


@dataclass(frozen=True)
class Job:
    """One input and its output; None stands for standard input and standard output."""

    source: Path | None
    target: Path | None

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
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"{out} is a file, and several inputs need a folder")

    failures: list[tuple[str, str]] = []
    found: list[tuple[Path, Path]] = []  # each file, and the folder its place below OUT is relative to
    named = [Path(name) for name in inputs]
    base = Path(os.path.commonpath([os.path.abspath(p if p.is_dir() else p.parent) for p in named])) if named else None
    for path, root in [*((p, base) for p in named), *((Path(name), Path.cwd()) for name in listed or [])]:
        if path.is_dir():
            files = [p for p in _walk(path) if is_wanted(p)]
            if not files:
                failures.append((str(path), f"the folder holds no {kind}"))
            found += [(file, root) for file in files]
        else:
            found.append((path, root))

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
        jobs.append(Job(path, target))
    _refuse_collisions(jobs)
    return Plan(jobs, failures)


def read_list(name: str) -> list[str]:
    """The NUL-separated paths of --files0-from, '-' being standard input."""
    try:
        data = sys.stdin.buffer.read() if name == STANDARD else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"--files0-from {name}: {error.strerror}") from None
    return [os.fsdecode(part) for part in data.split(b"\0") if part]


def _is_folder(out: str) -> bool:
    return out.endswith(("/", os.sep)) or os.path.isdir(out)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
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
    for job in jobs:
        if job.target is None or is_special(job.target):
            continue
        real = os.path.realpath(job.target)
        if real in sources:
            raise UsageError(f"{job.output_name} is an input too, and inputs are never overwritten: give another -o")
        if real in targets:
            first = targets[real].input_name
            raise UsageError(f"{first} and {job.input_name} would both write {job.output_name}: encode one at a time")
        targets[real] = job


def is_special(path: Path) -> bool:
    """A device or pipe, which is written to and never replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def refuse_existing(job: Job, force: bool) -> None:
    """Raise OutputError, before any work is done, where the output is there already."""
    if job.target is not None and not force and (job.target.is_file() or job.target.is_dir()):
        raise OutputError(f"{job.target} exists: -f overwrites it")


def write_output(job: Job, data: bytes) -> None:
    """Put `data` under the output's name once it is whole. Raises OutputError; leaves nothing partial."""
    try:
        if job.target is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        elif is_special(job.target):
            job.target.write_bytes(data)
        else:
            _write_whole(Path(os.path.realpath(job.target)), data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {job.output_name}: {explain(error)}") from None


def _write_whole(target: Path, data: bytes) -> None:
    partial = target.with_name(f".{target.name[:80]}.{os.getpid()}.partial")
    try:
        with open(partial, "xb") as file:
            file.write(data)
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def make_folders(jobs: Iterable[Job], out: str | None) -> None:
    """Create the folders below OUT that the outputs need."""
    if out is None or out == STANDARD:
        return
    for folder in {job.target.parent for job in jobs if job.target is not None}:
        if folder == Path(out) or folder.is_relative_to(out):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"cannot make folder {folder}: {explain(error)}") from None


def explain(error: OSError) -> str:
    """What went wrong and what to do about it, in a few words."""
    remedies = {
        errno.ENOENT: "no such file or folder: check the path",
        errno.EACCES: "permission denied: check its owner and mode",
        errno.ENOSPC: "no space left: free some and run this again",
        errno.EROFS: "the file system is read-only: choose another place",
        errno.EISDIR: "it is a folder",
        errno.ENOTDIR: "a part of the path is not a folder",
    }
    return remedies.get(error.errno or 0, error.strerror or str(error))


def open_input(job: Job) -> IO[bytes]:
    if job.source is None:
        return sys.stdin.buffer
    return open(job.source, "rb")
