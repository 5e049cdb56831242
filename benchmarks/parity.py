"""Compares the numbers of models' cards with HEVC's: bits at parity, PSNR, BD-rate, curves.

    python benchmarks/parity.py weights/l2-ipr.json weights/l2-rec.json [--anchors FILE]
        [-o docs/images/lfw.png]

`facecodec card` writes the JSON files. HEVC's numbers are those of anchors.json, measured over the
same photographs by the same protocol (`python benchmarks/lfw_rate.py --crf 23` measures its rate
and PSNR again). Parity is the rate where a monotone fit of FRR over rate crosses HEVC's at CRF 23;
"<" means that it is below the lowest rate measured. The next line has the rate where the mean
cosine to the original equals HEVC's, which hardly depends on single people. BD-rate on PSNR is
against HEVC and against the models named later. The picture is figure 4 of Xiao et al. (2022) from
these numbers, with the other codecs of anchors.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facecodec.bench.metrics import bd_rate, rate_at

RECOGNISERS = {"mobilefacenet-ms1m": ("frr_ms1m", "seen"), "mobileface-v2": ("frr_v2", "unseen")}
OTHERS = {
    "hevc": ("HEVC", "black"),
    "avif": ("AVIF", "0.45"),
    "webp": ("WebP", "0.6"),
    "jpeg": ("JPEG", "0.75"),
}
# Of HEVC CRF 23, over the same photographs, from docs/results.md; anchors.json has none.
COSINES = {"mobilefacenet-ms1m": 0.9783, "mobileface-v2": 0.9807}
HONEST, WITH_TEXT = (
    0.434,
    0.729,
)  # HEVC CRF 23 in bits per pixel: without and with the text x265 writes


def at(rows: list[dict], rate: float, key: str) -> float:
    """Interpolates `key` at a rate, linearly in log rate between the points."""
    rates = [row["bpp"] for row in rows]
    return float(np.interp(np.log(rate), np.log(rates), [row[key] for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cards", nargs="+", type=Path)
    parser.add_argument("--anchors", type=Path, default=Path("../shared/anchors.json"))
    parser.add_argument("-o", "--output", type=Path, help="write the curves to this picture")
    arguments = parser.parse_args()
    # LFW's JPEGs have quality 75, so coding them with it again changes nothing.
    anchors = {
        key: row
        for key, row in json.loads(arguments.anchors.read_text()).items()
        if key != "jpeg:75"
    }
    others = {
        codec: [row for key, row in anchors.items() if key.startswith(f"{codec}:")]
        for codec in OTHERS
    }
    for rows in others.values():
        rows.sort(key=lambda row: row["bpp"])
    hevc, target = others["hevc"], anchors["hevc:23"]
    models = {
        path.stem: sorted(json.loads(path.read_text())["rows"], key=lambda r: r["bpp"])
        for path in arguments.cards
    }

    for name, rows in models.items():
        rates = [row["bpp"] for row in rows]
        print(f"{name}: {rates[0]:.3f} to {rates[-1]:.3f} bpp")
        for recogniser, (key, mark) in RECOGNISERS.items():
            frr = [row["recognition"][recogniser].get("frr") for row in rows]
            if None in frr:
                print(f"  {mark}: measured over too few queries for an FRR")
                continue
            rate = rate_at(rates, frr, target[key])
            sign = "<" if rate is not None and math.isclose(rate, rates[0]) else ""
            text = (
                "not reached"
                if rate is None
                else f"{sign}{rate:.3f} bpp, {sign}{rate / HONEST:.0%} of HEVC's bits"
            )
            text += "" if rate is None else f" ({sign}{rate / WITH_TEXT:.0%} with x265's text)"
            print(f"  parity, {mark} ({recogniser}, FRR {target[key]:.2%}): {text}")
            distances = [1 - row["recognition"][recogniser]["cosine"] for row in rows]
            rate = rate_at(rates, distances, 1 - COSINES[recogniser])
            if rate is not None:
                share = f"{rate:.3f} bpp, {rate / HONEST:.0%} of HEVC's bits"
                print(f"  HEVC's cosine, {mark} ({COSINES[recogniser]}): {share}")
        later = list(models)[list(models).index(name) + 1 :]
        for other, points in {"HEVC": hevc, **{other: models[other] for other in later}}.items():
            rate = bd_rate(within(points), within(rows))
            text = "no PSNR in common" if rate is None else f"{rate:+.1f}%"
            print(f"  BD-rate on PSNR against {other}: {text}")
        print(f"  at 0.3 bpp: {at(rows, 0.3, 'psnr'):.2f} dB")
    if arguments.output:
        draw(models, others, target, arguments.output)


def within(rows: list[dict]) -> list[tuple[float, float]]:
    """Returns (bpp, PSNR) at the rates of the BD-rate and a little beyond them."""
    return [(row["bpp"], row["psnr"]) for row in rows if 0.1 <= row["bpp"] <= 0.9]


def draw(
    models: dict[str, list[dict]], others: dict[str, list[dict]], target: dict, out: Path
) -> None:
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, (recogniser, (key, mark)) in zip(panels, RECOGNISERS.items(), strict=False):
        curves(
            axes,
            over_rate(models, partial(rejections, recogniser)),
            others,
            key,
            100,
        )
        axes.axhline(100 * target[key], color="black", linewidth=0.8, linestyle=":")
        axes.annotate("HEVC CRF 23", (0.06, 100 * target[key]), va="bottom", fontsize=8)
        axes.set_yscale("log")
        levels = [5, 10, 20, 40, 80] if mark == "seen" else [20, 30, 40, 60, 80]
        axes.set_yticks(levels, [f"{value}%" for value in levels])
        axes.set(ylabel="false rejections at FAR 1%", title=f"{recogniser} ({mark} in training)")
        axes.minorticks_off()
        axes.set_ylim(levels[0] * 0.9, 100)
    curves(panels[2], over_rate(models, lambda row: row["psnr"]), others, "psnr")
    panels[2].set(ylabel="PSNR, dB", title="pixels", ylim=(20, 42))
    panels[2].legend(loc="lower right")
    figure.savefig(out, dpi=130)


def rejections(recogniser: str, row: dict) -> float:
    return row["recognition"][recogniser]["frr"]


def over_rate(
    models: dict[str, list[dict]], value: Callable[[dict], float]
) -> dict[str, list[tuple[float, float]]]:
    return {name: [(row["bpp"], value(row)) for row in rows] for name, rows in models.items()}


def curves(axes: Axes, models: dict, others: dict, key: str, factor: float = 1) -> None:
    """Draws one value over rate: of models, as (bpp, value), and of other codecs by `key`."""
    drawn: list[tuple[list[tuple[float, float]], str, str | None, str, int]] = [
        ([(row["bpp"], row[key]) for row in rows], *OTHERS[codec], "s--", 1)
        for codec, rows in others.items()
    ]
    drawn += [(points, name, None, "o-", 2) for name, points in models.items()]
    for points, label, color, style, width in drawn:
        rates, values = np.array(points).T
        axes.plot(
            rates, factor * values, style, markersize=4, linewidth=width, color=color, label=label
        )
    axes.set_xscale("log")
    ticks = [0.05, 0.1, 0.2, 0.4, 0.8]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.045, 1.1)
    axes.set_xlabel("bits per pixel")
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    main()
