"""Tar files of many pictures, as WebDataset lays them out: each picture is coded, the other files are kept."""

from __future__ import annotations

import hashlib
import tarfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

from facecodec.cli.files import Job, Member
from facecodec.cli.jobs import Outcome, Outcomes, Steps, reason
from facecodec.cli.outputs import compare_output, refuse_existing, writing
from facecodec.cli.paths import reaching
from facecodec.errors import FormatError

Contents = Iterator[tuple[tarfile.TarInfo, bytes]]


@dataclass(frozen=True)
class Recode:
    """What is done for a shard: its members that end as is `wanted` are worked on and get `suffix`."""

    steps: Steps
    wanted: frozenset[str]
    suffix: str

    def __call__(self, shard: Job, outcomes: Outcomes) -> Iterator[tuple[Job, Outcome]]:
        """What came of every picture in it, worked on by `outcomes`; then, where all was for nothing, of the shard.

        A picture that fails is left out.
        """
        try:
            refuse_existing(shard, self.steps.force)
            with open_shard(shard.source) as contents, writing(shard, self.steps.force) as output:
                hashed = _Hashed(output)
                yield from self._copy(shard, contents, hashed, outcomes)
            if self.steps.verify:
                compare_output(shard, hashed.digest.digest())
        except Exception as error:
            yield shard, Outcome(failure=reason(error))

    def _copy(
        self, shard: Job, contents: Contents, output: _Hashed, outcomes: Outcomes
    ) -> Iterator[tuple[Job, Outcome]]:
        with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as target:
            waiting: deque[tuple[tarfile.TarInfo, bytes | None]] = (
                deque()
            )  # None: the picture is being worked on
            names: set[str] = set()

            def members() -> Iterator[Job]:
                for info, content in contents:
                    path = PurePosixPath(info.name)
                    if info.isreg() and path.suffix.lower() in self.wanted:
                        waiting.append((info, None))
                        becomes = str(path.with_suffix(self.suffix))
                        yield replace(shard, member=Member(info.name, becomes, content))
                    elif waiting:
                        waiting.append((info, content))
                    else:
                        _add(target, info, content)

            def keep() -> None:
                while waiting and waiting[0][1] is not None:
                    _add(target, *waiting.popleft())

            for job, outcome in outcomes(members()):
                info, _ = waiting.popleft()
                if outcome.failure is None and job.member.becomes in names:
                    outcome = Outcome(
                        failure=f"another picture there has become {job.member.becomes}: rename one"
                    )
                if outcome.failure is None:
                    names.add(job.member.becomes)
                    info.name = job.member.becomes
                    _add(target, info, outcome.data)
                yield job, replace(outcome, data=b"")
                keep()


class _Info(tarfile.TarInfo):
    """A header that tarfile would take for the end of the archive is an error."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


@contextmanager
def open_shard(path: Path) -> Iterator[Contents]:
    """Everything in a tar file, with empty bytes for what is no regular file.

    Raises OSError where it cannot be opened, and FormatError, as it is read, where it is damaged.
    """

    def contents() -> Contents:
        try:
            with reaching(path), tarfile.open(fileobj=file, mode="r|", tarinfo=_Info) as source:
                for info in source:
                    yield copy(info), source.extractfile(info).read() if info.isreg() else b""
                    source.members.clear()  # which it would keep all of
        except (tarfile.TarError, OSError) as error:
            raise FormatError(f"damaged tar file ({error}): fetch or copy it again") from None

    with reaching(path):
        file = path.open("rb")
    with file:
        yield contents()


def _add(target: tarfile.TarFile, info: tarfile.TarInfo, content: bytes) -> None:
    info.size = len(content)
    info.pax_headers = {}  # the name and size that were
    if info.isreg():
        info.type = tarfile.REGTYPE  # what was sparse is no longer
    target.addfile(info, BytesIO(content))
    target.members.clear()


@dataclass
class _Hashed:
    """A file to write to that knows what it was given."""

    file: IO[bytes]
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)
