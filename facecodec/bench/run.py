"""Measures codecs over photographs and computes the statistics, as a dictionary.

docs/bench.md describes its schema.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from facecodec.bench import SCHEMA
from facecodec.bench.codecs import find_codec, is_reference, unusable
from facecodec.bench.intervals import DRAWS, draws, frr_draws, interval, mean_draws
from facecodec.bench.measure import Bench, EmbeddingSpec, Measured
from facecodec.bench.metrics import bd_rate
from facecodec.bench.parity import FEWEST_LINE, crossing, no_worse
from facecodec.bench.protocols import (
    FAR,
    MIN_QUERIES,
    STRICT_FAR,
    distances,
    frr_at_far,
    galleries,
    roc,
    threshold_at_far,
    verification,
)
from facecodec.bench.subjects import Dataset, Subject, chosen
from facecodec.errors import ImageError, UsageError
from facecodec.processes import usable_cores

BASELINE = ("hevc", 23.0)  # the codec and setting to which parity refers
ORIGINAL = "original"
MOST_REJECTED = 3  # rejected queries in the report, per codec, setting and recogniser
PAIR = ("first", "second", "same", "fold")
FEWEST_BD = 4  # points that a BD-rate needs
FARS = {"frr": FAR, "frr_strict": STRICT_FAR}  # the FAR of each FRR in the results

Report = Callable[[str, float, int], None]  # codec, setting, photographs done
# For each recogniser and statistic, by its name in the results: the values in every sample.
Drawn = dict[EmbeddingSpec, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Point:
    """A codec at one setting: its numbers and, by recogniser, the distances of each query.

    `cosines` are between the embeddings of each decoded photograph and its original, NaN without a
    face.
    """

    codec: str
    setting: float
    numbers: dict[str, Any]
    distances: dict[EmbeddingSpec, tuple[np.ndarray, np.ndarray]]
    cosines: dict[EmbeddingSpec, np.ndarray] = field(default_factory=dict, compare=False)


def summarise(
    measured: Sequence[Measured], cosines: Mapping[EmbeddingSpec, np.ndarray]
) -> dict[str, Any]:
    """Returns bpp, and the means of PSNR, SSIM, MS-SSIM and cosines to the original's embedding.

    bpp is total bits over total pixels. MS-SSIM is averaged over the pictures that are large
    enough, None if none is, and cosines over the faces that were found.
    """
    structure = [m.ms_ssim for m in measured if m.ms_ssim is not None]
    numbers: dict[str, Any] = {
        "images": len(measured),
        "bpp": 8 * sum(m.bytes for m in measured) / sum(m.pixels for m in measured),
        "psnr": float(np.mean([m.psnr for m in measured])),
        "ssim": float(np.mean([m.ssim for m in measured])),
        "ms_ssim": float(np.mean(structure)) if structure else None,
    }
    for spec, each in cosines.items():
        found = ~np.isnan(each)
        numbers.setdefault("recognition", {})[str(spec)] = {
            "cosine": float(each[found].mean()) if found.any() else None,
            "undetected": int((~found).sum()),
        }
    return numbers


def measure(
    bench: Bench,
    subjects: list[Subject],
    codecs: Mapping[str, Sequence[float]],
    gallery: int = 1,
    report: Report = lambda codec, setting, done: None,
    skipped: dict[str, str] | None = None,
) -> list[Point]:
    """Measures every codec at each of its settings.

    Points have an FRR if there are enough queries. If a codec cannot code a photograph at a
    setting, `skipped` gets the reason, and there is no such point. Without `skipped`, raises
    ImageError then; also for an unreadable file, so use `readable` first.
    """
    originals = bench.photographs("original", 0, subjects)
    people = [subject.person for subject in subjects]
    enough = len(galleries(people, gallery)[1]) >= MIN_QUERIES
    points = []
    for codec, settings in codecs.items():
        for setting in settings:

            def tell(done: int, codec: str = codec, setting: float = setting) -> None:
                report(codec, setting, done)

            try:
                measured = bench.photographs(codec, setting, subjects, tell)
            except ImageError as error:
                if skipped is None:
                    raise
                skipped[f"{codec} {setting:g}"] = str(error)
                continue
            cosines = {
                spec: (stacked(measured, spec) * stacked(originals, spec)).sum(1)
                for spec in bench.specs
            }
            numbers = summarise(measured, cosines)
            apart = {}
            for spec in bench.specs if enough else ():
                apart[spec] = distances(stacked(measured, spec), people, gallery)
                numbers["recognition"][str(spec)] |= {
                    name: frr_at_far(*apart[spec], far)
                    for name, far in FARS.items()
                    if len(apart[spec][0]) >= 1 / far
                }
            points.append(Point(codec, float(setting), numbers, apart, cosines))
    return points


def stacked(measured: Sequence[Measured], spec: EmbeddingSpec) -> np.ndarray:
    return np.stack([each.embeddings[spec] for each in measured])


def readable(bench: Bench, dataset: Dataset) -> tuple[Dataset, list[str]]:
    """Returns the dataset without the files that cannot be read, and those files.

    Raises UsageError if no file can be read.
    """
    found = bench.attempts("original", 0, dataset.subjects)
    unreadable = [
        str(subject.path)
        for subject, each in zip(dataset.subjects, found, strict=True)
        if each is None
    ]
    kept = [index for index, each in enumerate(found) if each is not None]
    if not kept:
        raise UsageError(f"none of the photographs of {dataset.name} can be read")
    return chosen(dataset, kept), unreadable


def verify(
    bench: Bench, dataset: Dataset, codec: str, setting: float
) -> dict[str, dict[str, float]]:
    """Returns the accuracy on pairs by recogniser: its mean and standard error over folds."""
    measured = bench.photographs(codec, setting, dataset.subjects)
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

    Each codec is tried first; one that fails is not measured, and `leave_out` takes the reason. So
    it does if a codec fails at one setting, perhaps because a limit is too small.
    `budget` is for codecs that fit a limit in bytes.
    """
    skipped = {codec: reason for codec in settings if (reason := unusable(codec))}
    leave_out(skipped)
    settings = {codec: each for codec, each in settings.items() if codec not in skipped}
    dataset, unreadable = readable(bench, dataset)
    unfit: dict[str, str] = {}
    points = measure(bench, dataset.subjects, settings, dataset.gallery, report, unfit)
    leave_out(unfit)
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
    if "verify" in parts and dataset.has_all_folds:
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
    found["skipped"] = skipped | unfit
    found["environment"] = environment()
    return found


