"""Tests the claims of related methods: LFIC's savings, and the compact image's accuracy.

    python benchmarks/claims.py [--limit N] [--data DIR] [--lfic NAME] [--compact NAME]
        [--joint MODEL RECOGNISER.onnx]

It needs `weights/l2-baseline.safetensors`, which docs/trained.md says how to make.
Photographs are of the LFW test people. FRR at FAR 1% is by the bench's protocol, with one
recogniser against which the models were trained and one against which they were not. A saving is
1 - rate / the rate at which the other codec's FRR is as low, at each of lfic's qualities. If the
other codec's FRR never is, its highest rate gives a lower bound of the saving. At equal rate, the
other codec's numbers are interpolated between its settings, in log rate. Intervals are 95%, by
bootstrap over the people of the queries. Verification is by LFW's protocol over the 1,000 pairs of
test people in ten folds, with 1.96 standard errors. `--joint` measures the same for a compact image
and the recogniser that was trained with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facecodec.bench import SEEN, UNSEEN
from facecodec.bench.intervals import draws, frr_draws, interval
from facecodec.bench.measure import Bench, EmbeddingSpec, open_bench
from facecodec.bench.metrics import rate_at, rates_at
from facecodec.bench.protocols import MIN_QUERIES, galleries
from facecodec.bench.run import Point, measure, verify
from facecodec.bench.subjects import Dataset, in_pairs, load_dataset
from facecodec.folders import data_root

REFERENCES = {"jpeg2000": (160, 80, 40, 28), "webp": (1, 10, 30, 50), "jpeg": (8, 15, 22, 30)}
BASELINE = ("l2-baseline", (1, 2, 3, 4, 6))
LFIC = (1, 2, 3, 4, 5)
COMPACT = (4, 5, 6, 8)  # at lower q, the compact image is too small for recognition
PAPER = {"jpeg2000": 0.7141, "webp": 0.4828, "l2-baseline": 0.5267}

Accuracies = tuple[
    float, dict[str, dict[str, float]]
]  # a rate, and verification under each recogniser there
Curve = tuple[
    list[float], list[float], np.ndarray
]  # rates, FRR, and FRR in each sample (rates, samples)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--lfic", default="lfic")
    parser.add_argument("--compact", default="compact-png")
    parser.add_argument("--joint", nargs=2, metavar=("MODEL", "RECOGNISER"))
    arguments = parser.parse_args()
    root = data_root(arguments.data)
    subjects = load_dataset("lfw", root, arguments.limit).subjects
    people = [subject.person for subject in subjects]
    asking = [people[index] for index in galleries(people)[1]]
    if len(asking) < MIN_QUERIES:
        parser.error(
            f"--limit {arguments.limit} leaves fewer than {MIN_QUERIES} queries for an FRR"
        )
    samples = draws(asking)
    settings = {
        arguments.lfic: LFIC,
        arguments.compact: COMPACT,
        BASELINE[0]: BASELINE[1],
        **REFERENCES,
    }
    bench = open_bench([SEEN, UNSEEN], root)
    try:
        points = measure(bench, subjects, settings)
        paired = in_pairs(load_dataset("lfw", root))
        verified = {
            name: accuracies(bench, paired, name, settings[name])
            for name in (arguments.compact, "jpeg2000", "jpeg")
        }
    finally:
        bench.close()
    print(f"{len(subjects)} photographs, {samples.shape[1]} queries")
    for spec in bench.specs:
        curves = {
            name: curve([p for p in points if p.codec == name], spec, samples) for name in settings
        }
        print(f"\n## {spec}\n\n| codec | bpp: FRR |\n| --- | --- |")
        for name, (rates, frr, _) in curves.items():
            print(
                f"| {name} | {', '.join(f'{r:.3f}: {f:.1%}' for r, f in zip(rates, frr, strict=True))} |"
            )
        print(
            f"\n| bits that {arguments.lfic} saves at equal FRR | {' | '.join(PAPER)} |\n|{' --- |' * (1 + len(PAPER))}"
        )
        print(f"| the paper | {' | '.join(f'{claimed:.1%}' for claimed in PAPER.values())} |")
        rates, frr, drawn = curves[arguments.lfic]
        for rate, wanted, each in zip(rates, frr, drawn, strict=True):
            cells = [saving(rate, wanted, each, curves[name]) for name in PAPER]
            print(f"| {rate:.3f} bpp, {wanted:.1%} | {' | '.join(cells)} |")
        print(
            f"\n| accuracy over {len(paired.pairs)} pairs | {arguments.compact} | jpeg2000 | jpeg |"
        )
        print("| --- | --- | --- | --- |")
        for rate, result in verified[arguments.compact]:
            cells = [accuracy_at(rate, verified[name], spec) for name in ("jpeg2000", "jpeg")]
            print(f"| {rate:.3f} bpp | {accuracy(result, spec)} | {' | '.join(cells)} |")
    if arguments.joint:
        model, recogniser = arguments.joint
        joint(paired, model, recogniser, root)


def joint(paired: Dataset, model: str, recogniser: str, root: Path | None) -> None:
    """Prints accuracies of a model and the recogniser that was trained with it."""
    bench = open_bench([recogniser, SEEN, UNSEEN], root)
    try:
        verified = accuracies(bench, paired, model, COMPACT)
    finally:
        bench.close()
    print(
        f"\n| {model} | {' | '.join(map(str, bench.specs))} |\n|{' --- |' * (1 + len(bench.specs))}"
    )
    for rate, result in verified:
        print(f"| {rate:.3f} bpp | {' | '.join(accuracy(result, spec) for spec in bench.specs)} |")


def accuracy(result: dict[str, dict[str, float]], spec: EmbeddingSpec) -> str:
    return within(result[str(spec)]["accuracy"], result[str(spec)]["standard_error"])


def within(mean: float, error: float) -> str:
    return f"{mean:.1%} ± {1.96 * error:.1%}"


def accuracies(
    bench: Bench, dataset: Dataset, codec: str, settings: Sequence[float]
) -> list[Accuracies]:
    """Returns the rates, in rising order, and the result of `verify` at each."""
    result = []
    for setting in settings:
        measured = bench.photographs(codec, setting, dataset.subjects)
        rate = 8 * sum(each.bytes for each in measured) / sum(each.pixels for each in measured)
        result.append((rate, verify(bench, dataset, codec, setting)))
    return sorted(result, key=lambda each: each[0])


def accuracy_at(rate: float, curve: list[Accuracies], spec: EmbeddingSpec) -> str:
    rates = [each for each, _ in curve]
    if not rates[0] <= rate <= rates[-1]:
        return f"has {rates[0]:.3f} to {rates[-1]:.3f} bpp"
    values = np.array(
        [[result[str(spec)][key] for key in ("accuracy", "standard_error")] for _, result in curve]
    )
    mean, error = (float(np.interp(np.log(rate), np.log(rates), each)) for each in values.T)
    return within(mean, error)


def curve(points: list[Point], spec: EmbeddingSpec, samples: np.ndarray) -> Curve:
    points = sorted(points, key=lambda point: point.numbers["bpp"])
    frr = [point.numbers["recognition"][str(spec)]["frr"] for point in points]
    return (
        [p.numbers["bpp"] for p in points],
        frr,
        np.stack([frr_draws(p.distances[spec], samples) for p in points]),
    )


def saving(rate: float, wanted: float, drawn: np.ndarray, other: Curve) -> str:
    """Returns the share of the other codec's bits saved at equal FRR, and its interval."""
    rates, frr, theirs = other
    needed = rate_at(rates, frr, wanted)
    if needed is None:
        return f"at least {1 - rate / rates[-1]:.1%}"
    if needed < 1.0001 * rates[0]:
        return f"needs at most {needed:.3f} bpp"
    found = np.nan_to_num(rates_at(rates, theirs, drawn), nan=rates[-1])
    low, high = interval(1 - rate / found) or (np.nan, np.nan)
    return f"{1 - rate / needed:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
