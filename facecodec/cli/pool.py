"""Jobs shared by several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import connection

from facecodec.cli.files import Job
from facecodec.cli.jobs import Outcome, Steps

WINDOW = 16  # jobs of each process that may be under way or wait for an earlier one to be told


def outcomes_of_processes(jobs: Sequence[Job], steps: Steps, processes: int) -> Iterator[tuple[Job, Outcome]]:
    """Every job and what came of it, in order."""
    pool = _start(processes)
    under_way: dict[int, _UnderWay] = {}
    again: dict[int, Steps] = {}  # of those that were under way when a process was killed
    try:
        submitted = 0
        for number, job in enumerate(jobs):
            try:
                while submitted < min(len(jobs), number + WINDOW * processes):
                    under_way[submitted] = _UnderWay.of(pool, again.get(submitted, steps), jobs[submitted])
                    submitted += 1
                outcome = under_way[number].future.result()
            except BrokenProcessPool:
                # A process was killed, most likely for its memory; over this job or another, which then comes later.
                pool.shutdown()
                again |= {index: each.again for index, each in under_way.items()}
                outcome = _alone(again.get(number, steps), job)
                pool = _start(processes)
                under_way, submitted = {}, number + 1
            under_way.pop(number, None)
            yield job, outcome
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _UnderWay:
    """A job given to a process, and the steps to take should it have to be done `again`.

    These overwrite its output where there was none: what is there then is of the process that was killed.
    """

    future: Future[Outcome]
    again: Steps

    @classmethod
    def of(cls, pool: ProcessPoolExecutor, steps: Steps, job: Job) -> _UnderWay:
        fresh = job.target is None or not os.path.lexists(job.target)
        return cls(pool.submit(steps, job), replace(steps, force=steps.force or fresh))


def _alone(steps: Steps, job: Job) -> Outcome:
    """A job in a process that it shares with none."""
    pool = _start(1)
    try:
        return pool.submit(steps, job).result()
    except BrokenProcessPool:
        return Outcome(failure="its process was killed, most likely for its memory: free some, or lower --max-pixels")
    finally:
        pool.shutdown(cancel_futures=True)


def _start(processes: int) -> ProcessPoolExecutor:
    """Processes that never see Ctrl-C, which a terminal sends to all, and that end when this one does."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_serve)


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["FACECODEC_THREADS"] = "1"  # the other cores have pictures of their own
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
