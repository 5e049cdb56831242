"""Compares the bench with the independent measurement that accompanies the data.

    python benchmarks/anchors.py build/lfw/results.json [--anchors ../shared/anchors.json]

Both have the same codecs, settings and photographs. Rates should agree within 1%, PSNR within 0.1
dB, FRR within one percentage point; other values are marked.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from facecodec.bench import SEEN, UNSEEN

NAMES = {"orig": "original", "j2k": "jpeg2000"}  # names of codecs there, and here


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--anchors", type=Path, default=Path("../shared/anchors.json"))
    arguments = parser.parse_args()
    codecs = json.loads(arguments.results.read_text())["codecs"]
    ours = {
        (name, point["setting"]): point
        for name, entry in codecs.items()
        for point in entry["points"]
    }
    print("| | bpp | its | PSNR | its | FRR, seen | its | FRR, unseen | its |\n|" + " --- |" * 9)
    for name, anchor in json.loads(arguments.anchors.read_text()).items():
        codec, setting = name.split(":")
        point = ours.get((NAMES.get(codec, codec), float(setting)))
        if point is None or codec == "orig":
            continue
        cells = [name, _pair(point["bpp"], anchor["bpp"], 0.01 * anchor["bpp"], ".4f")]
        cells.append(_pair(point["psnr"], anchor["psnr"], 0.1, ".2f"))
        for recogniser, key in ((SEEN, "frr_ms1m"), (UNSEEN, "frr_v2")):
            cells.append(_pair(point["recognition"][recogniser]["frr"], anchor[key], 0.01, ".1%"))
        print("| " + " | ".join(cells) + " |")


def _pair(mine: float, its: float, within: float, style: str) -> str:
    mark = "" if abs(mine - its) <= within else " **differs**"
    return f"{mine:{style}}{mark} | {its:{style}}"


if __name__ == "__main__":
    main()
