"""Runs a task for every job, in this process or in several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from facecodec.cli.files import Job
from facecodec.cli.tasks import Runner, Task
from facecodec.processes import usable_cores

WORTH = 8  # from so many jobs on, a process saves more time than its start takes


@contextmanager
def open_runner(jobs: Sequence[Job], task: Task, processes: int | None) -> Iterator[Runner]:
    """Yields a runner of `task` for `jobs`. By default it uses as many processes as save time."""
    has_shards = any(job.is_shard for job in jobs)
    most = math.inf if has_shards else len(jobs) if processes else -(-len(jobs) // WORTH)
    processes = int(min(processes or usable_cores(), most))
    if processes <= 1:
        yield lambda jobs: ((job, task(job)) for job in jobs)
        return
    from facecodec.cli.pool import Pool  # multiprocessing is slow to import

    with Pool(task, processes) as pool:
        yield pool.run
