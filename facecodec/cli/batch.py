"""The options that `encode` and `decode` share, and the running and reporting of a batch."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import IO, Any

import click

from facecodec.cli.console import tell, tell_json, warn
from facecodec.cli.extras import require
from facecodec.cli.files import Job, Plan, read_list
from facecodec.cli.outputs import already_there, outputs_there, refuse_existing
from facecodec.cli.paths import exists
from facecodec.cli.runner import open_runner
from facecodec.cli.tasks import Convert, Note, Operation, Result, reason
from facecodec.container import DEFAULT_MAX_PIXELS
from facecodec.errors import FacecodecError, UsageError
from facecodec.text import printable

files0_option = click.option(
    "--files0-from",
    metavar="FILE",
    type=click.Path(),
    help="Read NUL-separated input paths from FILE, or '-'.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    metavar="N",
    help="Refuse larger pictures.",
)

max_side_option = click.option(
    "--max-side",
    type=click.IntRange(min=1),
    metavar="N",
    help="Reduce larger pictures to at most N pixels along a side.",
)
jobs_option = click.option(
    "-j",
    "--jobs",
    "processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes to use; by default one per core if there are many inputs.",
)


@dataclass(frozen=True)
class Options:
    """The values of the options that encode and decode share; their help explains them."""

    force: bool = False
    skip_existing: bool = False
    dry_run: bool = False
    processes: int | None = None
    cluster: str | None = None
    files0_from: str | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    as_json: bool = False
    quiet: bool = False

    def listed(self) -> list[str] | None:
        """Returns the inputs listed in the file of --files0-from, or None without that option."""
        return read_list(self.files0_from)


def shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the shared options to a command, which gets them as one argument `options`."""
    names = [field.name for field in fields(Options)]

    @wraps(command)
    def with_options(**given: Any) -> Any:
        options = Options(**{name: given.pop(name) for name in names})
        return command(options=options, **given)

    for option in reversed(
        (
            click.option("-f", "--force", is_flag=True, help="Overwrite outputs that exist."),
            click.option("--skip-existing", is_flag=True, help="Skip inputs whose output exists."),
            click.option("--dry-run", is_flag=True, help="Only show what would be written where."),
            jobs_option,
            click.option(
                "--ray",
                "cluster",
                metavar="ADDRESS",
                help="Distribute the inputs over a Ray cluster; 'local' starts one on this machine.",
            ),
            click.option(
                "--provider",
                metavar="NAME",
                expose_value=False,
                callback=_set_provider,
                help="Execution provider for the transforms: cpu, or what ONNX Runtime has here, "
                "such as cuda or openvino.",
            ),
            files0_option,
            max_pixels_option,
            click.option(
                "--json", "as_json", is_flag=True, help="Print one line of JSON per input."
            ),
            click.option("--quiet", is_flag=True, help="Print only errors."),
        )
    ):
        with_options = option(with_options)
    return with_options


def _set_provider(context: click.Context, option: click.Parameter, name: str | None) -> None:
    """Sets the provider in the environment, which other processes inherit."""
    if name is not None:
        os.environ["FACECODEC_PROVIDER"] = name
        from facecodec.sessions import provider

        provider()


class Reporter:
    """Reports results: text on stderr, a progress bar on a terminal, JSON on request."""

    def __init__(self, as_json: bool, quiet: bool, stdout_is_data: bool) -> None:
        self.json_to: IO[str] | None = (
            (sys.stderr if stdout_is_data else sys.stdout) if as_json else None
        )
        self.text = self.json_to is not sys.stderr
        self.chatty = self.text and not quiet
        self.interactive = self.chatty and sys.stderr is not None and sys.stderr.isatty()
        self.noted: set[str | None] = set()
        self.progress: Any = None

    def line(self, text: str) -> None:
        if self.progress is not None:
            self.progress.console.print(
                printable(text), markup=False, highlight=False, soft_wrap=True
            )
        else:
            warn(text)

    def success(self, result: dict[str, Any], verbose: bool) -> None:
        if self.json_to:
            tell_json(result, self.json_to)
        if verbose and self.interactive and not self.json_to:
            self.line(
                f"{result['input']} -> {result['output']}: {result['width']}x{result['height']} "
                f"coded in {result['bytes']} bytes, {result['bpp']:.3f} bpp, q {result['quality']:g}, "
                f"{result['model']}"
            )

    def skipped(self, name: str, output: str) -> None:
        if self.json_to:
            tell_json({"input": name, "output": output, "skipped": True}, self.json_to)

    def failure(self, name: str, reason: str) -> None:
        if self.json_to:
            tell_json({"input": name, "error": reason}, self.json_to)
        if self.text:
            self.line(f"facecodec: {name}: {reason}")

    def note(self, name: str, note: Note) -> None:
        """Shows a note, unless one of the same kind has been shown."""
        if note.kind is None or note.kind not in self.noted:
            self.noted.add(note.kind)
            self.remark(f"{name}: {note.text}")

    def remark(self, text: str) -> None:
        if self.chatty:
            self.line(f"facecodec: note: {text}")


