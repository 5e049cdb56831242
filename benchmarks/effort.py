"""Measures what each level of `encode --effort` costs and gives.

    python benchmarks/effort.py --limit 24 -q 2 -q 4 -e 2 -e 4 -e 6 --out runs/effort.jsonl
    python benchmarks/effort.py --out runs/effort.jsonl --tables
    python benchmarks/effort.py --out runs/effort.jsonl --tables --plot docs/images/effort.png \\
        --seconds runs/idle.jsonl

It makes real files of one photograph per person. Every file is a line of the JSONL file. An
interrupted run continues where it ended, and several runs may share one file. Seconds are those of
one core. `--split train` measures training people; levels are chosen only on these. `--plot` draws
the bits saved over the seconds spent. `--seconds` takes the seconds from another file, of a few
pictures that were measured while nothing else ran.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image

from facecodec import open_model
from facecodec.datasets import Photo, photographs
from facecodec.faces.recognisers import Recogniser, recogniser_file
from facecodec.images import load
from facecodec.search.crops import Crop
from facecodec.template import similarity
from facecodec.training.gradients import TEACHERS

CHOOSES = ("insightface-y1",)
UNSEEN = ("mobileface-v2", "edgeface-xs")
RECOGNISERS = TEACHERS + CHOOSES + UNSEEN
CURVE = np.arange(1, 7.25, 0.5)  # qualities of effort 1, with which other efforts are compared


@click.command()
@click.option("--limit", type=int, default=24, help="Number of photographs, one per person.")
@click.option("--dataset", default="lfw", help="Of docs/data.md.")
@click.option("--split", type=click.Choice(["train", "test"]), default="test")
@click.option("-q", "qualities", type=float, multiple=True, default=(2.0, 4.0))
@click.option("-e", "efforts", type=int, multiple=True, default=(2, 3, 4, 5, 6, 7))
@click.option("-m", "model", default="l2-ipr")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--tables", is_flag=True, help="Measure nothing; print what the file holds.")
@click.option("--plot", type=click.Path(path_type=Path))
@click.option("--seconds", "idle", type=click.Path(path_type=Path, exists=True))
def main(
    limit: int,
    dataset: str,
    split: str,
    qualities: tuple[float, ...],
    efforts: tuple[int, ...],
    model: str,
    out: Path,
    tables: bool,
    plot: Path | None,
    idle: Path | None,
) -> None:
    """Measure what is missing in the file and print its tables."""
    if not tables:
        wanted = [(1, q) for q in CURVE] + [(e, q) for q in qualities for e in efforts]
        _measure(chosen(dataset, split, limit), model, wanted, out)
    rows, timed = (
        [row for row in map(json.loads, path.read_text().splitlines()) if row["model"] == model]
        for path in (out, idle or out)
    )
    means = _means(rows)
    seconds = {at: mean["seconds"] for at, mean in _means(timed).items()}
    _print(means, seconds)
    if plot is not None:
        _draw(means, seconds, model, plot)


def chosen(dataset: str, split: str, limit: int) -> list[Photo]:
    """Returns the first photographs of randomly drawn people, by a fixed seed."""
    people: dict[str, Photo] = {}
    for photo in photographs(dataset, split, None):
        people.setdefault(photo.person, photo)
    order = np.random.default_rng(0).permutation(len(people))[:limit]
    listed = list(people.values())
    return [listed[index] for index in order]


def _measure(photos: list[Photo], model: str, wanted: list[tuple[int, float]], out: Path) -> None:
    done = set()
    if out.exists():
        for line in out.read_text().splitlines():
            row = json.loads(line)
            done.add((row["model"], row["photo"], row["effort"], row["q"]))
    recognisers = {name: Recogniser(recogniser_file(name, None)) for name in RECOGNISERS}
    codec = open_model(model)
    find = codec.search._detector.landmarks
    for photo in photos:
        missing = [each for each in wanted if (model, photo.path.name, *each) not in done]
        if not missing:
            continue
        pixels = load(photo.path)
        points = find(pixels)
        if points is None:
            continue
        original = _embeddings(recognisers, pixels, points, 1)
        for effort, q in missing:
            started = time.process_time()
            data = codec.encode(pixels, q, effort=effort)
            seconds = time.process_time() - started
            decoded = np.asarray(codec.decode(data))
            again = find(decoded)
            row = {
                "model": model, "photo": photo.path.name, "effort": effort, "q": q,
                "seconds": round(seconds, 3), "bytes": len(data), "pixels": pixels[..., 0].size,
                "mse": float(np.square(decoded.astype(float) - pixels).mean()),
                "found": None if again is None else float(np.abs(again - points).max()),
            }  # fmt: skip
            for kind, (seen, scale) in _treatments(decoded).items():
                found = _embeddings(recognisers, seen, points, scale)
                row[kind] = {
                    name: round(1 - float(found[name] @ original[name]), 6) for name in RECOGNISERS
                }
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def _treatments(decoded: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """Returns a decoded picture after each treatment before recognition, and its scale."""
    image = Image.fromarray(decoded)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    width, height = image.size
    half, double = (width // 2, height // 2), (2 * width, 2 * height)
    return {
        "plain": (decoded, 1),
        "JPEG 85": (np.asarray(Image.open(buffer)), 1),
        "halved": (np.asarray(image.resize(half, Image.Resampling.BOX)), 0.5),
        "doubled": (np.asarray(image.resize(double, Image.Resampling.BICUBIC)), 2),
    }


def _embeddings(
    recognisers: dict[str, Recogniser], pixels: np.ndarray, points: np.ndarray, scale: float
) -> dict[str, np.ndarray]:
    matrix = similarity((points + 0.5) * scale - 0.5)
    face = Crop(matrix, (pixels.shape[0], pixels.shape[1]))(
        pixels.transpose(2, 0, 1).astype(np.float32)
    )
    return {name: recognise(face) for name, recognise in recognisers.items()}


Setting = tuple[float, int]  # a quality and an effort
Mean = dict[str | tuple[str, str], float]


def _means(rows: list[dict]) -> dict[Setting, Mean]:
    """Returns the means over the photographs that were measured at every setting."""
    settings = sorted({(row["q"], row["effort"]) for row in rows})
    by = {(row["q"], row["effort"], row["photo"]): row for row in rows}
    shared = set.intersection(
        *({photo for *at, photo in by if tuple(at) == setting} for setting in settings)
    )
    means = {}
    for setting in settings:
        of = [by[(*setting, photo)] for photo in sorted(shared)]
        means[setting] = {
            "photographs": len(of),
            "bpp": 8 * sum(row["bytes"] for row in of) / sum(row["pixels"] for row in of),
            "psnr": np.mean([10 * np.log10(255**2 / row["mse"]) for row in of]),
            "seconds": np.mean([row["seconds"] for row in of]),
            "found": sum(row["found"] is not None and row["found"] < 8 for row in of),
        } | {
            (kind, name): np.mean([row[kind][name] for row in of])
            for kind in ("plain", "JPEG 85", "halved", "doubled")
            for name in RECOGNISERS
        }
    return means


def _print(means: dict[Setting, Mean], seconds: dict[Setting, float]) -> None:
    print(f"{next(iter(means.values()))['photographs']} photographs\n")
    shown = _searched(means)
    for heading, line in (
        (
            ["q", "effort", "seconds", "bpp", "PSNR", *RECOGNISERS, "found"],
            lambda at: _levels(means[at], seconds.get(at)),
        ),
        (["q", "effort", "PSNR", *RECOGNISERS], lambda at: _cells(_saved(means[at], means))),
        (["q", "effort", "treated", *RECOGNISERS], None),
    ):
        print("| " + " | ".join(heading) + " |")
        print("| " + " | ".join(["---"] * len(heading)) + " |")
        for at in means:
            if at[0] not in shown:
                continue
            start = [f"{at[0]:g}", str(at[1])]
            if line is not None:
                print("| " + " | ".join(start + list(line(at))) + " |")
                continue
            for kind in ("JPEG 85", "halved", "doubled"):
                cells = [f"{means[at][kind, name]:.4f}" for name in RECOGNISERS]
                print("| " + " | ".join([*start, kind, *cells]) + " |")
        print()


def _searched(means: dict[Setting, Mean]) -> list[float]:
    """Returns the qualities of the levels above 1; CURVE's other qualities serve to compare."""
    return sorted({q for q, effort in means if effort > 1})


