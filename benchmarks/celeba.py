"""Measures high-resolution faces of the CelebA test people beside HEVC CRF 23.

    python benchmarks/celeba.py --model l2-rec --model l2-ipr [-q 2 -q 3 ...]
        [--recogniser NAME ...] [--data DIR] [-o docs/images/celeba.png]

Faces are at full resolution, and aligned as 448x448 pictures. Mean cosine is between the embeddings
of the decoded and the original face, under mobilefacenet-ms1m and mobileface-v2 unless others are
given. For each model, the rate where that cosine is HEVC's comes from a monotone fit over its q.
There are too few people for an FRR. The picture is figure 5 of Xiao et al. (2022) from these
numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from facecodec.bench import SEEN, UNSEEN
from facecodec.bench.measure import Bench, open_bench
from facecodec.bench.metrics import rate_at
from facecodec.bench.run import measure
from facecodec.bench.subjects import Subject, load_dataset
from facecodec.folders import data_root

CRFS = (33, 28, 23)
TICKS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


def numbers(
    bench: Bench, subjects: list[Subject], codec: str, settings: Iterable[float]
) -> list[dict[str, Any]]:
    points = measure(bench, subjects, {codec: list(settings)})
    return [{"setting": point.setting, **point.numbers} for point in points]


def line(row: dict[str, Any], name: str, recognisers: Sequence[str]) -> str:
    cosines = " | ".join(
        f"{row['recognition'][recogniser]['cosine']:.4f}" for recogniser in recognisers
    )
    return f"| {name} | {row['bpp']:.3f} | {row['psnr']:.2f} | {row['ms_ssim']:.4f} | {cosines} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("-q", action="append", type=float)
    parser.add_argument("--recogniser", action="append")
    parser.add_argument("--data", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="draw the curves into this picture")
    arguments = parser.parse_args()
    root = data_root(arguments.data)
    recognisers = arguments.recogniser or [SEEN, UNSEEN]
    bench = open_bench(recognisers, root)
    results = {}
    columns = " | ".join(recognisers)
    for title, name in (
        ("full resolution", "celeba-hq-mini"),
        ("448x448, aligned", "celeba-hq-mini-align"),
    ):
        subjects = load_dataset(name, root).subjects
        print(f"\n{title}, {len(subjects)} photographs\n")
        print(f"| | bpp | PSNR | MS-SSIM | {columns} |\n|" + " --- |" * (4 + len(recognisers)))
        results[title] = {"HEVC": numbers(bench, subjects, "hevc", CRFS)}
        for row in results[title]["HEVC"]:
            print(line(row, f"HEVC CRF {row['setting']:g}", recognisers), flush=True)
        for model in arguments.model:
            rows = results[title][model] = numbers(
                bench, subjects, model, arguments.q or range(1, 7)
            )
            for row in rows:
                print(line(row, f"`{model}` q {row['setting']:g}", recognisers), flush=True)
        hevc = results[title]["HEVC"][-1]
        print("\nBits for the cosine of HEVC CRF 23, and their share of its bits:\n")
        print(f"| | {columns} |\n|" + " --- |" * (1 + len(recognisers)))
        for model in arguments.model:
            rates = [equal_rate(results[title][model], hevc, each) for each in recognisers]
            shares = (f"{each:.3f}, {each / hevc['bpp']:.0%}" if each else "more" for each in rates)
            print(f"| `{model}` | " + " | ".join(shares) + " |", flush=True)
    bench.close()
    if arguments.output:
        draw(results, recognisers, arguments.output)


def equal_rate(rows: list[dict[str, Any]], hevc: dict[str, Any], recogniser: str) -> float | None:
    """Returns the rate at which a model has HEVC's mean cosine; None if it needs a higher q."""
    far = [1 - row["recognition"][recogniser]["cosine"] for row in rows]
    target = 1 - hevc["recognition"][recogniser]["cosine"]
    return rate_at([row["bpp"] for row in rows], far, target)


def draw(
    results: dict[str, dict[str, list[dict[str, Any]]]], recognisers: Sequence[str], out: Path
) -> None:
    """Draws a row for each set: PSNR, and cosine under each recogniser, over rate."""
    figure = Figure(figsize=(4.3 * (1 + len(recognisers)), 8), layout="constrained")
    panels = figure.subplots(len(results), 1 + len(recognisers))
    for line_of, (title, codecs) in zip(panels, results.items(), strict=True):
        for axes, name in zip(line_of, ("PSNR, dB", *recognisers), strict=True):
            for codec, rows in codecs.items():
                values = [
                    row["psnr"] if axes is line_of[0] else row["recognition"][name]["cosine"]
                    for row in rows
                ]
                style = "ks--" if codec == "HEVC" else "o-"
                axes.plot([row["bpp"] for row in rows], values, style, markersize=4, label=codec)
            axes.set(title=f"{title}: {name}", xlabel="bits per pixel", xscale="log")
            ticks = [tick for tick in TICKS if axes.get_xlim()[0] < tick < axes.get_xlim()[1]]
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        line_of[-1].legend(loc="lower right")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
