"""Finds the inputs of a command and pairs them with outputs."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePath
from typing import TypeVar

from facecodec.cli.paths import (
    exists,
    explain,
    is_folder,
    is_read_only,
    is_special,
    is_url,
    reaching,
    real,
    to_path,
    walk,
)
from facecodec.errors import UsageError

STANDARD = "-"
SHARD = ".tar"  # shards.py codes the pictures in such a file
FIC = frozenset({".fic"})  # decode, verify and embed look for these in folders
FILE_SUFFIXES = frozenset(
    {".fic", ".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".ppm", SHARD}
)
AnyPath = TypeVar("AnyPath", bound=PurePath)


@dataclass(frozen=True)
class Naming:
    """The rule for the names of outputs.

    An output has its input's name, with `suffix` in place of the input's suffix, or after it if
    `keeps`. So with `keeps`, a.jpg and a.png get different outputs.
    """

    suffix: str
    keeps: bool = False

    def of(self, path: AnyPath) -> AnyPath:
        """Returns an output's path. Raises ValueError for one without a name, as of a server."""
        if self.keeps:
            return path.with_name(path.name + self.suffix)
        return path.with_suffix(self.suffix)


@dataclass(frozen=True)
class Job:
    """One input and its output. None means standard input or standard output."""

    source: Path | None
    target: Path | None
    makes_folders: bool = False  # whether to make the folders of the target, below OUT
    member: Member | None = None  # if the source is a shard, the picture in it

    @property
    def input_name(self) -> str:
        name = STANDARD if self.source is None else str(self.source)
        return name if self.member is None else f"{name}/{self.member.name}"

    @property
    def output_name(self) -> str:
        name = STANDARD if self.target is None else str(self.target)
        return name if self.member is None else f"{name}/{self.member.becomes}"

    @property
    def is_shard(self) -> bool:
        return self.member is None and self.source is not None and is_shard(self.source)


@dataclass(frozen=True)
class Member:
    """A picture in a shard: its name, its output's name, and its bytes."""

    name: str
    becomes: str
    content: bytes


@dataclass(frozen=True)
class Plan:
    """The jobs, and the inputs that failed before becoming one, each with the reason.

    In a shard, members with a suffix in `wanted` are coded and renamed by `naming`. `unwanted`
    counts the other files in folders by suffix.
    """

    jobs: list[Job]
    failures: list[tuple[str, str]]
    naming: Naming
    wanted: frozenset[str]
    unwanted: Counter[str] = field(default_factory=Counter)


