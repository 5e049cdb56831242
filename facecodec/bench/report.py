"""Writes and reads the bench's results as files."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facecodec.bench import SCHEMA
from facecodec.bench.conclusion import conclusion
from facecodec.bench.gallery import with_pictures
from facecodec.bench.page import page
from facecodec.bench.plots import draw
from facecodec.bench.tables import markdown
from facecodec.errors import UsageError


def write(results: dict[str, Any], out: Path) -> None:
    """Writes results.json, report.html and results.md; for codecs also results.csv and curves.

    Pictures that the results name must be in `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    partial = out / "results.json.partial"
    partial.write_text(json.dumps(results) + "\n")
    os.replace(partial, out / "results.json")
    (out / "report.html").write_text(page(results, out), "utf-8")
    (out / "results.md").write_text(markdown(results, conclusion(results)), "utf-8")
    if "codecs" not in results:
        return
    draw(results, out)
    with open(out / "results.csv", "w", newline="") as file:
        rows = [
            _flat(codec, numbers)
            for codec, entry in results["codecs"].items()
            for numbers in entry["points"]
        ]
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> dict[str, Any]:
    """Reads a results.json. Raises UsageError for anything else, or another schema."""
    try:
        results = json.loads(path.read_text())
        schema = results["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not the bench's results.json: {error}") from None
    if schema != SCHEMA:
        raise UsageError(f"{path}: results of schema {schema}; this facecodec reads {SCHEMA}")
    return results


def redraw(many: Sequence[dict[str, Any]], folders: Sequence[Path], out: Path) -> None:
    """Writes one report of several results. `folders` have the pictures of each.

    If several have a codec at the same setting, or its parity, the first counts. Raises UsageError
    for results of different photographs, or of different versions of a codec.
    """
    merged: dict[str, Any] = {}
    for number, (results, folder) in enumerate(zip(many, folders, strict=True)):
        _check_dataset(merged, results)

        def moved(name: str, folder: Path = folder, number: int = number) -> str:
            place = Path("pictures", f"{number}-{Path(name).name}")
            (out / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, out / place)
            return place.as_posix()

        for key, value in with_pictures(results, moved).items():
            if key == "codecs":
                merged["codecs"] = _merged(merged.get("codecs", {}), value)
            elif key == "skipped":
                merged[key] = merged.get(key, {}) | value
            elif key == "seen":
                merged[key] = sorted({*merged.get(key, []), *value})
            elif key in ("commands", "rejected", "differences"):
                merged[key] = merged.get(key, []) + value
            elif key == "gallery" and merged.get(key):
                for face, more in zip(merged[key], value, strict=True):
                    face["decoded"] |= more["decoded"]
            elif value is not None:
                merged[key] = value
    write(merged, out)


def _merged(codecs: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Returns both results; a codec in both has the settings, recognisers and parities of both."""
    merged = codecs | more
    for name in codecs.keys() & more.keys():
        entry, other = codecs[name], more[name]
        if entry["version"] != other["version"]:
            raise UsageError(
                f"results of two versions of {name}: {entry['version']} and {other['version']}"
            )
        points = {point["setting"]: point for point in other["points"]}
        for point in entry["points"]:
            recognition = points.get(point["setting"], {}).get("recognition", {}) | point.get(
                "recognition", {}
            )
            points[point["setting"]] = point | ({"recognition": recognition} if recognition else {})
        merged[name] = entry | {
            "points": sorted(points.values(), key=lambda point: point["setting"])
        }
        if "parity" in entry or "parity" in other:
            merged[name]["parity"] = other.get("parity", {}) | entry.get("parity", {})
    return merged


def _check_dataset(merged: dict[str, Any], results: dict[str, Any]) -> None:
    names = [each["dataset"] for each in (merged, results) if "dataset" in each]
    if len(names) == 2 and names[0] != names[1]:
        raise UsageError(
            f"results of different photographs: {names[0]['name']} and {names[1]['name']}"
        )


def _flat(codec: str, numbers: dict[str, Any]) -> dict[str, Any]:
    row = {"codec": codec} | {key: value for key, value in numbers.items() if key != "recognition"}
    for recogniser, seen in numbers.get("recognition", {}).items():
        row |= {
            f"{key}, {recogniser}": value
            for key, value in seen.items()
            if not isinstance(value, list | tuple | dict)
        }
    return row