def rejected_queries(
    point: Point, original: Point, spec: EmbeddingSpec, dataset: Dataset
) -> list[dict[str, Any]]:
    """Returns the queries that are accepted as originals but rejected when decoded.

    Those farthest beyond the threshold come first. The distance is None if no face was found.
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
            "distance": float(same[index]) if np.isfinite(same[index]) else None,
            "threshold": float(threshold),
        }
        for index in worst
    ]


def differences(points: list[Point], people: Sequence[str], gallery: int) -> list[dict[str, Any]]:
    """Returns each reference codec's FRR minus that of each model at the same setting.

    They have intervals. They are paired, because all are measured on the same people.
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
        "cores": usable_cores(),
    }


def results(
    points: list[Point], people: Sequence[str], gallery: int = 1, samples: int = DRAWS
) -> dict[str, Any]:
    """Returns the points with their statistics: intervals, differences, ROC curves, parity.

    `people` are the names of the photographs' people, in the order measured; without it there is no
    recognition.
    """
    if not people:
        points = [replace(point, distances={}, cosines={}) for point in points]
    base = next((n for n, p in enumerate(points) if (p.codec, p.setting) == BASELINE), None)
    drawn = _drawn(points, people, gallery, samples)
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
        for spec, statistics in drawn[number].items():
            seen = numbers["recognition"][str(spec)]
            seen |= {f"{name}_interval": interval(each) for name, each in statistics.items()}
            if base is not None:
                seen["differences"] = _differences(
                    point, statistics, points[base], drawn[base], spec
                )
        for spec, apart in point.distances.items():
            curve = [[round(float(v), 5) for v in values] for values in roc(*apart)]
            numbers["recognition"][str(spec)]["roc"] = curve
        entry["points"].append(numbers)
    if base is not None:
        for name, entry in codecs.items():
            mine = [number for number, point in enumerate(points) if point.codec == name]
            entry["parity"] = {
                str(spec): parity(points, drawn, mine, base, spec) for spec in drawn[base]
            }
    for name, entry in codecs.items():
        entry["bd_rate"] = (
            bd_rates(codecs.get(BASELINE[0]), entry) if name not in (ORIGINAL, BASELINE[0]) else {}
        )
    return {
        "schema": SCHEMA,
        "seen": sorted({each for name in codecs for each in find_codec(name).teachers}),
        "baseline": None if base is None else list(BASELINE),
        "codecs": codecs,
    }


