"""facecodec card: measure a model on the LFW test people and write its card."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click

from facecodec.cli.bench import Progress, recogniser_option, require_bench
from facecodec.cli.paths import LocalPath
from facecodec.errors import UsageError


@click.command()
@click.argument("model")
@click.option(
    "-q",
    "--quality",
    "qualities",
    type=float,
    multiple=True,
    help="Qualities; 1, 2, ... 8 by default.",
)
@click.option("--data", type=LocalPath(), metavar="DIR", help="Folder of datasets.")
@recogniser_option
@click.option(
    "--limit", type=int, metavar="N", help="Take whole people until there are N photographs."
)
@click.option(
    "-o",
    "--output",
    "out",
    type=LocalPath(),
    metavar="FILE.md",
    help="Beside the model.",
)
def card(
    model: str,
    qualities: tuple[float, ...],
    data: Path | None,
    recognisers: tuple[str, ...],
    limit: int | None,
    out: Path | None,
) -> None:
    """Measure MODEL on the LFW test people and write its card.

    FILE.md is the card, and FILE.json has its numbers. Measurements are kept in your cache folder
    and not repeated.
    """
    require_bench()
    from facecodec.bench.card import render
    from facecodec.bench.measure import open_bench
    from facecodec.bench.run import measure
    from facecodec.bench.subjects import load_dataset
    from facecodec.frozen import model_path, read_card

    path = model_path(model)
    facts = read_card(path)
    out = out or path.with_suffix(".md")
    if not out.parent.is_dir():
        raise UsageError(f"the folder {out.parent} of the card is not there")
    bench = open_bench(recognisers, data)
    try:
        subjects = load_dataset("lfw", data, limit).subjects
        settings = {str(path): sorted(qualities or range(1, 9))}
        points = measure(bench, subjects, settings, report=Progress(len(subjects), settings))
    finally:
        bench.close()
    rows = [{"setting": point.setting, **point.numbers} for point in points]
    numbers = {
        "fingerprint": facts.fingerprint,
        "recognisers": list(bench.recognisers),
        "rows": rows,
    }
    out.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    out.write_text(
        render(facts, rows, path.stat().st_size, shlex.join(["facecodec", *sys.argv[1:]]))
    )
