"""Distributes jobs over a Ray cluster, with Ray Data."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext

from facecodec.cli.files import Job, Member
from facecodec.cli.paths import is_url
from facecodec.cli.shards import Recode
from facecodec.cli.tasks import Result
from facecodec.errors import UsageError

BATCH = 16  # jobs per batch of a worker
LOCAL = "local"


def run_on_cluster(
    jobs: Sequence[Job], recode: Recode, address: str
) -> Iterator[tuple[Job, Result]]:
    """Yields every job with its result, in the order of completion.

    `address` is ray.init's; "local" starts a cluster on this machine. Outputs are overwritten, so
    that Ray can repeat a job whose worker, or machine, died. Raises UsageError without a cluster.
    """
    with redirect_stdout(
        sys.stderr
    ):  # Ray prints about killed workers on stdout until it has shut down
        _connect(address)
        try:
            yield from _results(jobs, recode)
        finally:
            ray.shutdown()


def _results(jobs: Sequence[Job], recode: Recode) -> Iterator[tuple[Job, Result]]:
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    workers, batch = shared_out(jobs, int(ray.cluster_resources().get("CPU", 1)))
    table = ray.data.from_items(
        [
            {"number": number, "job": pickle.dumps(_absolute(job))}
            for number, job in enumerate(jobs)
        ],
        override_num_blocks=max(1, min(len(jobs), 4 * workers)),
    )
    settings = {name: value for name, value in os.environ.items() if name.startswith("FACECODEC_")}
    done = table.map_batches(
        _Worker,
        fn_constructor_args=(replace(recode, task=replace(recode.task, force=True)), settings),
        batch_size=batch,
        compute=ActorPoolStrategy(size=workers),
    )
    for row in done.iter_rows():
        for member, result in pickle.loads(row["results"]):
            yield replace(jobs[row["number"]], member=member), result


def shared_out(jobs: Sequence[Job], cores: int) -> tuple[int, int]:
    """Returns the number of workers, and of jobs that a worker takes at a time.

    A shard is worth a worker: it has thousands of pictures.
    """
    batch = 1 if any(job.is_shard for job in jobs) else BATCH
    return max(1, min(cores, -(-len(jobs) // batch))), batch


def _connect(address: str) -> None:
    """Raises UsageError if there is no such cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault(
        "RAY_DEDUP_LOGS", "0"
    )  # deduplicated lines would be printed on stdout after the redirection ends
    try:
        ray.init(
            address=None if address == LOCAL else address,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"--ray {address}: {' '.join(str(error).split())}") from None


class _Worker:
    """A worker process on one core of the cluster. It loads the model once."""

    def __init__(self, recode: Recode, settings: dict[str, str]) -> None:
        # One thread, because the other cores have their own workers.
        os.environ.update(settings | {"FACECODEC_THREADS": "1"})
        self.recode = recode

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        done = [pickle.dumps(list(self._results(pickle.loads(job)))) for job in batch["job"]]
        return {"number": batch["number"], "results": done}

    def _results(self, job: Job) -> Iterator[tuple[Member | None, Result]]:
        task = self.recode.task
        if not job.is_shard:
            yield None, task(job)
            return
        for each, result in self.recode(
            job, lambda members: ((member, task(member)) for member in members)
        ):
            yield each.member and replace(each.member, content=b""), result


def _absolute(job: Job) -> Job:
    """Returns a job with absolute paths, for a process with another working directory."""
    source, target = (
        path if path is None or is_url(path) else path.absolute()
        for path in (job.source, job.target)
    )
    return replace(job, source=source, target=target)
