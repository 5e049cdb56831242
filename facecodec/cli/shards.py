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


@dataclass(frozen=True)
class Recode:
    """Runs a task for a shard's members with a suffix in `wanted`, and renames them by `naming`."""

    task: Convert
    wanted: frozenset[str]
    naming: Naming

    def __call__(self, shard: Job, run: Runner) -> Iterator[tuple[Job, Result]]:
        """Yields every picture in the shard with its result, and then the shard's failure, if any.

        A picture that fails is left out of the output. If all fail, there is no output.
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
            # Members with their output's name and content; None for a picture being coded.
            waiting = deque[tuple[tarfile.TarInfo, str, bytes | None]]()
            coded: set[str] = set()
            copied: set[str] = set()

            def pass_on(info: tarfile.TarInfo, content: Any) -> None:
                if info.name in coded:
                    raise FormatError(f"{info.name} is in it already, and a picture becomes it too")
                if info.name.endswith(self.naming.suffix):  # only these can be an output's name
                    copied.add(info.name)
                _add(target, info, content)

            def members() -> Iterator[Job]:
                for info, content in contents:
                    path = PurePosixPath(info.name)
                    linked = info.islnk() or info.issym()
                    if (info.isreg() or linked) and path.suffix.lower() in self.wanted:
                        becomes = str(self.naming.of(path))
                        waiting.append((info, becomes, None))
                        yield replace(shard, member=Member(info.name, becomes, content))
                    elif waiting:
                        waiting.append((info, info.name, content))
                    else:
                        pass_on(info, content)

            def keep() -> None:
                while waiting and waiting[0][2] is not None:
                    info, _, content = waiting.popleft()
                    pass_on(info, content or b"")

            for job, result in run(members()):
                info, name, _ = waiting.popleft()
                if info.islnk() or info.issym():
                    wrong = (
                        f"a link to {info.linkname}: pack it again with tar -h --hard-dereference"
                    )
                    result = Result(failure=wrong)
                if result.failure is None and name in coded:
                    wrong = f"another member becomes {name} too"
                    remedy = "" if self.naming.keeps else ": encode with --keep-suffix"
                    result = Result(failure=wrong + remedy)
                if result.failure is None and name in copied:
                    result = Result(failure=f"{name} is in the tar file already")
                if result.failure is None:
                    coded.add(name)
                    info.name = name
                    _add(target, info, result.data)
                yield job, replace(result, data=b"")
                keep()


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


@dataclass
class _Hashed:
    """A file to write to, with the SHA-256 of what was written."""

    file: IO[bytes]
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)
