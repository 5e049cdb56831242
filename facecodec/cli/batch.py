"""What `encode` and `decode` share: options, and how results are told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import click

from facecodec.cli.files import Plan
from facecodec.cli.jobs import Note, Steps, Work, outcomes
from facecodec.container import DEFAULT_MAX_PIXELS
from facecodec.errors import UsageError

files0_option = click.option(
    "--files0-from", metavar="FILE", type=click.Path(), help="Read NUL-separated input paths from FILE, or '-'."
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    metavar="N",
    help="Refuse larger pictures.",
)


def shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that encode and decode have in common."""
    for option in reversed(
        (
            click.option("-f", "--force", is_flag=True, help="Overwrite outputs that exist."),
            click.option("--skip-existing", is_flag=True, help="Leave out inputs whose output exists."),
            click.option(
                "-j",
                "--jobs",
                "processes",
                type=click.IntRange(min=1),
                metavar="N",
                help="Processes for several inputs; one per core by default, where there are many.",
            ),
            files0_option,
            max_pixels_option,
            click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each input."),
            click.option("--quiet", is_flag=True, help="Say nothing but errors."),
        )
    ):
        command = option(command)
    return command


class Reporter:
    """Tells what happens: lines and notes on stderr, progress where stderr is a terminal, JSON where asked."""

    def __init__(self, as_json: bool, quiet: bool, stdout_is_data: bool) -> None:
        self.json_to: IO[str] | None = (sys.stderr if stdout_is_data else sys.stdout) if as_json else None
        self.text = self.json_to is not sys.stderr
        self.chatty = self.text and not quiet
        self.interactive = self.chatty and sys.stderr.isatty()
        self.noted: set[str | None] = set()
        self.progress: Any = None

    def line(self, text: str) -> None:
        # A name may hold anything; a message is one line all the same, and no escape sequence gets through.
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        if self.progress is not None:
            self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr)

    def success(self, result: dict[str, Any], verbose: bool) -> None:
        if self.json_to:
            print(json.dumps(result), file=self.json_to, flush=True)
        if verbose and self.interactive and not self.json_to:
            self.line(
                f"{result['input']} -> {result['output']}: {result['width']}x{result['height']}, "
                f"{result['bytes']} bytes, {result['bpp']:.3f} bpp, q {result['quality']:g}, {result['model']}"
            )

    def skipped(self, name: str, output: str) -> None:
        if self.json_to:
            print(json.dumps({"input": name, "output": output, "skipped": True}), file=self.json_to, flush=True)

    def failure(self, name: str, reason: str) -> None:
        if self.json_to:
            print(json.dumps({"input": name, "error": reason}), file=self.json_to, flush=True)
        if self.text:
            self.line(f"facecodec: {name}: {reason}")

    def note(self, name: str, note: Note) -> None:
        """Said for the first input that its kind holds for, then not again."""
        if self.chatty and (note.kind is None or note.kind not in self.noted):
            self.noted.add(note.kind)
            self.line(f"facecodec: note: {name}: {note.text}")


def run(
    plan: Plan,
    force: bool,
    skip_existing: bool,
    processes: int | None,
    reporter: Reporter,
    work: Work,
    verify: bool = False,
) -> None:
    """Do every job, by so many processes or as many as pay; exit with 1 if any failed. `verify` reads outputs back."""
    if any(job.target is None for job in plan.jobs) and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("standard output is a terminal, and the output is binary: redirect it, or give -o a file")
    if force and skip_existing:
        raise UsageError("--force and --skip-existing exclude each other: give one")
    jobs = []
    for job in plan.jobs:
        if skip_existing and job.target is not None and job.target.is_file():
            reporter.skipped(job.input_name, job.output_name)
        else:
            jobs.append(job)
    failed, skipped = len(plan.failures), len(plan.jobs) - len(jobs)
    done = {"bytes": 0, "pixels": 0}
    for name, reason in plan.failures:
        reporter.failure(name, reason)
    with _progress(reporter, len(jobs)):
        for job, outcome in outcomes(jobs, Steps(work, force, verify), processes):
            for note in outcome.notes:
                reporter.note(job.input_name, note)
            if outcome.failure is not None:
                failed += 1
                reporter.failure(job.input_name, outcome.failure)
            else:
                named = {"input": job.input_name, "output": job.output_name}
                reporter.success(named | outcome.result, verbose=len(plan.jobs) == 1)
                done["bytes"] += outcome.result["bytes"]
                done["pixels"] += outcome.result["width"] * outcome.result["height"]
            if reporter.progress is not None:
                reporter.progress.advance(reporter.progress.task_ids[0])
    total = len(plan.jobs) + len(plan.failures)
    kept = f", {skipped} there already" if skipped else ""
    if failed and total > 1 and reporter.text:
        reporter.line(f"facecodec: {failed} of {total} inputs failed, {total - failed - skipped} done{kept}")
    elif total > 1 and reporter.interactive and not reporter.json_to:
        rate = f": {done['bytes']} bytes in .fic files, {8 * done['bytes'] / done['pixels']:.3f} bpp" if jobs else ""
        reporter.line(f"{len(jobs)} done{kept}{rate}")
    if failed:
        sys.exit(1)


def _progress(reporter: Reporter, count: int) -> Any:
    if not reporter.interactive or count < 2:
        return nullcontext()
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    reporter.progress = Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )
    reporter.progress.add_task("", total=count)
    return reporter.progress


def has_suffix(suffixes: frozenset[str]) -> Callable[[Path], bool]:
    return lambda path: path.suffix.lower() in suffixes