def plan(
    inputs: tuple[str, ...],
    listed: list[str] | None,
    out: str | None,
    naming: Naming,
    wanted: frozenset[str],
    kind: str,
) -> Plan:
    """Pairs inputs with outputs.

    Folders are searched for files with the suffixes `wanted`; messages call them `kind`. `listed`
    are the paths of --files0-from. With several inputs, one fails alone if it cannot be reached, or
    if its output is also an input or another one's output. Raises UsageError for arguments that
    make no sense together.
    """
    if out == "":
        raise UsageError("-o is empty: is a shell variable unset?")
    if out not in (None, STANDARD) and is_read_only(to_path(out)):
        raise UsageError(f"{out}: HTTP is read-only: give another -o")
    names = all_names(inputs, listed)
    if "" in names:
        raise UsageError("an input's name is empty: is a shell variable unset?")
    if out is None and len(inputs) == 2 and _is_output(inputs[1], wanted):
        raise UsageError(_meant_as_output(inputs[1]))
    if STANDARD in names:
        if len(names) > 1:
            raise UsageError("'-' cannot be combined with other inputs")
        if out is not None and out != STANDARD and _is_folder(out):
            raise UsageError(
                f"standard input has no name to use in folder {out}: give -o a file name"
            )
        target = None if out in (None, STANDARD) else to_path(out)
        return Plan([Job(None, target)], [], naming, wanted)
    failures: list[tuple[str, str]] = []
    several = len(names) > 1 or listed is not None
    named = _reached(inputs, failures if several else None)
    others = _reached(listed or (), failures)
    several = several or any(map(is_folder, named))
    if out == STANDARD and several:
        raise UsageError("standard output takes one picture: give one input file, or -o a folder")
    folder = None
    if out is not None and out != STANDARD and (several or _is_folder(out)):
        folder = to_path(out)
        if exists(folder) and not is_folder(folder):
            needed = "several inputs need" if several else "that names"
            raise UsageError(f"{out} is a file, and {needed} a folder")
        if not _is_folder(out) and folder.suffix.lower() in FILE_SUFFIXES:
            raise UsageError(
                f"{out} looks like a file, and several inputs need a folder: "
                f"{out}/ if it is to be one"
            )

    base, remote_base = (
        _base([path for path in named if not is_url(path)]),
        _remote_base([*named, *others]),
    )
    found = []  # each file, and the folder that its place below OUT is relative to
    unwanted = Counter[str]()
    for path, root in [*((path, base) for path in named), *((path, Path.cwd()) for path in others)]:
        files, wrong = find(path, wanted, kind, unwanted)
        found += [(file, root) for file in files]
        failures += wrong

    jobs = []
    for path, root in dict.fromkeys(found):
        if not path.name:
            failures.append((str(path), "it names no file: check the path"))
            continue
        named_as = Naming(SHARD) if is_shard(path) else naming
        if out == STANDARD:
            target = None
        elif folder is not None:
            place = _remote_place(path, remote_base) if is_url(path) else _place(path, root)
            target = named_as.of(folder / place)
        elif out is not None:
            target = to_path(out)
            if is_shard(path) != is_shard(target):
                raise UsageError(
                    f"a {SHARD} file, and nothing else, becomes a {SHARD} file: give another -o"
                )
        elif is_read_only(path):
            failures.append((str(path), "HTTP is read-only: give -o a place for the output"))
            continue
        else:
            target = named_as.of(path)
        jobs.append(Job(path, target, makes_folders=folder is not None))
    colliding = _collisions(jobs)
    if colliding and not several:
        raise UsageError(next(iter(colliding.values())))
    failures += [(job.input_name, wrong) for job, wrong in colliding.items()]
    return Plan([job for job in jobs if job not in colliding], failures, naming, wanted, unwanted)


def is_shard(path: Path) -> bool:
    return path.suffix.lower() == SHARD


def find(
    path: Path, wanted: frozenset[str], kind: str, unwanted: Counter[str] | None = None
) -> tuple[list[Path], list[tuple[str, str]]]:
    """Returns the file at `path`, or a folder's files with a suffix in `wanted`, and failures.

    Failures are as in Plan. `unwanted` counts the suffixes of the folder's other files.
    """
    if not is_folder(path):
        return [path], []
    failures: list[tuple[str, str]] = []
    files = []
    for each in walk(path, failures):
        suffix = each.suffix.lower()
        if suffix in wanted and is_special(each):
            failures.append((str(each), "a pipe or a device: to read it, name it as an input"))
        elif suffix in wanted:
            files.append(each)
        elif unwanted is not None:
            unwanted[suffix] += 1
    if not files and not failures:
        failures.append((str(path), f"the folder contains no {kind}: check the path"))
    return files, failures


def all_names(inputs: Sequence[str], listed: list[str] | None) -> list[str]:
    """Returns the names given and those `listed`, of which there may be none.

    Raises UsageError without names and without a list.
    """
    if not inputs and listed is None:
        raise UsageError(
            "no input given: name files or folders, '-' for standard input, or --files0-from"
        )
    return [*inputs, *(listed or [])]


def find_fic(name: str) -> tuple[list[Path], list[tuple[str, str]]]:
    """Returns what `find` returns for the name of .fic files.

    If its store cannot be reached, that is a failure.
    """
    failures: list[tuple[str, str]] = []
    files = []
    for path in _reached([name], failures):
        found, wrong = find(path, FIC, ".fic files")
        files += found
        failures += wrong
    return files, failures


