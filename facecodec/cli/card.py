"""facecodec card: measure a model on the LFW test people and write its card."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from facecodec.errors import UsageError

# Seen by our training, and never seen by it.
SEEN, UNSEEN = "mobilefacenet-ms1m", "mobileface-v2"


@click.command()
@click.argument("model")
@click.option("-q", "--quality", "qualities", type=float, multiple=True, help="Qualities; all whole ones by default.")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Folder of datasets.")
@click.option("--limit", type=int, metavar="N", help="Whole people until N photographs are reached.")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), metavar="FILE.md", help="Beside the model.")
def card(model: str, qualities: tuple[float, ...], data: Path | None, limit: int | None, out: Path | None) -> None:
    """Measure MODEL on the LFW test people and write its card: FILE.md, and the numbers as FILE.json."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "pytorch_msssim", "facenet_pytorch") if find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} not installed: see docs/training.md")
    from facecodec.bench.card import render
    from facecodec.bench.datasets import load_subjects
    from facecodec.bench.measure import Bench
    from facecodec.checkpoint import model_path, read_card
    from facecodec.faces.recognisers import recogniser_file
    from facecodec.training.data import data_root

    path = model_path(model)
    root = data_root(data)
    facts = read_card(path)
    bench = Bench({name: recogniser_file(f"{name}.onnx", root) for name in (SEEN, UNSEEN)})
    subjects = load_subjects("lfw", root, limit)
    rows = []
    for q in qualities or range(1, 9):
        rows.append(bench.row(str(path), q, subjects, _progress(q, len(subjects))) | {"codec": facts.name})
        print(json.dumps(rows[-1]), flush=True)
    bench.close()
    out = out or path.with_suffix(".md")
    out.with_suffix(".json").write_text(json.dumps({"fingerprint": facts.fingerprint, "rows": rows}, indent=1) + "\n")
    out.write_text(render(facts, rows, SEEN, path.stat().st_size))


def _progress(q: float, total: int):
    def show(done: int) -> None:
        if sys.stderr.isatty():
            print(f"q {q:g}: {done}/{total}", end="\r", file=sys.stderr, flush=True)

    return show
