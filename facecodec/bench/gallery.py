"""Makes the report's pictures: faces by every codec at one rate, and rejected queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facecodec import images
from facecodec.bench.codecs import find_codec
from facecodec.bench.codecs.fit import nearest
from facecodec.bench.subjects import Subject
from facecodec.bench.tables import recognisers_of

PICTURES = (
    "original",
    "file",
    "query",
    "query_decoded",
    "enrolled_decoded",
)  # keys of results that name one
FACES = 4
BPP = 0.12  # the size at which faces are shown; about 940 bytes at 250x250


def add_pictures(
    results: dict[str, Any],
    subjects: Sequence[Subject],
    out: Path,
    tell: Callable[[int, int], None],
) -> None:
    """Adds faces to `results["gallery"]`, and pictures to the rejected queries in the results.

    `tell` gets how many of the gallery's pictures are done, and of how many.
    """
    codecs = [name for name in results["codecs"] if find_codec(name).fine]
    subjects = [
        subject for subject in subjects if str(subject.path) not in results["dataset"]["unreadable"]
    ]
    results["gallery"] = gallery(subjects, codecs, out, tell)
    shown = {
        name: telling(entry, results)
        for name, entry in results["codecs"].items()
        if not entry["reference"]
    }
    rejected = results.get("rejected", [])
    chosen = [
        each
        for each in rejected
        if each["recogniser"] in recognisers_of(results)[:1]
        and shown.get(each["codec"]) == each["setting"]
    ]
    others = [each for each in rejected if each not in chosen]
    results["rejected"] = rejected_pictures(chosen, subjects, out) + others


def telling(entry: dict[str, Any], results: dict[str, Any]) -> float:
    """Returns a codec's coarsest setting that is recognised as well as the baseline, or its finest.

    The first recogniser decides.
    """
    by_rate = sorted(entry["points"], key=lambda point: point["bpp"])
    baseline = results["baseline"]
    seen = next(iter(recognisers_of(results)), None)
    if baseline and "frr" in by_rate[0].get("recognition", {}).get(seen, {}):
        points = {point["setting"]: point for point in results["codecs"][baseline[0]]["points"]}
        target = points[baseline[1]]["recognition"][seen]["frr"]
        for point in by_rate:
            if point["recognition"][seen]["frr"] <= target:
                return point["setting"]
    return by_rate[-1]["setting"]


def with_pictures(node: Any, change: Callable[[str], str]) -> Any:
    """Returns a copy of `node` of the results, with `change` applied to pictures' names."""
    if isinstance(node, list):
        return [with_pictures(each, change) for each in node]
    if isinstance(node, dict):
        return {
            key: change(value)
            if key in PICTURES and isinstance(value, str)
            else with_pictures(value, change)
            for key, value in node.items()
        }
    return node


def gallery(
    subjects: Sequence[Subject], codecs: Sequence[str], out: Path, tell: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Returns some of the faces, evenly spread, as each codec decodes them.

    Each comes from the codec's file nearest to BPP. Pictures are written to out/pictures; each
    entry has the picture's file, the setting and the bytes.
    """
    step = max(1, len(subjects) // FACES)
    faces: list[dict[str, Any]] = []
    shown = subjects[step // 2 :: step][:FACES]
    for number, subject in enumerate(shown):
        pixels = images.load(subject.path)
        face: dict[str, Any] = {"original": keep(pixels, out, f"face-{number}"), "decoded": {}}
        for done, name in enumerate(codecs):
            codec = find_codec(name)
            height, width = pixels.shape[:2]
            setting, file = nearest(codec, pixels, BPP * height * width / 8)
            decoded = codec.decode(file, (height, width))
            face["decoded"][name] = {
                "file": keep(decoded, out, f"face-{number}-{done}"),
                "setting": setting,
                "bytes": len(file),
            }
            tell(number * len(codecs) + done + 1, len(shown) * len(codecs))
        faces.append(face)
    return faces


def rejected_pictures(
    rejected: Sequence[dict[str, Any]], subjects: Sequence[Subject], out: Path
) -> list[dict[str, Any]]:
    """Returns `rejected` with pictures: the query, original and decoded, and the enrolled face."""
    shown, by_name = [], {subject.name: subject for subject in subjects}
    for number, each in enumerate(rejected):
        codec = find_codec(each["codec"])
        query, enrolled = (
            images.load(by_name[each[name]].path) for name in ("query_name", "enrolled_name")
        )
        decoded = [
            codec.decode(codec.encode(x, each["setting"]), (x.shape[0], x.shape[1]))
            for x in (query, enrolled)
        ]
        names = ("query", "query_decoded", "enrolled_decoded")
        pictures = zip(names, (query, *decoded), strict=True)
        shown.append(
            each | {name: keep(x, out, f"rejected-{number}-{name}") for name, x in pictures}
        )
    return shown


def keep(pixels: np.ndarray, out: Path, name: str) -> str:
    """Writes a picture, losslessly, and returns its path relative to `out`."""
    place = Path("pictures", f"{name}.webp")
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(out / place, lossless=True)
    return place.as_posix()
