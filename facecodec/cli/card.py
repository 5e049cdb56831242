"""facecodec card: measure a model on the LFW test people and write its card."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

from facecodec.cli.bench import SEEN, UNSEEN
from facecodec.errors import UsageError


@click.command()
@click.argument("model")
@click.option("-q", "--quality", "qualities", type=float, multiple=True, help="Qualities; all whole ones by default.")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Folder of datasets.")
@click.option(
    "--recognizer",
    "recognisers",
    multiple=True,
    metavar="NAME|FILE.onnx",
    default=(SEEN, UNSEEN),
    help=f"Recognition network; {SEEN} and {UNSEEN} by default.",
)
@click.option("--limit", type=int, metavar="N", help="Whole people until N photographs are reached.")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), metavar="FILE.md", help="Beside the model.")
def card(
    model: str,
    qualities: tuple[float, ...],
    data: Path | None,
    recognisers: tuple[str, ...],
    limit: int | None,
    out: Path | None,
) -> None:
    """Measure MODEL on the LFW test people and write its card: FILE.md, and the numbers as FILE.json.

    What was measured before is kept in the user's cache and not measured again.
    """
    from importlib.util import find_spec

    missing = [name for name in ("torch", "pytorch_msssim", "facenet_pytorch") if find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} not installed: see docs/training.md")
    from facecodec.bench.card import render
    from facecodec.bench.datasets import load_dataset
    from facecodec.bench.measure import Bench
    from facecodec.bench.recognition import find_recogniser
    from facecodec.bench.run import measure
    from facecodec.bench.store import Store
    from facecodec.checkpoint import model_path, read_card
    from facecodec.faces import cache_folder
    from facecodec.training.data import data_root

    path = model_path(model)
    root = data_root(data)
    facts = read_card(path)
    out = out or path.with_suffix(".md")
    subjects = load_dataset("lfw", root, limit).subjects
    found = {Path(name).stem: find_recogniser(name, root) for name in recognisers}
    bench = Bench(found, Store(cache_folder() / "bench.sqlite"))
    settings = sorted(qualities or range(1, 9))
    points = measure(bench, subjects, {str(path): settings}, report=_progress(len(subjects)))
    bench.close()
    rows = [{"setting": point.setting, **point.numbers} for point in points]
    numbers = {"fingerprint": facts.fingerprint, "recognisers": list(found), "rows": rows}
    out.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    out.write_text(render(facts, rows, SEEN, path.stat().st_size))


def _progress(total: int) -> Callable[[str, float, int], None]:
    def show(codec: str, q: float, done: int) -> None:
        if sys.stderr.isatty():
            print(f"q {q:g}: {done}/{total}", end="\r", file=sys.stderr, flush=True)

    return show
