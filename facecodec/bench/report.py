"""What the bench found, as files and on the terminal."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def write(results: dict[str, Any], out: Path) -> None:
    """results.json, with everything, and results.csv, a line for each codec and setting."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / "results.json.partial"
    partial.write_text(json.dumps(results) + "\n")
    os.replace(partial, out / "results.json")
    with open(out / "results.csv", "w", newline="") as file:
        rows = [_flat(codec, numbers) for codec, entry in results["codecs"].items() for numbers in entry["points"]]
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def _flat(codec: str, numbers: dict[str, Any]) -> dict[str, Any]:
    row = {"codec": codec} | {key: value for key, value in numbers.items() if key != "recognition"}
    for face, seen in numbers.get("recognition", {}).items():
        row |= {f"{key}, {face}": value for key, value in seen.items() if not isinstance(value, list | tuple)}
    return row


def show(results: dict[str, Any]) -> None:
    """Tables on stdout: rate and quality, and one for each recogniser."""
    dataset, console = results["dataset"], Console()
    counts = ", ".join(f"{dataset[count]} {count}" for count in ("photographs", "people", "queries"))
    points = [(codec, numbers) for codec, entry in results["codecs"].items() for numbers in entry["points"]]
    rows = [
        (f"{n['psnr']:.2f}", f"{n['ssim']:.3f}", "" if n["ms_ssim"] is None else f"{n['ms_ssim']:.4f}")
        for _, n in points
    ]
    console.print(_table(f"{dataset['name']}: {counts}", ("PSNR", "SSIM", "MS-SSIM"), points, rows))
    faces = points[0][1].get("recognition", {})
    for face in faces:
        seen = [numbers["recognition"][face] for _, numbers in points]
        told = [(_number(s["cosine"]), _frr(s), _number(s.get("accuracy"), ".1%"), str(s["lost"])) for s in seen]
        console.print(_table(face, ("cosine", "FRR at FAR = 1%", "pairs", "no face"), points, told))
    for codec, entry in results["codecs"].items():
        for face, parity in entry.get("parity", {}).items():
            console.print(f"{codec}, {face}: {_parity(parity)}", highlight=False)
    for codec, reason in results["skipped"].items():
        console.print(f"{codec} was skipped: {reason}", highlight=False)
    for path in dataset["unreadable"]:
        console.print(f"{path} could not be read and was left out", highlight=False)
    if any("frr" not in seen for seen in faces.values()):
        console.print(f"{dataset['queries']} queries are too few for an FRR", highlight=False)


def _table(title: str, heads: Sequence[str], points: list[tuple[str, Any]], rows: list[tuple[str, ...]]) -> Table:
    """A line for each point: codec, setting, bpp and what `rows` has."""
    table = Table(title=title)
    for head in ("codec", "setting", "bpp", *heads):
        table.add_column(head, justify="left" if head == "codec" else "right", no_wrap=True)
    for (codec, numbers), cells in zip(points, rows, strict=True):
        table.add_row(codec, f"{numbers['setting']:g}", f"{numbers['bpp']:.3f}", *cells)
    return table


def _number(value: float | None, style: str = ".4f") -> str:
    return "" if value is None else f"{value:{style}}"


def _frr(seen: dict[str, Any]) -> str:
    between = seen.get("frr_interval")
    return _number(seen.get("frr"), ".1%") + ("" if between is None else f" ({between[0]:.1%} to {between[1]:.1%})")


def _parity(parity: dict[str, Any]) -> str:
    if "reason" in parity:
        return f"HEVC CRF 23's recognition: {parity['reason']}"
    between = parity["interval"]
    told = "" if between is None else f" ({between[0]:.3f} to {between[1]:.3f})"
    return f"HEVC CRF 23's recognition at {parity['bpp']:.3f} bpp{told}, {parity['share']:.0%} of its bits"
