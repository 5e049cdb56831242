"""Measures what faces lose by age, sex and expression, compared with HEVC at equal bits.

    python benchmarks/groups.py DATASET --model l2-ipr:2,4 [--hevc CRF,...] [--recogniser NAME ...]

DATASET is all-age-faces-mini, by age band and sex, or london-faces, neutral and smiling. The loss
is 1 - cosine of the decoded and the original face's embeddings, in thousandths. HEVC's loss at
equal bits is interpolated for each photograph, in log rate between two CRFs of the whole set. In
brackets: 95% intervals by bootstrap over people. "Against all" is a group's loss minus that of all,
paired; it is bold if its interval excludes zero. For London's people, FRR is the share of smiling
faces that are not nearer to their own neutral face than the nearest 1% of all other pairs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facecodec.bench import SEEN, UNSEEN
from facecodec.bench.intervals import draws, interval, mean_draws
from facecodec.bench.measure import EmbeddingSpec, Measured, open_bench
from facecodec.bench.protocols import FAR
from facecodec.bench.run import stacked
from facecodec.bench.subjects import ALIGNED, Subject, load_dataset
from facecodec.datasets import photographs
from facecodec.folders import data_root

LONDON = "london-faces"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset")
    parser.add_argument("--model", action="append", required=True, metavar="NAME:Q,...")
    parser.add_argument("--hevc", default="24,28,33,38", metavar="CRF,...")
    parser.add_argument("--recogniser", "--recognizer", action="append")
    parser.add_argument("--every", type=int, default=1, help="take every N-th photograph")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    root = data_root(arguments.data)
    subjects = load_dataset(arguments.dataset, root).subjects[:: arguments.every]
    subjects = [subject for subject in subjects if subject.landmarks is not None]
    groups = groups_of(arguments.dataset, subjects, root)
    settings = {
        name: numbers(listed) for name, _, listed in (m.rpartition(":") for m in arguments.model)
    }
    bench = open_bench(arguments.recogniser or [SEEN, UNSEEN], root)
    try:
        originals = bench.photographs("original", 0, subjects)
        hevc = [bench.photographs("hevc", crf, subjects) for crf in numbers(arguments.hevc)]
        ours = {
            f"{name} q {q:g}": bench.photographs(name, q, subjects)
            for name, listed in settings.items()
            for q in listed
        }
    finally:
        bench.close()
    samples = draws([subject.person for subject in subjects])
    print(f"{arguments.dataset}: {len(subjects)} photographs\n")
    for spec in bench.specs:
        curve = sorted((rate(each), lost(each, originals, spec)) for each in hevc)
        for name, measured in ours.items():
            theirs, wanted = at_equal_bits(curve, rate(measured)), lost(measured, originals, spec)
            print(f"**{spec}**: {name}, {rate(measured):.3f} bpp\n")
            print("| | photographs | lost | against all | HEVC: lost | against all |")
            print("|" + " --- |" * 6)
            for group, members in groups.items():
                cells = [
                    cell for each in (wanted, theirs) for cell in compared(each, members, samples)
                ]
                print(f"| {group} | {members.sum()} | {' | '.join(cells)} |")
            print()
        if arguments.dataset.startswith(LONDON):
            rows = {"original": originals} | ours
            rows |= {
                f"hevc {crf:g}": each
                for crf, each in zip(numbers(arguments.hevc), hevc, strict=True)
            }
            print(
                f"**{spec}**: neutral is enrolled, smiling asks\n\n| | bpp | FRR |\n| --- | --- | --- |"
            )
            for name, measured in rows.items():
                print(f"| {name} | {rate(measured):.3f} | {rejected(measured, subjects, spec)} |")
            print()


def numbers(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]


def groups_of(dataset: str, subjects: list[Subject], root: Path) -> dict[str, np.ndarray]:
    """Returns, by group, whether each subject belongs to it, (N,)."""
    if dataset.startswith(LONDON):
        people = [subject.person for subject in subjects]
        named = [
            ["all", "smiling" if person in people[:place] else "neutral"]
            for place, person in enumerate(people)
        ]
    else:
        name = dataset.removesuffix(ALIGNED)
        of = {photo.person: photo.group for photo in photographs(name, "test", root)}
        named = [["all", *of[subject.person].split(", ")] for subject in subjects]
    names = sorted(
        {name for each in named for name in each}, key=lambda name: (name != "all", name)
    )
    return {name: np.array([name in each for each in named]) for name in names}


def rate(measured: Sequence[Measured]) -> float:
    return 8 * sum(each.bytes for each in measured) / sum(each.pixels for each in measured)


def lost(
    measured: Sequence[Measured], originals: Sequence[Measured], spec: EmbeddingSpec
) -> np.ndarray:
    """Returns 1 - cosine of each photograph, in thousandths."""
    return 1000 * (1 - (stacked(measured, spec) * stacked(originals, spec)).sum(1))


def at_equal_bits(curve: list[tuple[float, np.ndarray]], wanted: float) -> np.ndarray:
    """Returns each photograph's loss at a rate within the curve."""
    rates = np.log([each for each, _ in curve])
    if not rates[0] <= np.log(wanted) <= rates[-1]:
        raise SystemExit(f"no CRF of --hevc is on both sides of {wanted:.3f} bpp")
    after = max(1, int(np.searchsorted(rates, np.log(wanted))))
    share = (np.log(wanted) - rates[after - 1]) / (rates[after] - rates[after - 1])
    return (1 - share) * curve[after - 1][1] + share * curve[after][1]


def compared(values: np.ndarray, members: np.ndarray, samples: np.ndarray) -> tuple[str, str]:
    """Returns a group's mean, and its difference to the mean of all, each with its interval."""
    drawn = mean_draws(np.where(members, values, np.nan), samples)
    mean, every = values[members].mean(), values.mean()
    low, high = interval(drawn) or (np.nan, np.nan)
    if members.all():
        return f"{mean:.1f} ({low:.1f} to {high:.1f})", ""
    apart = interval(drawn - mean_draws(values, samples)) or (np.nan, np.nan)
    text = f"{mean - every:+.1f} ({apart[0]:+.1f} to {apart[1]:+.1f})"
    clear = apart[0] > 0 or apart[1] < 0
    return f"{mean:.1f} ({low:.1f} to {high:.1f})", f"**{text}**" if clear else text


def rejected(measured: Sequence[Measured], subjects: list[Subject], spec: EmbeddingSpec) -> str:
    """Returns the FRR, with its interval, of each person's second photograph against the first."""
    embeddings, people = stacked(measured, spec), np.array([each.person for each in subjects])
    first = np.array([np.flatnonzero(people == person)[0] for person in np.unique(people)])
    asks = np.setdiff1d(np.arange(len(people)), first)
    apart = 1 - embeddings[asks] @ embeddings[first].T
    own = people[asks][:, None] == people[first]
    threshold = np.sort(apart[~own])[int(FAR * (~own).sum())]
    wrong = (apart[own] >= threshold).astype(float)
    low, high = interval(mean_draws(wrong, draws(people[asks].tolist()))) or (np.nan, np.nan)
    return f"{wrong.mean():.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