def run(
    plan: Plan,
    operation: Operation,
    options: Options,
    verify: bool = False,
    remark: str | None = None,
) -> None:
    """Runs `operation` for every job of the plan, and exits with 1 if any input failed.

    `verify` reads outputs back; `remark` is shown once, for all inputs.
    """
    to_stdout = any(job.target is None for job in plan.jobs)
    if to_stdout and not options.dry_run and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError(
            "standard output is a terminal, and the output is binary: "
            "redirect it, or give -o a file"
        )
    if options.force and options.skip_existing:
        raise UsageError("--force and --skip-existing exclude each other: give one")
    if options.cluster is not None:
        require(("ray",), "for --ray, pip install 'facecodec[ray]'")
        if options.processes is not None:
            raise UsageError("-j and --ray exclude each other: give one")
        if any(None in (job.source, job.target) for job in plan.jobs):
            raise UsageError("--ray needs files that every machine can reach, not '-'")
    reporter = Reporter(options.as_json, options.quiet, to_stdout)
    jobs, failures, skipped = [], list(plan.failures), 0
    alone = len(plan.jobs) == 1
    # Outputs are looked up before the work: later, one may come from a worker that was killed.
    looks = options.skip_existing or (options.cluster and not options.force)
    there = outputs_there(plan.jobs) if looks else set()
    for job in plan.jobs:
        if job not in there:
            jobs.append(job)
        elif options.skip_existing:
            skipped += 1
            reporter.skipped(job.input_name, job.output_name)
        else:
            failures.append((job.input_name, str(already_there(job))))
    failed = len(failures)
    done = {"inputs": 0, "bytes": 0, "pixels": 0}
    if remark is not None:
        reporter.remark(remark)
    for name, wrong in failures:
        reporter.failure(name, wrong)
    if options.dry_run:
        if failed + _rehearse(jobs, options.force, reporter):
            sys.exit(1)
        return
    plan = replace(plan, jobs=jobs, failures=[])
    with _progress(reporter, jobs):
        for job, result in _results(plan, Convert(operation, options.force, verify), options):
            for note in result.notes:
                reporter.note(job.input_name, note)
            if result.failure is not None:
                failed += 1
                reporter.failure(job.input_name, result.failure)
            else:
                named = {"input": job.input_name, "output": job.output_name}
                reporter.success(named | result.facts, verbose=alone and job.member is None)
                done["inputs"] += 1
                done["bytes"] += result.facts["bytes"]
                done["pixels"] += result.facts["width"] * result.facts["height"]
            if reporter.progress is not None:
                reporter.progress.advance(reporter.progress.task_ids[0])
    total = failed + skipped + done["inputs"]
    kept = f", {skipped} there already" if skipped else ""
    if failed and total > 1 and reporter.text:
        reporter.line(f"facecodec: {failed} of {total} inputs failed, {done['inputs']} done{kept}")
    elif total > 1 and reporter.interactive and not reporter.json_to:
        bpp = (
            f": {done['bytes']} bytes in .fic files, {8 * done['bytes'] / done['pixels']:.3f} bpp"
            if done["pixels"]
            else ""
        )
        reporter.line(f"{done['inputs']} done{kept}{bpp}")
    if failed:
        sys.exit(1)


def _rehearse(jobs: Sequence[Job], force: bool, reporter: Reporter) -> int:
    """Prints the output of each job, and returns how many would fail, judging by names alone."""
    failed = 0
    for job in jobs:
        try:
            if job.source is not None and not exists(job.source):
                raise FileNotFoundError(errno.ENOENT, "")
            refuse_existing(job, force)
        except (OSError, FacecodecError) as error:
            failed += 1
            reporter.failure(job.input_name, reason(error))
            continue
        if reporter.json_to:
            named = {"input": job.input_name, "output": job.output_name, "dry_run": True}
            tell_json(named, reporter.json_to)
        else:
            tell(f"{job.input_name} -> {job.output_name}")
    return failed


def _results(plan: Plan, task: Convert, options: Options) -> Iterator[tuple[Job, Result]]:
    """Yields every job with its result. Without a cluster they are in order, with shards last."""
    shards = [job for job in plan.jobs if job.is_shard]
    if shards or options.cluster is not None:
        from facecodec.cli.shards import Recode  # tarfile is slow to import

        recode = Recode(task, plan.wanted, plan.naming)
    if options.cluster is not None:
        from facecodec.cli.cluster import run_on_cluster

        yield from run_on_cluster(plan.jobs, recode, options.cluster)
        return
    with open_runner(plan.jobs, task, options.processes) as run_jobs:
        yield from run_jobs([job for job in plan.jobs if not job.is_shard])
        for shard in shards:
            yield from recode(shard, run_jobs)


def _progress(reporter: Reporter, jobs: Sequence[Job]) -> Any:
    holds_many = any(job.is_shard for job in jobs)
    if not reporter.interactive or not (holds_many or len(jobs) > 1):
        return nullcontext()
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    reporter.progress = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    reporter.progress.add_task("", total=None if holds_many else len(jobs))
    return reporter.progress
