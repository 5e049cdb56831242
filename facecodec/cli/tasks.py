"""Tasks, which a subcommand runs for each job, and their results."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from facecodec.cli.console import message_of
from facecodec.cli.files import Job
from facecodec.cli.outputs import compare_output, read_input, refuse_existing, write_output
from facecodec.cli.paths import explain, is_url
from facecodec.errors import FacecodecError


@dataclass(frozen=True)
class Note:
    """A remark on an input. Only the first note of a `kind` is shown."""

    text: str
    kind: str | None = None


@dataclass(frozen=True)
class Output:
    """The bytes to write for an input, the facts to report, and notes to show."""

    data: bytes
    facts: dict[str, Any]
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """The result of a job: the facts to report, or the reason of its `failure`.

    A shard's member is written later, with the shard, so its result has the `data` to write.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    notes: list[Note] = field(default_factory=list)
    data: bytes = b""


class Task(Protocol):
    """Turns a job into its result. It raises only BrokenPipeError, and can be pickled."""

    def __call__(self, job: Job) -> Result: ...

    def retry(self, job: Job) -> Task:
        """Returns the task to run if the process of this one dies. Called before this one runs."""


Runner = Callable[[Iterable[Job]], Iterator[tuple[Job, Result]]]  # yields results in order


class Operation(Protocol):
    """Turns an input's bytes into an output's: encode, or decode."""

    def expect(self, content: bytes) -> None:
        """Raises FormatError for content that is obviously of another kind.

        It is called before the output's name is checked.
        """

    def __call__(self, content: bytes) -> Output: ...


@dataclass(frozen=True)
class Convert:
    """The task of encode and decode: reads, converts, writes, and with `verify` reads back."""

    operation: Operation
    force: bool = False
    verify: bool = False

    def __call__(self, job: Job) -> Result:
        """Runs a job. Any error, even a bug, fails this job alone. Shards write their members."""
        started = time.perf_counter()
        try:
            content = read_input(job) if job.member is None else job.member.content
            self.operation.expect(content)
            if job.member is None:
                refuse_existing(job, self.force)
            output = self.operation(content)
            if job.member is None:
                write_output(job, output.data, self.force)
                if self.verify:
                    compare_output(job, hashlib.sha256(output.data).digest())
        except Exception as error:
            return Result(failure=reason(error))
        facts = output.facts | {"seconds": round(time.perf_counter() - started, 4)}
        return Result(facts, notes=output.notes, data=output.data if job.member else b"")

    def retry(self, job: Job) -> Convert:
        """Returns a task that may overwrite an output that only the dead process can have made."""
        fresh = job.target is None or not (is_url(job.target) or os.path.lexists(job.target))
        return replace(self, force=self.force or fresh)


def reason(error: Exception) -> str:
    """Returns in one line why an input failed. Raises BrokenPipeError, which ends the program."""
    if isinstance(error, BrokenPipeError):
        raise error
    if isinstance(error, FacecodecError):
        return message_of(error)
    if isinstance(error, OSError):
        return explain(error)
    if isinstance(error, MemoryError):
        return "not enough memory for a picture of this size"
    return f"internal error, please report it: {type(error).__name__}: {error}"
