"""Runs the jobs of a task in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice

from facecodec.cli.files import Job
from facecodec.cli.tasks import Result, Task
from facecodec.processes import end_with_parent

WINDOW = 16  # jobs per process that are running, or waiting until an earlier one is reported


class Pool:
    """A context manager: processes that run one task for every job, and end with the block."""

    def __init__(self, task: Task, processes: int) -> None:
        self._task = task
        self._processes = processes
        self._executor = _start(processes)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Yields every job with its result, in order. Takes `jobs` only as they are needed."""
        source, pending = iter(jobs), deque[_Pending]()
        while True:
            for job in islice(source, WINDOW * self._processes - len(pending)):
                pending.append(self._submit(job, self._task))
            if not pending:
                return
            first = pending.popleft()
            try:
                result = first.future.result()
            except BrokenProcessPool:
                # A process was killed, most likely for its memory, because of this job or another
                # one. So this job runs again alone, and the others run in new processes.
                self._executor.shutdown()
                result = _run_alone(first)
                self._executor = _start(self._processes)
                pending = deque(
                    each if each.is_done() else self._submit(each.job, each.retry)
                    for each in pending
                )
            yield first.job, result

    def _submit(self, job: Job, task: Task) -> _Pending:
        retry = task.retry(job)
        try:
            future = self._executor.submit(task, job)
        except BrokenProcessPool as error:  # `run` handles it when it is this job's turn
            future = Future()
            future.set_exception(error)
        return _Pending(job, future, retry)


@dataclass(frozen=True)
class _Pending:
    """A job that a process has, and the task to run if that process dies."""

    job: Job
    future: Future[Result]
    retry: Task

    def is_done(self) -> bool:
        return self.future.done() and self.future.exception() is None


def _run_alone(pending: _Pending) -> Result:
    """Returns the result of a job in a process of its own."""
    executor = _start(1)
    try:
        return executor.submit(pending.retry, pending.job).result()
    except BrokenProcessPool:
        return Result(
            failure="its process was killed, most likely for its memory: "
            "free some, or lower --max-pixels"
        )
    finally:
        executor.shutdown(cancel_futures=True)


def _start(processes: int) -> ProcessPoolExecutor:
    """Starts processes that end when this one does, and ignore a terminal's Ctrl-C."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_serve)


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["FACECODEC_THREADS"] = "1"  # the other cores have their own processes
    end_with_parent()