def _levels(mean: Mean, seconds: float | None) -> Iterator[str]:
    yield "" if seconds is None else f"{seconds:.2f}"
    yield f"{mean['bpp']:.4f}"
    yield f"{mean['psnr']:.2f}"
    for name in RECOGNISERS:
        yield f"{mean['plain', name]:.4f}"
    yield str(mean["found"])


def _cells(saved: dict[str, float | None]) -> list[str]:
    return [
        "beyond q 1" if each is None else f"{round(-100 * each, 1) + 0.0:+.1f}%"
        for each in saved.values()
    ]


def _saved(mean: Mean, means: dict[Setting, Mean]) -> dict[str, float | None]:
    """Returns the share of effort 1's bits saved at the same mean PSNR, or 1 - cosine, by name.

    None is for a value that effort 1 does not reach at any quality of CURVE.
    """
    curve = [means[q, 1] for q in CURVE if (q, 1) in means]
    bits = np.log([each["bpp"] for each in curve])

    def against(value: float, there: list[float]) -> float | None:
        if not min(there) <= value <= max(there):
            return None
        order = np.argsort(there)
        same = np.interp(value, np.array(there)[order], bits[order])
        return float(1 - mean["bpp"] / np.exp(same))

    saved = {"PSNR": against(mean["psnr"], [each["psnr"] for each in curve])}
    for name in RECOGNISERS:
        logs = [float(np.log(each["plain", name])) for each in curve]
        saved[name] = against(float(np.log(mean["plain", name])), logs)
    return saved


def _draw(
    means: dict[Setting, Mean], seconds: dict[Setting, float], model: str, path: Path
) -> None:
    """Draws the bits saved over the seconds spent, for PSNR and for recognisers never taught."""
    import matplotlib.pyplot as plt

    shown = _searched(means)
    spent = {  # the mean over qualities, so that a level has one place
        effort: np.mean([seconds[q, effort] for q in shown])
        for effort in sorted({effort for _, effort in means if effort > 1})
        if all((q, effort) in seconds for q in shown)
    }
    figure, axes = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
    for colour, q in enumerate(shown):
        for kind, style in zip(("PSNR", *UNSEEN), ("s:", "o-", "^--"), strict=True):
            saved = {each: _saved(means[q, each], means)[kind] for each in spent}
            points = [(spent[each], 100 * part) for each, part in saved.items() if part is not None]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    style,
                    color=f"C{colour}",
                    markersize=4,
                    label=f"q {q:g}, {kind}",
                )
    axes.set_xscale("log")
    axes.set_xticks(list(spent.values()), [f"{each:.3g} s" for each in spent.values()])
    axes.minorticks_off()
    for effort, at in spent.items():
        axes.annotate(f"{effort}", (at, 1.01), xycoords=("data", "axes fraction"), ha="center")
    axes.set(
        xlabel="time of one core for a picture; the level of effort is above",
        ylabel="bits saved, %",
    )
    axes.set_title(f"{model}: bits saved at equal PSNR or cosine", pad=18)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
