"""What the cards' numbers come to beside HEVC: bits at recognition parity, PSNR, BD-rate, and the curves as a picture.

    python benchmarks/parity.py weights/l2-rec.json weights/l2-ipr.json [--anchors FILE] [-o docs/images/lfw-frr.png]

The JSON files are what `facecodec card` writes. HEVC's numbers are those of anchors.json, measured over the same
photographs by the same protocol (`python benchmarks/lfw_rate.py --crf 23` measures its rate and PSNR again). Parity is
the rate where a monotone fit of FRR over rate crosses HEVC's at CRF 23; "<" where the lowest rate measured is below it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from facecodec.bench.metrics import bd_rate, rate_at

RECOGNISERS = {"mobilefacenet-ms1m": ("frr_ms1m", "seen"), "mobileface-v2": ("frr_v2", "unseen")}
HONEST, WITH_TEXT = 0.434, 0.729  # HEVC CRF 23 in bits per pixel: without and with the text x265 writes


def at(rows: list[dict], rate: float, key: str) -> float:
    """`key` at a rate, straight in log rate between the points."""
    rates = [row["bpp"] for row in rows]
    return float(np.interp(np.log(rate), np.log(rates), [row[key] for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cards", nargs="+", type=Path)
    parser.add_argument("--anchors", type=Path, default=Path("../shared/anchors.json"))
    parser.add_argument("-o", "--output", type=Path, help="write the curves to this picture")
    arguments = parser.parse_args()
    anchors = {key: value for key, value in json.loads(arguments.anchors.read_text()).items() if "hevc:" in key}
    hevc = sorted(anchors.values(), key=lambda row: row["bpp"])
    target = anchors["hevc:23"]
    models = {
        path.stem: sorted(json.loads(path.read_text())["rows"], key=lambda r: r["bpp"]) for path in arguments.cards
    }

    for name, rows in models.items():
        rates = [row["bpp"] for row in rows]
        print(f"{name}: {rates[0]:.3f} to {rates[-1]:.3f} bpp")
        for recogniser, (key, mark) in RECOGNISERS.items():
            frr = [row[f"frr:{recogniser}"] for row in rows]
            rate = rate_at(rates, frr, target[key])
            sign = "<" if rate == rates[0] else ""
            told = "not reached" if rate is None else f"{sign}{rate:.3f} bpp, {sign}{rate / HONEST:.0%} of HEVC's bits"
            told += "" if rate is None else f" ({sign}{rate / WITH_TEXT:.0%} with x265's text)"
            print(f"  parity, {mark} ({recogniser}, FRR {target[key]:.2%}): {told}")
        shared = [row for row in rows if 0.12 <= row["bpp"] <= 0.9]
        quality = {key: [(row["bpp"], row[key]) for row in shared] for key in ("psnr", "ms_ssim")}
        for key, points in quality.items():
            told = bd_rate([(row["bpp"], row[key]) for row in hevc if row["bpp"] > 0.1], points)
            print(f"  BD-rate against HEVC on {key}: {told:+.1f}%")
        print(f"  at 0.3 bpp: {at(rows, 0.3, 'psnr'):.2f} dB")
    if arguments.output:
        draw(models, hevc, arguments.output)


def draw(models: dict[str, list[dict]], hevc: list[dict], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, (recogniser, (key, mark)) in zip((left, right), RECOGNISERS.items(), strict=True):
        axes.plot([r["bpp"] for r in hevc], [100 * r[key] for r in hevc], "s--", color="gray", label="HEVC")
        for name, rows in models.items():
            values = [100 * row[f"frr:{recogniser}"] for row in rows]
            axes.plot([row["bpp"] for row in rows], values, "o-", label=name)
        level = 100 * next(r[key] for r in hevc if abs(r["bpp"] - HONEST) < 0.005)
        axes.axhline(level, color="gray", linewidth=0.8)
        axes.annotate("HEVC CRF 23", (0.62, level), color="gray", va="bottom", fontsize=8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks = [0.1, 0.2, 0.4, 0.8]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        levels = [5, 10, 20, 40, 80] if mark == "seen" else [20, 30, 40, 60, 80]
        axes.set_yticks(levels, [f"{value}%" for value in levels])
        axes.set(xlabel="bits per pixel", ylabel="FRR at FAR = 1%", title=f"{recogniser} ({mark} in training)")
        axes.grid(alpha=0.3)
    left.legend()
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main()
