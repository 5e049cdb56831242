"""Runs codecs over photographs and computes the statistics.

Its result is a dictionary, whose schema is in docs/bench.md.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from facecodec.bench import SCHEMA, SEEN
from facecodec.bench.codecs import find_codec, is_reference, unusable
from facecodec.bench.intervals import DRAWS, draws, frr_draws, interval, parity_draws
from facecodec.bench.measure import Bench, EmbeddingSpec, Measured
from facecodec.bench.metrics import bd_rate, rate_at
from facecodec.bench.protocols import (
    MIN_QUERIES,
    distances,
    frr_at_far,
    galleries,
    roc,
    threshold_at_far,
    verification,
)
from facecodec.bench.subjects import FOLDS, Dataset, Subject, chosen
from facecodec.errors import ImageError

BASELINE = ("hevc", 23.0)  # the codec and setting that parity is with
ORIGINAL = "original"
MOST_REJECTED = 3  # rejected queries in the report, for each codec, setting and recogniser
PAIR = ("first", "second", "same", "fold")
FEWEST_BD = 4  # points that a BD-rate needs
FEWEST_POINTS = 6  # points that a fit of FRR over rate needs

Report = Callable[[str, float, int], None]  # codec, setting, photographs done


@dataclass(frozen=True)
class Point:
    """A codec at one setting: its numbers, and the distances of each query by recogniser."""

    codec: str
    setting: float
    numbers: dict[str, Any]
    distances: dict[EmbeddingSpec, tuple[np.ndarray, np.ndarray]]


def summarise(
    measured: Sequence[Measured], originals: Sequence[Measured], specs: Sequence[EmbeddingSpec]
) -> dict[str, Any]:
    """Returns bpp, and the means of PSNR, SSIM, MS-SSIM and the cosine to the original's embedding.

    bpp is total bits over total pixels. MS-SSIM is over the pictures that are large enough, None if
    none is; cosines are over the faces that were found.
    """
    structure = [m.ms_ssim for m in measured if m.ms_ssim is not None]
    numbers: dict[str, Any] = {
        "images": len(measured),
        "bpp": 8 * sum(m.bytes for m in measured) / sum(m.pixels for m in measured),
        "psnr": float(np.mean([m.psnr for m in measured])),
        "ssim": float(np.mean([m.ssim for m in measured])),
        "ms_ssim": float(np.mean(structure)) if structure else None,
    }
    for spec in specs:
        embeddings, wanted = stacked(measured, spec), stacked(originals, spec)
        cosines = (embeddings * wanted).sum(1)
        found = ~np.isnan(cosines)
        numbers.setdefault("recognition", {})[str(spec)] = {
            "cosine": float(cosines[found].mean()) if found.any() else None,
            "undetected": int((~found).sum()),
        }
    return numbers


def measure(
    bench: Bench,
    subjects: list[Subject],
    codecs: Mapping[str, Sequence[float]],
    gallery: int = 1,
    report: Report = lambda codec, setting, done: None,
) -> list[Point]:
    """Measures every codec at each of its settings.

    Points have an FRR if there are queries enough. All files must be readable, see `readable`;
    otherwise it raises ImageError.
    """
    originals = _photographs(bench, "original", 0, subjects)
    people = [subject.person for subject in subjects]
    enough = len(galleries(people, gallery)[1]) >= MIN_QUERIES
    points = []
    for codec, settings in codecs.items():
        for setting in settings:

            def tell(done: int, codec: str = codec, setting: float = setting) -> None:
                report(codec, setting, done)

            measured = _photographs(bench, codec, setting, subjects, tell)
            numbers = summarise(measured, originals, bench.specs)
            apart = {}
            for spec in bench.specs if enough else ():
                apart[spec] = distances(stacked(measured, spec), people, gallery)
                numbers["recognition"][str(spec)]["frr"] = frr_at_far(*apart[spec])
            points.append(Point(codec, float(setting), numbers, apart))
    return points


def stacked(measured: Sequence[Measured], spec: EmbeddingSpec) -> np.ndarray:
    return np.stack([each.embeddings[spec] for each in measured])


def _photographs(
    bench: Bench,
    codec: str,
    setting: float,
    subjects: list[Subject],
    report: Callable[[int], None] = lambda done: None,
) -> list[Measured]:
    """Returns what Bench.photographs does, of readable files.

    Raises ImageError if one cannot be read any more.
    """
    measured = []
    for subject, each in zip(
        subjects, bench.photographs(codec, setting, subjects, report), strict=True
    ):
        if each is None:
            raise ImageError(f"{subject.path} cannot be read any more")
        measured.append(each)
    return measured


def readable(bench: Bench, dataset: Dataset) -> tuple[Dataset, list[str]]:
    """Returns the dataset without the files that cannot be read, and those files."""
    found = bench.photographs("original", 0, dataset.subjects)
    unreadable = [
        str(subject.path)
        for subject, each in zip(dataset.subjects, found, strict=True)
        if each is None
    ]
    kept = [index for index, each in enumerate(found) if each is not None]
    return chosen(dataset, kept), unreadable


def verify(
    bench: Bench, dataset: Dataset, codec: str, setting: float
) -> dict[str, dict[str, float]]:
    """Returns the accuracy on the dataset's pairs by recogniser: mean over folds, and standard
    error.
    """
    measured = _photographs(bench, codec, setting, dataset.subjects)
    first, second, same, fold = (
        np.array([getattr(pair, name) for pair in dataset.pairs]) for name in PAIR
    )
    by_recogniser = {}
    for spec in bench.specs:
        embeddings = stacked(measured, spec)
        apart = np.nan_to_num(1 - (embeddings[first] * embeddings[second]).sum(1), nan=np.inf)
        accuracies = verification(apart, same, fold)
        error = np.std(accuracies, ddof=1) / math.sqrt(len(accuracies))
        by_recogniser[str(spec)] = {
            "accuracy": float(np.mean(accuracies)),
            "standard_error": float(error),
        }
    return by_recogniser


def bench_results(
    bench: Bench,
    dataset: Dataset,
    settings: Mapping[str, Sequence[float]],
    parts: Sequence[str],
    report: Report,
    leave_out: Callable[[dict[str, str]], None] = lambda skipped: None,
) -> dict[str, Any]:
    """Measures everything, or the named `parts`: quality, identify, verify, budget.

    Each codec is tried first. `leave_out` gets the reason for each that fails, and it is measured
    no further. `budget` is for codecs made to fit a limit in bytes.
    """
    skipped = {codec: reason for codec in settings if (reason := unusable(codec))}
    leave_out(skipped)
    settings = {codec: each for codec, each in settings.items() if codec not in skipped}
    dataset, unreadable = readable(bench, dataset)
    points = measure(bench, dataset.subjects, settings, dataset.gallery, report)
    people = [subject.person for subject in dataset.subjects]
    found = results(points, people, dataset.gallery) if "identify" in parts else results(points, ())
    original = next((point for point in points if point.codec == ORIGINAL), None)
    if "identify" in parts and original is not None:
        found["rejected"] = [
            {"codec": point.codec, "setting": point.setting, "recogniser": str(spec), **each}
            for point in points
            for spec in point.distances
            for each in rejected_queries(point, original, spec, dataset)
        ]
    if "budget" in parts and any(point.distances for point in points):
        found["differences"] = differences(points, people, dataset.gallery)
    if "verify" in parts and len({pair.fold for pair in dataset.pairs}) == FOLDS:
        for codec, entry in found["codecs"].items():
            for numbers in entry["points"]:
                for spec, accuracy in verify(bench, dataset, codec, numbers["setting"]).items():
                    numbers["recognition"][spec] |= accuracy
    queries = len(galleries(people, dataset.gallery)[1])
    found["dataset"] = {
        "name": dataset.name,
        "photographs": len(people),
        "people": len(set(people)),
        "queries": queries,
    }
    found["dataset"] |= {
        "gallery": dataset.gallery,
        "pairs": len(dataset.pairs),
        "unreadable": unreadable,
    }
    found["skipped"] = skipped
    found["environment"] = environment()
    return found


def rejected_queries(
    point: Point, original: Point, spec: EmbeddingSpec, dataset: Dataset
) -> list[dict[str, Any]]:
    """Returns the queries that are accepted undecoded and rejected decoded.

    Those farthest beyond the threshold come first.
    """
    was_same, was_other = original.distances[spec]
    same, other = point.distances[spec]
    threshold = threshold_at_far(other)
    rejected = np.flatnonzero((was_same < threshold_at_far(was_other)) & (same >= threshold))
    people = [subject.person for subject in dataset.subjects]
    gallery, queries = galleries(people, dataset.gallery)
    enrolled = {people[index]: index for index in gallery[::-1]}
    worst = rejected[np.argsort(threshold - same[rejected], kind="stable")][:MOST_REJECTED]
    return [
        {
            "query_name": dataset.subjects[queries[index]].name,
            "enrolled_name": dataset.subjects[enrolled[people[queries[index]]]].name,
            "distance": float(same[index]),
            "threshold": float(threshold),
        }
        for index in worst
    ]


def differences(points: list[Point], people: Sequence[str], gallery: int) -> list[dict[str, Any]]:
    """Returns each reference codec's FRR less that of each model at the same setting.

    They have intervals, and are paired: they are of the same people.
    """
    queries = [people[index] for index in galleries(people, gallery)[1]]
    chosen = draws(queries)
    rows = []
    for ours in points:
        if is_reference(ours.codec):
            continue
        for other in points:
            if not is_reference(other.codec) or other.setting != ours.setting:
                continue
            for spec, apart in ours.distances.items():
                less = frr_draws(other.distances[spec], chosen) - frr_draws(apart, chosen)
                frr, others = (
                    each.numbers["recognition"][str(spec)]["frr"] for each in (ours, other)
                )
                rows.append(
                    {
                        "model": ours.codec,
                        "codec": other.codec,
                        "setting": ours.setting,
                        "recogniser": str(spec),
                        "less": others - frr,
                        "interval": interval(less),
                    }
                )
    return rows


def environment() -> dict[str, Any]:
    packages = (
        "facecodec",
        "numpy",
        "onnxruntime",
        "pillow",
        "torch",
        "pytorch-msssim",
        "facenet-pytorch",
    )
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def results(
    points: list[Point], people: Sequence[str], gallery: int = 1, samples: int = DRAWS
) -> dict[str, Any]:
    """Returns the points with their statistics: intervals, ROC curves, and bits at parity.

    `people` says who is on each photograph, in the order measured; without it there is no
    recognition.
    """
    if not people:
        points = [replace(point, distances={}) for point in points]
    queries = [people[index] for index in galleries(people, gallery)[1]]
    chosen = draws(queries, samples) if queries else []
    base = next((n for n, p in enumerate(points) if (p.codec, p.setting) == BASELINE), None)
    baseline = None if base is None else points[base]
    drawn = {
        (number, spec): frr_draws(apart, chosen)
        for number, point in enumerate(points)
        for spec, apart in point.distances.items()
    }
    codecs: dict[str, Any] = {}
    for number, point in enumerate(points):
        codec = find_codec(point.codec)
        entry = codecs.setdefault(
            point.codec,
            {
                "label": codec.label,
                "version": codec.version(),
                "reference": is_reference(point.codec),
                "points": [],
            },
        )
        numbers = {"setting": point.setting, **point.numbers}
        for spec, (same, other) in point.distances.items():
            seen = numbers["recognition"][str(spec)]
            seen["frr_interval"] = interval(drawn[number, spec])
            if base is not None:
                seen["less_than_baseline"] = interval(drawn[base, spec] - drawn[number, spec])
            seen["roc"] = [[round(float(v), 5) for v in values] for values in roc(same, other)]
        entry["points"].append(numbers)
    if base is not None:
        baseline = points[base]
        for name, entry in codecs.items():
            mine = [number for number, point in enumerate(points) if point.codec == name]
            entry["parity"] = {}
            for spec in baseline.distances:
                samples_of = [drawn[number, spec] for number in mine]
                curve = [points[number] for number in mine]
                entry["parity"][str(spec)] = parity(
                    curve, samples_of, baseline, drawn[base, spec], spec
                )
    for name, entry in codecs.items():
        entry["bd_rate"] = (
            bd_rates(codecs.get(BASELINE[0]), entry) if name not in (ORIGINAL, BASELINE[0]) else {}
        )
    return {
        "schema": SCHEMA,
        "seen": [SEEN],
        "baseline": list(BASELINE) if baseline else None,
        "codecs": codecs,
    }


def bd_rates(anchor: dict[str, Any] | None, entry: dict[str, Any]) -> dict[str, float]:
    """Returns how many percent more bits than the anchor equal PSNR and MS-SSIM take.

    Both curves need FEWEST_BD points.
    """
    rates = {}
    for metric, name in (("psnr", "PSNR"), ("ms_ssim", "MS-SSIM")):
        curves = [
            [(point["bpp"], point[metric]) for point in each["points"] if point[metric] is not None]
            for each in (anchor, entry)
            if each is not None
        ]
        if len(curves) == 2 and min(map(len, curves)) >= FEWEST_BD:
            rate = bd_rate(*curves)
            if rate is not None:
                rates[name] = rate
    return rates


def parity(
    points: list[Point],
    drawn: list[np.ndarray],
    baseline: Point,
    target: np.ndarray,
    spec: EmbeddingSpec,
) -> dict[str, Any]:
    """Returns the rate at which a codec's FRR is the baseline's.

    It is given as bpp, the share of the baseline's bits, and the interval of bpp. If there is no
    such rate, `reason` says why.
    """
    if len(points) < FEWEST_POINTS:
        return {"reason": f"{len(points)} settings; a fit takes {FEWEST_POINTS}"}
    rates = [point.numbers["bpp"] for point in points]
    frr = [point.numbers["recognition"][str(spec)]["frr"] for point in points]
    goal = baseline.numbers["recognition"][str(spec)]["frr"]
    rate = rate_at(rates, frr, goal)
    if rate is None:
        return {"reason": "not reached"}
    if math.isclose(rate, min(rates)):
        return {"reason": f"below {rate:.3f} bpp, the lowest rate measured"}
    between = interval(parity_draws(rates, np.stack(drawn), target))
    return {"bpp": rate, "share": rate / baseline.numbers["bpp"], "interval": between}