def _drawn(points: list[Point], people: Sequence[str], gallery: int, samples: int) -> list[Drawn]:
    """Returns the statistics of each point in every sample of people, the same samples for all."""
    queries = [people[index] for index in galleries(people, gallery)[1]]
    asking = draws(queries, samples) if queries else np.empty((0, 0))
    shown = draws(people, samples) if people else np.empty((0, 0))
    drawn: list[Drawn] = []
    for point in points:
        statistics: Drawn = {}
        for spec, apart in point.distances.items():
            numbers = point.numbers["recognition"][str(spec)]
            statistics[spec] = {
                name: frr_draws(apart, asking, far) for name, far in FARS.items() if name in numbers
            }
        for spec, each in point.cosines.items():
            if not np.isnan(each).all():
                statistics.setdefault(spec, {})["cosine"] = mean_draws(each, shown)
        drawn.append(statistics)
    return drawn


def _differences(
    point: Point, drawn: dict[str, np.ndarray], baseline: Point, its: Drawn, spec: EmbeddingSpec
) -> dict[str, Any]:
    """Returns each statistic minus the baseline's, and the paired interval of the difference."""
    mine, wanted = (each.numbers["recognition"][str(spec)] for each in (point, baseline))
    return {
        name: {"value": mine[name] - wanted[name], "interval": interval(each - its[spec][name])}
        for name, each in drawn.items()
        if name in its.get(spec, {})
    }


def parity(
    points: list[Point], drawn: list[Drawn], mine: list[int], base: int, spec: EmbeddingSpec
) -> dict[str, Any]:
    """Returns where the points `mine` are as good as the point `base`, by each measure of parity.

    Each has `bpp`, an `interval` if there is one, and the `share` of the baseline's bits; or a
    `reason`.
    """
    rates = [points[number].numbers["bpp"] for number in mine]

    def collected(name: str) -> tuple[np.ndarray, float, np.ndarray, np.ndarray] | None:
        """Returns a statistic of each point, the baseline's, and both in every sample."""
        if any(name not in drawn[number].get(spec, {}) for number in [*mine, base]):
            return None
        values = [
            points[number].numbers["recognition"][str(spec)][name] for number in [*mine, base]
        ]
        samples = np.stack([drawn[number][spec][name] for number in [*mine, base]])
        return np.array(values[:-1]), values[-1], samples[:-1], samples[-1]

    found = {}
    if frr := collected("frr"):
        values, goal, samples, its = frr
        lows = [(interval(each) or (np.nan,))[0] for each in samples - its]
        found["crossing"] = crossing(rates, values, goal, samples, its)
        found["no_worse"] = no_worse(rates, values - goal, lows)
    if cosine := collected("cosine"):
        values, goal, samples, its = cosine
        found["cosine"] = crossing(rates, 1 - values, 1 - goal, 1 - samples, 1 - its, FEWEST_LINE)
    for each in found.values():
        if "bpp" in each:
            each["share"] = each["bpp"] / points[base].numbers["bpp"]
    return found


def bd_rates(anchor: dict[str, Any] | None, entry: dict[str, Any]) -> dict[str, float]:
    """Returns the BD-rates against the anchor, in percent, by PSNR and MS-SSIM.

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
