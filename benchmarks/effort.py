"""Measures what each level of `encode --effort` costs and gives on LFW.

    python benchmarks/effort.py --limit 24 -q 2 -q 4 -e 2 -e 4 -e 6 --out runs/effort.jsonl
    python benchmarks/effort.py --out runs/effort.jsonl --tables

It makes real files of one photograph per person. Every file is a line of the JSONL file. An
interrupted run continues where it ended, and several runs may share one file. Seconds are those of
one core. `--split train` measures training people; levels are chosen only on these.
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

TAUGHT = ("mobilefacenet-ms1m", "espressif-mbf", "retail-0095")
CHOOSES = ("insightface-y1",)
UNSEEN = ("mobileface-v2", "edgeface-xs")
CURVE = np.arange(1, 7.25, 0.5)  # qualities of effort 1, with which other efforts are compared


@click.command()
@click.option("--limit", type=int, default=24, help="Number of photographs, one per person.")
@click.option("--split", type=click.Choice(["train", "test"]), default="test")
@click.option("-q", "qualities", type=float, multiple=True, default=(2.0, 4.0))
@click.option("-e", "efforts", type=int, multiple=True, default=(2, 3, 4, 5, 6, 7))
@click.option("-m", "model", default="l2-ipr")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--tables", is_flag=True, help="Measure nothing; print what the file holds.")
def main(
    limit: int,
    split: str,
    qualities: tuple[float, ...],
    efforts: tuple[int, ...],
    model: str,
    out: Path,
    tables: bool,
) -> None:
    """Measure what is missing in the file and print its tables."""
    if not tables:
        wanted = [(1, q) for q in CURVE] + [(e, q) for q in qualities for e in efforts]
        _measure(chosen(split, limit), model, wanted, out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    _print([row for row in rows if row["model"] == model])


def chosen(split: str, limit: int) -> list[Photo]:
    """Returns the first photographs of randomly drawn people, by a fixed seed."""
    people: dict[str, Photo] = {}
    for photo in photographs("lfw", split, None):
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
    names = TAUGHT + CHOOSES + UNSEEN
    recognisers = {name: Recogniser(recogniser_file(name, None)) for name in names}
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
                    name: round(1 - float(found[name] @ original[name]), 6) for name in names
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


def _print(rows: list[dict]) -> None:
    """Prints the means over the photographs that were measured at every setting."""
    names = TAUGHT + CHOOSES + UNSEEN
    settings = sorted({(row["q"], row["effort"]) for row in rows})
    by = {(row["q"], row["effort"], row["photo"]): row for row in rows}
    shared = set.intersection(
        *({photo for *at, photo in by if tuple(at) == setting} for setting in settings)
    )
    print(f"{len(shared)} photographs\n")
    means = {}
    for setting in settings:
        of = [by[(*setting, photo)] for photo in sorted(shared)]
        means[setting] = {
            "bpp": 8 * sum(row["bytes"] for row in of) / sum(row["pixels"] for row in of),
            "psnr": np.mean([10 * np.log10(255**2 / row["mse"]) for row in of]),
            "seconds": np.mean([row["seconds"] for row in of]),
            "found": sum(row["found"] is not None and row["found"] < 8 for row in of),
        } | {
            (kind, name): np.mean([row[kind][name] for row in of])
            for kind in ("plain", "JPEG 85", "halved", "doubled")
            for name in names
        }
    curve = [means[q, 1] for q in CURVE if (q, 1) in means]
    shown = sorted({q for q, effort in settings if effort > 1})
    for heading, line in (
        (["q", "effort", "seconds", "bpp", "PSNR", *names, "found"], _levels),
        (["q", "effort", "PSNR", *names], lambda each: _saved(each, curve, names)),
        (["q", "effort", "treated", *names], None),
    ):
        print("| " + " | ".join(heading) + " |")
        print("| " + " | ".join(["---"] * len(heading)) + " |")
        for q, effort in ((q, e) for q, e in settings if q in shown):
            start = [f"{q:g}", str(effort)]
            if line is not None:
                print("| " + " | ".join(start + list(line(means[q, effort]))) + " |")
                continue
            for kind in ("JPEG 85", "halved", "doubled"):
                cells = [f"{means[q, effort][kind, name]:.4f}" for name in names]
                print("| " + " | ".join([*start, kind, *cells]) + " |")
        print()


def _levels(mean: dict) -> Iterator[str]:
    yield f"{mean['seconds']:.2f}"
    yield f"{mean['bpp']:.4f}"
    yield f"{mean['psnr']:.2f}"
    for name in TAUGHT + CHOOSES + UNSEEN:
        yield f"{mean['plain', name]:.4f}"
    yield str(mean["found"])


def _saved(mean: dict, curve: list[dict], names: tuple[str, ...]) -> list[str]:
    """Returns how many bits fewer than effort 1 are needed for the same mean PSNR or 1 - cosine."""
    bits = np.log([each["bpp"] for each in curve])

    def against(value: float, there: list[float]) -> str:
        if not min(there) <= value <= max(there):
            return "beyond q 1"
        order = np.argsort(there)
        same = np.interp(value, np.array(there)[order], bits[order])
        return f"{100 * (mean['bpp'] / np.exp(same) - 1):+.1f}%"

    cells = [against(mean["psnr"], [each["psnr"] for each in curve])]
    for name in names:
        logs = [float(np.log(each["plain", name])) for each in curve]
        cells.append(against(float(np.log(mean["plain", name])), logs))
    return cells


if __name__ == "__main__":
    main()
