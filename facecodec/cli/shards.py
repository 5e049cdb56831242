"""Codes the pictures in tar files, laid out as in WebDataset, and copies the other files."""

from __future__ import annotations

import hashlib
import math
import tarfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO, Any

from facecodec.cli.files import Job, Member, Naming
from facecodec.cli.outputs import compare_output, refuse_existing, writing
from facecodec.cli.paths import reaching
from facecodec.cli.tasks import Convert, Result, Runner, reason
from facecodec.errors import FormatError

_tarfile: Any = tarfile  # type checkers do not know its EOFHeaderError
# tarfile raises the last two for malformed numbers and for very long chains of headers.
UNREADABLE = (tarfile.TarError, OSError, ValueError, RecursionError)
Contents = Iterator[tuple[tarfile.TarInfo, bytes]]
KEPT = 1 << 26  # bytes of one temporary file with members that wait for pictures before them


@dataclass(frozen=True)
class Recode:
    """Runs a task for a shard's members with a suffix in `wanted`, and renames them by `naming`."""

    task: Convert
    wanted: frozenset[str]
    naming: Naming

    def __call__(self, shard: Job, run: Runner) -> Iterator[tuple[Job, Result]]:
        """Yields every picture in the shard with its result, and then the shard's failure, if any.

        A picture that fails is left out of the output. So is a member whose name a picture's output
        took. If all pictures fail, there is no output.
        """
        succeeded: set[bool] = set()
        try:
            refuse_existing(shard, self.task.force)
            assert shard.source is not None, "standard input is no shard"
            with open_shard(shard.source) as contents, writing(shard, self.task.force) as output:
                hashed = _Hashed(output)
                for job, result in self._copy(shard, contents, hashed, run):
                    succeeded.add(result.failure is None)
                    yield job, result
                if succeeded == {False}:
                    raise FormatError("none of its pictures succeeded, so no tar file was written")
            if self.task.verify:
                compare_output(shard, hashed.digest.digest())
        except Exception as error:
            yield shard, Result(failure=reason(error))

    def _copy(
        self, shard: Job, contents: Contents, output: _Hashed, run: Runner
    ) -> Iterator[tuple[Job, Result]]:
        sink: Any = output  # tarfile only calls its `write`
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as target:
            # Members, and the name of a picture's output or where another's content is kept.
            waiting = deque[tuple[tarfile.TarInfo, str | _Kept]]()
            kept: _Kept | None = None
            coded: set[str] = set()
            copied: set[str] = set()
            left_out: list[tuple[Job, Result]] = []
            remedy = "" if self.naming.keeps else ": encode with --keep-suffix"

            def pass_on(info: tarfile.TarInfo, content: bytes) -> None:
                if info.name in coded:
                    wrong = "a picture before it in the tar file becomes it too" + remedy
                    job = replace(shard, member=Member(info.name, info.name, b""))
                    left_out.append((job, Result(failure=wrong)))
                    return
                if info.name.endswith(self.naming.suffix):  # only these can be an output's name
                    copied.add(info.name)
                _add(target, info, content)

            def members() -> Iterator[Job]:
                nonlocal kept
                for info, content in contents:
                    if self._is_picture(info):
                        becomes = str(self.naming.of(PurePosixPath(info.name)))
                        waiting.append((info, becomes))
                        yield replace(shard, member=Member(info.name, becomes, content))
                    elif waiting:
                        if kept is None or kept.size > KEPT:
                            kept = _Kept()
                        kept.add(content)
                        waiting.append((info, kept))
                    else:
                        pass_on(info, content)

            for job, result in run(members()):
                info, name = waiting.popleft()
                assert isinstance(name, str), "only pictures are run"
                if info.islnk() or info.issym():
                    wrong = (
                        f"a link to {info.linkname}: pack it again with tar -h --hard-dereference"
                    )
                    result = Result(failure=wrong)
                if result.failure is None and name in coded:
                    result = Result(failure=f"another member becomes {name} too{remedy}")
                if result.failure is None and name in copied:
                    result = Result(failure=f"{name} is in the tar file already")
                if result.failure is None:
                    coded.add(name)
                    info.name = name
                    _add(target, info, result.data)
                yield job, replace(result, data=b"")
                while waiting and isinstance(place := waiting[0][1], _Kept):
                    pass_on(waiting.popleft()[0], place.next())
            yield from left_out

    def _is_picture(self, info: tarfile.TarInfo) -> bool:
        """Returns whether a member is to be coded, or is a link to one that is."""
        names = [info.name] if info.isreg() else []
        if info.islnk() or info.issym():
            names = [info.name, info.linkname]
        return any(PurePosixPath(name).suffix.lower() in self.wanted for name in names)


class _Info(tarfile.TarInfo):
    """A tar header that raises an error where tarfile would assume the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _Info:
        try:
            return super().fromtarfile(tar)
        except _tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


@contextmanager
def open_shard(path: Path) -> Iterator[Contents]:
    """Yields the members of a tar file and their content, which is empty unless they are files.

    Raises OSError if it cannot be opened. While it is read, raises FormatError for damage and for a
    sparse member.
    """

    def contents() -> Contents:
        try:
            with reaching(path), tarfile.open(fileobj=file, mode="r|", tarinfo=_Info) as source:
                for info in source:
                    if not math.isfinite(info.mtime):  # no header could be written with it
                        raise tarfile.ReadError("a member's time is not a number")
                    if info.issparse():  # a header alone can claim terabytes of zeros
                        raise FormatError(
                            f"{info.name} is stored as a sparse file: pack it again without --sparse"
                        )
                    member = source.extractfile(info) if info.isreg() else None
                    yield copy(info), b"" if member is None else member.read()
                    _forget_members(source)
        except UNREADABLE as error:
            raise FormatError(f"damaged tar file ({error}): fetch or copy it again") from None

    with reaching(path):
        file = path.open("rb")
    with file:
        yield contents()


def _add(target: tarfile.TarFile, info: tarfile.TarInfo, content: bytes) -> None:
    info.size = len(content)
    info.pax_headers = {}  # they have the input's name and size
    if info.isreg():
        info.type = tarfile.REGTYPE  # regular files may have had three other types
    target.addfile(info, BytesIO(content))
    _forget_members(target)


def _forget_members(archive: Any) -> None:
    """Empties tarfile's list of members, which would grow with the archive."""
    archive.members.clear()


class _Kept:
    """A temporary file with contents, which are read in the order in which they were added.

    In memory they would take more than the pictures: a tar file may have anything between two.
    """

    def __init__(self) -> None:
        self.size = 0
        self._file = TemporaryFile()  # noqa: SIM115 - it ends with the last member that waits
        self._sizes = deque[int]()
        self._read = 0

    def add(self, content: bytes) -> None:
        self._file.seek(self.size)
        self._file.write(content)
        self.size += len(content)
        self._sizes.append(len(content))

    def next(self) -> bytes:
        self._file.seek(self._read)
        content = self._file.read(self._sizes.popleft())
        self._read += len(content)
        return content


@dataclass
class _Hashed:
    """A file to write to, with the SHA-256 of what was written."""

    file: IO[bytes]
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)
