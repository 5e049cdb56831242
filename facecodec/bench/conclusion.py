"""Writes the bench's conclusion: the first sentence of its tables and its page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from facecodec.bench.metrics import rate_at
from facecodec.bench.tables import marked, recognisers_of

FITTED = "@fit"  # the end of the names of codecs that fit a limit in bytes
MEASURES = {
    "crossing": "To reject as few faces",
    "cosine": "To keep faces as near to the originals",
}


def conclusion(results: dict[str, Any]) -> str:
    """Returns a sentence that compares our model with the other codecs, in bits or time.

    It is empty unless both a model and another codec were measured.
    """
    entries = {
        name: entry for name, entry in results.get("codecs", {}).items() if name != "original"
    }
    ours = {name: entry for name, entry in entries.items() if not entry["reference"]}
    others = {name: entry for name, entry in entries.items() if entry["reference"]}
    if ours and others and all(name.endswith(FITTED) for name in entries):
        return _within_bytes(results, ours | others)
    if ours and others:
        return _as_the_baseline(results, ours) or _as_good_as(results, ours, others)
    return _time(results["speed"]) if "speed" in results else ""


def _as_the_baseline(results: dict[str, Any], ours: dict[str, Any]) -> str:
    """Says what share of the baseline's bits gives its recognition, by each recogniser."""
    if not results.get("baseline"):
        return ""
    codec, setting = results["baseline"]
    points = results["codecs"][codec]["points"]
    rate = next(point["bpp"] for point in points if point["setting"] == setting)
    for measure, words in MEASURES.items():
        parts = []
        for recogniser in recognisers_of(results):
            shares = {
                entry["label"]: entry.get("parity", {}).get(recogniser, {}).get(measure, {})
                for entry in ours.values()
            }
            reached = {label: each["share"] for label, each in shares.items() if "share" in each}
            if reached:
                label = min(reached, key=reached.__getitem__)
                parts.append(
                    f"{label} takes {reached[label]:.0%} of its bits by {marked(results, recogniser)}"
                )
        if parts:
            return f"{words} as HEVC at CRF {setting:g} ({rate:.3f} bpp), {_joined(parts)}."
    return ""


def _as_good_as(results: dict[str, Any], ours: dict[str, Any], others: dict[str, Any]) -> str:
    """Says what rates the others need to be as good as our first model at its middle rate."""
    recognisers = recognisers_of(results)
    seen = results.get("seen", ())
    recogniser = next(
        (each for each in recognisers if each not in seen), next(iter(recognisers), "")
    )

    def loss(point: dict[str, Any]) -> float | None:
        if not recogniser:
            return -point["psnr"]
        cosine = point.get("recognition", {}).get(recogniser, {}).get("cosine")
        return None if cosine is None else 1 - cosine

    def curve(entry: dict[str, Any]) -> list[tuple[float, float]]:
        return sorted((p["bpp"], each) for p in entry["points"] if (each := loss(p)) is not None)

    mine = next(iter(ours.values()))
    points = curve(mine)
    if not points:
        return ""
    rate, goal = points[len(points) // 2]
    parts = [f"{mine['label']} takes {rate:.3f} bpp"]
    for entry in others.values():
        rates, values = zip(*curve(entry), strict=True) if curve(entry) else ((), ())
        needed = rate_at(rates, values, goal) if rates else None
        if needed is None:
            parts.append(f"{entry['label']} more than any setting measured")
        elif math.isclose(needed, min(rates)):
            parts.append(f"{entry['label']} at most {needed:.3f}")
        else:
            parts.append(f"{entry['label']} {needed:.3f} ({needed / rate:.2f} times as much)")
    what = (
        f"a cosine of {1 - goal:.3f} to the original by {marked(results, recogniser)}"
        if recogniser
        else f"a PSNR of {-goal:.1f} dB"
    )
    return f"For {what}, {_joined(parts)}."


def _within_bytes(results: dict[str, Any], entries: dict[str, Any]) -> str:
    """Says the false rejections, or the cosine, of every codec within the first limit."""
    limit = next(iter(entries.values()))["points"][0]["setting"]
    parts = []
    for recogniser in recognisers_of(results):
        found = {
            entry["label"].removesuffix(", fitted"): point["recognition"].get(recogniser, {})
            for entry in entries.values()
            for point in entry["points"]
            if point["setting"] == limit
        }
        if all("frr" in each for each in found.values()):
            values = [f"{label} {each['frr']:.1%}" for label, each in found.items()]
            parts.append(f"false rejections by {marked(results, recogniser)} are {_joined(values)}")
        elif all(each.get("cosine") is not None for each in found.values()):
            values = [f"{label} {each['cosine']:.3f}" for label, each in found.items()]
            parts.append(f"cosines by {marked(results, recogniser)} are {_joined(values)}")
    return f"Within {limit:g} bytes, {'; '.join(parts)}." if parts else ""


def _time(speed: dict[str, Any]) -> str:
    parts = [
        f"{each['codec']} {1000 * each['encode']['median']:.0f} and "
        f"{1000 * each['decode']['median']:.0f} ms"
        for each in speed["codecs"]
    ]
    return (
        f"To encode and to decode a picture in a process of its own, {_joined(parts)}."
        if len(parts) > 1
        else ""
    )


def _joined(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
