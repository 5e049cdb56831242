"""Writes the report as one self-contained HTML page."""

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
    """Returns `results` as a page. The pictures that they name are in `folder`."""

    def embedded(name: str) -> str:
        return "data:image/webp;base64," + base64.b64encode((folder / name).read_bytes()).decode()

    shown = with_pictures(results, embedded)  # a deep copy
    for entry in shown.get("codecs", {}).values():
        for point in entry["points"]:
            for seen in point.get("recognition", {}).values():
                seen.pop("roc", None)  # large, and the page does not draw it
    shown |= {"conclusion": conclusion(results), "remarks": remarks(results)}
    shown["about"] = described(results["dataset"]) if "dataset" in results else ""
    # "</" would end the script element that contains the numbers.
    data = json.dumps(shown).replace("</", "<\\/")
    return (
        files("facecodec.bench")
        .joinpath("page.html")
        .read_text("utf-8")
        .replace("RESULTS", data, 1)
    )
