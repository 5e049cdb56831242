"""What is done for an input, and what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from facecodec.cli.files import Job, compare_output, explain, read_input, refuse_existing, write_output
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
    """What came of a job: `result` to report, or the reason of its `failure`."""

    result: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Steps:
    """What is done for each job: read, work, write, and with `verify` read again. Pickled for other processes."""

    work: Work
    force: bool
    verify: bool = False

    def __call__(self, job: Job) -> Outcome:
        """Whatever goes wrong costs this job alone."""
        try:
            started = time.perf_counter()
            content = read_input(job)
            self.work.expect(content)
            refuse_existing(job, self.force)
            worked = self.work(content)
            write_output(job, worked.data, self.force)
            if self.verify:
                compare_output(job, worked.data)
        except BrokenPipeError:
            raise
        except FacecodecError as error:
            return Outcome(failure=str(error))
        except OSError as error:
            return Outcome(failure=explain(error))
        except MemoryError:
            return Outcome(failure="not enough memory for a picture of this size")
        except Exception as error:  # a fault of ours must not cost the inputs that follow
            return Outcome(failure=f"internal error, please report it: {type(error).__name__}: {error}")
        seconds = round(time.perf_counter() - started, 4)
        return Outcome(worked.result | {"seconds": seconds}, notes=worked.notes)


def outcomes(jobs: Sequence[Job], steps: Steps, processes: int | None) -> Iterator[tuple[Job, Outcome]]:
    """Every job and what came of it, in order. With None for `processes`, there are as many as pay."""
    most = len(jobs) if processes else -(-len(jobs) // WORTH)
    processes = min(processes or os.cpu_count() or 1, most)
    if processes <= 1:
        yield from ((job, steps(job)) for job in jobs)
        return
    from facecodec.cli.pool import outcomes_of_processes  # multiprocessing is slow to import

    yield from outcomes_of_processes(jobs, steps, processes)