def read_list(name: str | None) -> list[str] | None:
    """Returns the NUL-separated paths in the file of --files0-from; '-' is standard input.

    Returns None without that option.
    """
    if name is None:
        return None
    try:
        if name == STANDARD:
            data = sys.stdin.buffer.read()
        else:
            path = to_path(name)
            with reaching(path):
                data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--files0-from {name}: {explain(error)}") from None
    if b"\n" in data and b"\0" not in data:
        raise UsageError(
            f"--files0-from {name}: paths must be separated by NUL bytes, "
            "as find -print0 writes them"
        )
    return [os.fsdecode(part) for part in data.split(b"\0") if part]


def _is_output(name: str, wanted: frozenset[str]) -> bool:
    """Returns whether a second input's name was meant as the output, as `cp` takes it."""
    suffix = Path(name).suffix.lower()
    return suffix in FILE_SUFFIXES - wanted and not is_url(name) and not os.path.lexists(name)


def _meant_as_output(name: str) -> str:
    return f"no such file {name}: if it is to be the output, give -o {name}"


def _is_folder(out: str) -> bool:
    return out.endswith(("/", os.sep)) or is_folder(to_path(out))


def _base(paths: list[Path]) -> Path:
    """Returns the common folder of local files. Missing files are ignored; they fail later."""
    there = [path for path in paths if os.path.exists(path)]
    folders = [os.path.abspath(path if os.path.isdir(path) else path.parent) for path in there]
    return Path(os.path.commonpath(folders)) if folders else Path.cwd()


def _remote_base(paths: list[Path]) -> list[str]:
    """Returns the parts of the common folder of URLs."""
    folders = [path if is_folder(path) else path.parent for path in paths if is_url(path)]
    parts = zip(*(str(folder).rstrip("/").split("/") for folder in folders), strict=False)
    return [same[0] for same in takewhile(lambda each: len(set(each)) == 1, parts)]


def _remote_place(path: Path, base: list[str]) -> Path:
    return Path(
        *(part for part in str(path).split("/")[len(base) :] if part not in ("", ".", ".."))
    )


def _place(path: Path, root: Path) -> Path:
    """Returns the place of a file below OUT: its path from `root`, or else its whole path."""
    absolute = Path(os.path.abspath(path))
    return absolute.relative_to(root if absolute.is_relative_to(root) else absolute.anchor)


def _collisions(jobs: list[Job]) -> dict[Job, str]:
    """Returns the jobs whose output must not be written, each with the reason.

    If two jobs have one output, the later one fails, as in `cp`.
    """
    sources = {real(job.source): job for job in jobs if job.source is not None}
    targets: dict[str, Job] = {}
    colliding = {}
    for job in jobs:
        if job.target is None or is_special(job.target):
            continue
        target = real(job.target)
        if target in sources:
            name = sources[target].input_name
            if not is_url(job.target) and not os.path.lexists(target):
                wrong = _meant_as_output(name)
            elif sources[target] is job:
                wrong = (
                    f"{name} would be overwritten by its own output: "
                    "is it the right file? If so, give another -o"
                )
            else:
                wrong = (
                    f"{job.output_name} is an input too and must not be overwritten: "
                    "give another -o"
                )
            colliding[job] = wrong
        elif target in targets:
            colliding[job] = (
                f"{job.output_name} is already the output of {targets[target].input_name}: "
                "encode with --keep-suffix, or give another -o"
            )
        else:
            targets[target] = job
    return colliding


def _reached(names: Iterable[str], failures: list[tuple[str, str]] | None) -> list[Path]:
    """Returns the paths of names. A name whose store cannot be reached goes to `failures`.

    Without `failures` this raises UsageError or OSError.
    """
    paths = []
    for name in names:
        try:
            path = to_path(name)
            is_folder(path)  # sends a request to a store
        except (UsageError, OSError) as error:
            if failures is None:
                raise
            wrong = explain(error) if isinstance(error, OSError) else str(error)
            failures.append((name, wrong.removeprefix(f"{name}: ")))
        else:
            paths.append(path)
    return paths
