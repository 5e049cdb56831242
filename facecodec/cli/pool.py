"""Jobs shared by several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice

from facecodec.cli.files import Job
from facecodec.cli.jobs import Outcome, Steps
from facecodec.cli.paths import is_url
from facecodec.processes import end_with_parent

WINDOW = 16  # jobs of each process that may be under way or wait for an earlier one to be told


class Pool:
    """Processes that take the same steps for every job. A context manager, which ends them."""

    def __init__(self, steps: Steps, processes: int) -> None:
        self._steps = steps
        self._processes = processes
        self._executor = _start(processes)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Every job and what came of it, in order; `jobs` are taken as they are needed."""
        source, under_way = iter(jobs), deque()
        while True:
            for job in islice(source, WINDOW * self._processes - len(under_way)):
                under_way.append(self._submit(job, self._steps))
            if not under_way:
                return
            first = under_way.popleft()
            try:
                outcome = first.future.result()
            except BrokenProcessPool:
                # A process was killed, most likely for its memory; over this job or another, which then comes later.
                self._executor.shutdown()
                outcome = _alone(first)
                self._executor = _start(self._processes)
                under_way = deque(
                    each if each.is_done() else self._submit(each.job, each.again)
                    for each in under_way
                )
            yield first.job, outcome

    def _submit(self, job: Job, steps: Steps) -> _UnderWay:
        fresh = job.target is None or not (is_url(job.target) or os.path.lexists(job.target))
        try:
            future = self._executor.submit(steps, job)
        except BrokenProcessPool as error:  # to be dealt with when it is this job's turn
            future = Future()
            future.set_exception(error)
        return _UnderWay(job, future, replace(steps, force=steps.force or fresh))


@dataclass(frozen=True)
class _UnderWay:
    """A job given to a process, and the steps to take should it have to be done `again`.

    These overwrite its output where there was none: what is there then is of the process that was killed.
    """

    job: Job
    future: Future[Outcome]
    again: Steps

    def is_done(self) -> bool:
        return self.future.done() and self.future.exception() is None


def _alone(under_way: _UnderWay) -> Outcome:
    """What comes of a job in a process that it shares with none."""
    executor = _start(1)
    try:
        return executor.submit(under_way.again, under_way.job).result()
    except BrokenProcessPool:
        return Outcome(
            failure="its process was killed, most likely for its memory: free some, or lower --max-pixels"
        )
    finally:
        executor.shutdown(cancel_futures=True)


def _start(processes: int) -> ProcessPoolExecutor:
    """Processes that never see Ctrl-C, which a terminal sends to all, and that end when this one does."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_serve)


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["FACECODEC_THREADS"] = "1"  # the other cores have pictures of their own
    end_with_parent()
