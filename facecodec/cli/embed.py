"""facecodec embed: .fic files -> embeddings of the faces in them."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from facecodec.cli import batch, files
from facecodec.cli.console import complain, end, tell, tell_json, warn
from facecodec.cli.files import Job
from facecodec.cli.models import reader_option
from facecodec.cli.outputs import read_input, refuse_existing, write_output
from facecodec.cli.paths import to_path
from facecodec.cli.runner import open_runner
from facecodec.cli.tasks import Result, reason
from facecodec.errors import UsageError


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=click.Path(readable=False))
@batch.files0_option
@batch.jobs_option
@batch.max_pixels_option
@reader_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per file.")
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(),
    metavar="OUT.npy",
    help="Write a .npy file with one row per input, in order.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite OUT.npy.")
def embed(
    inputs: tuple[str, ...],
    files0_from: str | None,
    processes: int | None,
    max_pixels: int,
    model: Path | None,
    as_json: bool,
    out: str | None,
    force: bool,
) -> None:
    """Embed the face in each .fic file, without decoding its pixels if possible.

    If the face has another size than the model's head knows, the recogniser that taught the head
    embeds it from the decoded picture. A file without a face is an error.

    INPUT is a .fic file, a folder of .fic files, a URL, or '-'. Embeddings have length 1. Their
    space is that of the recogniser in the output: compare them by cosine, with each other or with
    that recogniser's.
    """
    names = files.all_names(inputs, files.read_list(files0_from))
    if files.STANDARD in names and len(names) > 1:
        raise UsageError("'-' cannot be combined with other inputs")
    if as_json and out is not None:
        raise UsageError("--json and -o exclude each other: give one")
    target = None if out is None else Job(None, to_path(out))
    if out is not None and target is not None:
        if Path(out).suffix != ".npy":
            raise UsageError(f"{out}: embeddings are written as a .npy file")
        refuse_existing(target, force)
    places: list[Job | None] = []  # a row each, in order
    failed = 0

    def fail(name: str, wrong: str) -> None:
        nonlocal failed
        failed += 1
        if as_json:
            tell_json({"input": name, "error": wrong})
        complain(f"{name}: {wrong}")

    for name in names:
        found, missing = _jobs(name)
        places += [*found, *(None for _ in missing)]
        for absent, wrong in missing:
            fail(absent, wrong)
    jobs = [job for job in places if job is not None]
    embeddings: dict[Job, np.ndarray] = {}
    space = None
    with open_runner(jobs, Embed(max_pixels, model), processes) as run:
        for job, result in run(jobs):
            name = str(job.source or files.STANDARD)
            if not result.failure and space not in (None, result.facts["space"]):
                result = Result(
                    failure=f"its embedding is in the space {result.facts['space']}, not in {space}"
                )
            if result.failure:
                fail(name, result.failure)
                continue
            space = result.facts["space"]
            embeddings[job] = result.facts["embedding"]
            numbers = embeddings[job].astype(float).round(6).tolist()
            if as_json:
                certainty = result.facts["certainty"]
                tell_json(
                    {"input": name, "space": space, "embedding": numbers}
                    | ({} if certainty is None else {"certainty": round(certainty, 4)})
                )
            elif out is None:
                _tell_row(name, space, numbers)
    if target is not None and space is not None:
        write_output(
            target,
            _array([None if job is None else embeddings.get(job) for job in places]),
            force,
        )
        if sys.stderr is not None and sys.stderr.isatty():
            rows = f"{len(places)} row{'s' if len(places) > 1 else ''}"
            warn(f"{out}: {rows}, in the space of {space}")
    end(failed, len(places))


@dataclass(frozen=True)
class Embed:
    """The task of `embed`. It returns the embedding and writes nothing."""

    max_pixels: int
    model: Path | None = None

    def __call__(self, job: Job) -> Result:
        from facecodec.codec import codec_of, open_container
        from facecodec.faces.embedding import embedder_of

        try:
            parsed = open_container(read_input(job), self.max_pixels)
            embed = embedder_of(codec_of(parsed, self.model))
            found = embed(parsed)
            return Result(
                {"space": embed.space, "embedding": found.vector, "certainty": found.certainty}
            )
        except Exception as error:
            return Result(failure=reason(error))

    def retry(self, job: Job) -> Embed:
        return self


def _tell_row(name: str, space: str, numbers: list[float]) -> None:
    """Prints three columns. A tab in the name is escaped, so that it stays one column."""
    tell(name, end="\t")
    tell(space, end="\t")
    tell(" ".join(map(str, numbers)))


def _jobs(name: str) -> tuple[list[Job], list[tuple[str, str]]]:
    if name == files.STANDARD:
        return [Job(None, None)], []
    found, failures = files.find_fic(name)
    shards = [(str(path), "extract its .fic files first") for path in found if files.is_shard(path)]
    return [Job(path, None) for path in found if not files.is_shard(path)], [*failures, *shards]


def _array(rows: list[np.ndarray | None]) -> bytes:
    """Returns a .npy file, float32 (N, D), with one row per input: NaN without an embedding."""
    there = next(row for row in rows if row is not None)
    buffer = io.BytesIO()
    np.save(buffer, np.stack([np.full_like(there, np.nan) if row is None else row for row in rows]))
    return buffer.getvalue()
