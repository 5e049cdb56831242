"""Draws PSNR over rate from the output of lfw_rate.py.

python benchmarks/plot_rate.py RESULTS.jsonl -o docs/images/lfw-psnr.png
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    curves = defaultdict(list)
    for path in arguments.results:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            curves[row["codec"]].append((row["bpp"], row["psnr"]))
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, points in sorted(curves.items()):
        label = {"hevc": "HEVC intra (x265 medium, 4:2:0)"}.get(name, name)
        axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=4, label=label)
    axes.set(xlabel="bits per pixel", ylabel="PSNR, dB", title="LFW test people, whole files")
    axes.grid(alpha=0.3)
    axes.legend()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=130)


if __name__ == "__main__":
    main()
