"""Writes the report as one HTML page with pictures and script, which opens from disk."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from facecodec.bench.conclusion import conclusion
from facecodec.bench.gallery import with_pictures
from facecodec.bench.tables import described, remarks


def page(results: dict[str, Any], folder: Path) -> str:
    """Returns `results` as a page; `folder` has the pictures that it names."""

    def embedded(name: str) -> str:
        return "data:image/webp;base64," + base64.b64encode((folder / name).read_bytes()).decode()

    shown = with_pictures(results, embedded)  # a copy, down to every number
    for entry in shown.get("codecs", {}).values():
        for point in entry["points"]:
            for seen in point.get("recognition", {}).values():
                seen.pop("roc", None)  # most of the bytes, and not drawn
    shown |= {"conclusion": conclusion(results), "remarks": remarks(results)}
    shown["about"] = described(results["dataset"]) if "dataset" in results else ""
    # "</" would end the script element that the numbers lie in.
    data = json.dumps(shown).replace("</", "<\\/")
    return (
        files("facecodec.bench")
        .joinpath("page.html")
        .read_text("utf-8")
        .replace("RESULTS", data, 1)
    )
