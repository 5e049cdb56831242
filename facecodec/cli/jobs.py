"""What is done for an input, and what came of it."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from facecodec.cli.files import Job
from facecodec.cli.outputs import compare_output, read_input, refuse_existing, write_output
from facecodec.cli.paths import explain
from facecodec.errors import FacecodecError

WORTH = 8  # jobs that pay for starting a process


@dataclass(frozen=True)
class Note:
    """Something to tell of an input; with a `kind`, once for all inputs that it holds for."""

    text: str
    kind: str | None = None


@dataclass(frozen=True)
class Worked:
    """What an input's bytes became: the output's bytes, what to report, what to tell."""

    data: bytes
    result: dict[str, Any]
    notes: list[Note] = field(default_factory=list)


class Work(Protocol):
    """What a subcommand does with an input's bytes."""

    def expect(self, content: bytes) -> None:
        """Raise FormatError for what is plainly something else, before the output is looked at."""

    def __call__(self, content: bytes) -> Worked: ...


@dataclass(frozen=True)
class Outcome:
    """What came of a job: `result` to report, or the reason of its `failure`; of a shard's member its output too."""

    result: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    notes: list[Note] = field(default_factory=list)
    data: bytes = b""


def reason(error: Exception) -> str:
    """What an exception costs an input, in a line. Raises BrokenPipeError, which ends everything."""
    if isinstance(error, BrokenPipeError):
        raise error
    if isinstance(error, FacecodecError):
        return str(error)
    if isinstance(error, OSError):
        return explain(error)
    if isinstance(error, MemoryError):
        return "not enough memory for a picture of this size"
    return f"internal error, please report it: {type(error).__name__}: {error}"


@dataclass(frozen=True)
class Steps:
    """What is done for each job: read, work, write, and with `verify` read again. Pickled for other processes."""

    work: Work
    force: bool = False
    verify: bool = False

    def __call__(self, job: Job) -> Outcome:
        """Whatever goes wrong costs this job alone, a fault of ours too. A shard's member is worked on, not written."""
        started = time.perf_counter()
        try:
            content = read_input(job) if job.member is None else job.member.content
            self.work.expect(content)
            if job.member is None:
                refuse_existing(job, self.force)
            worked = self.work(content)
            if job.member is None:
                write_output(job, worked.data, self.force)
                if self.verify:
                    compare_output(job, hashlib.sha256(worked.data).digest())
        except Exception as error:
            return Outcome(failure=reason(error))
        result = worked.result | {"seconds": round(time.perf_counter() - started, 4)}
        return Outcome(result, notes=worked.notes, data=worked.data if job.member else b"")


Outcomes = Callable[[Iterable[Job]], Iterator[tuple[Job, Outcome]]]


@contextmanager
def workers(jobs: Sequence[Job], steps: Steps, processes: int | None) -> Iterator[Outcomes]:
    """What does jobs and gives each with what came of it, in order; with None for `processes`, by as many as pay."""
    holds_many = any(job.is_shard for job in jobs)
    most = math.inf if holds_many else len(jobs) if processes else -(-len(jobs) // WORTH)
    processes = min(processes or os.cpu_count() or 1, most)
    if processes <= 1:
        yield lambda jobs: ((job, steps(job)) for job in jobs)
        return
    from facecodec.cli.pool import Pool  # multiprocessing is slow to import

    with Pool(steps, processes) as pool:
        yield pool.outcomes
