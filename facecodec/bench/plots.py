"""Draws the report's curves: recognition, PSNR and MS-SSIM over rate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from facecodec.bench.tables import CURVES, marked, recognisers_of

ACROSS = 4  # panels side by side


def draw(results: dict[str, Any], out: Path) -> None:
    """Draws curves.png and curves.svg, with panels for each recogniser, PSNR and MS-SSIM.

    A recogniser's panel shows false rejections, or 1 - cosine if there are too few queries.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    codecs = {name: entry for name, entry in results["codecs"].items() if name != "original"}
    baseline = results.get("baseline")
    target = baseline and next(
        point for point in codecs[baseline[0]]["points"] if point["setting"] == baseline[1]
    )
    points = [point for entry in codecs.values() for point in entry["points"]]
    every = [point.get("recognition", {}) for point in points]
    pictures = {"psnr": ("PSNR", "dB"), "ms_ssim": ("MS-SSIM", "")}
    pictures = {
        name: words
        for name, words in pictures.items()
        if any(point[name] is not None for point in points)
    }
    recognisers = recognisers_of(results)
    count = len(recognisers) + len(pictures)
    across = min(ACROSS, count)
    down = -(-count // across)
    figure = Figure(figsize=(4.6 * across, 4.2 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes in panels[len(recognisers) : len(panels) - len(pictures)]:
        axes.set_axis_off()
    for axes, recogniser in zip(panels, recognisers, strict=False):
        has_frr = any("frr" in seen.get(recogniser, {}) for seen in every)
        value = partial(_frr if has_frr else _lost, recogniser)
        _curves(axes, codecs, value)
        goal = value(target) if target else None
        if goal:
            axes.axhline(goal, color="black", linewidth=0.8, linestyle=":")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
        axes.minorticks_off()
        axes.set(
            title=marked(results, recogniser).replace(" (", "\n("),
            ylabel="false rejections at FAR 1%" if has_frr else "1 - cosine to the original",
        )
    for axes, (name, (title, unit)) in zip(panels[-len(pictures) :], pictures.items(), strict=True):
        _curves(axes, codecs, itemgetter(name))
        axes.set(title=title, ylabel=unit)
    panels[-1].legend(loc="lower right")
    for kind in ("png", "svg"):
        figure.savefig(out / f"{CURVES}.{kind}", dpi=130)


def _curves(
    axes: Any, codecs: dict[str, Any], value: Callable[[dict[str, Any]], float | None]
) -> None:
    for entry in codecs.values():
        drawn = [(point["bpp"], value(point)) for point in entry["points"]]
        known = sorted((rate, each) for rate, each in drawn if each is not None)
        if not known:
            continue
        rates, values = np.array(known).reshape(-1, 2).T
        style = (
            {"linestyle": "--", "marker": "s", "linewidth": 1}
            if entry["reference"]
            else {"marker": "o"}
        )
        axes.plot(rates, values, markersize=4, label=entry["label"], **style)
    axes.set_xscale("log")
    ticks = [
        tick
        for tick in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
        if axes.get_xlim()[0] < tick < axes.get_xlim()[1]
    ]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("bits per pixel")
    axes.grid(alpha=0.3)


def _frr(recogniser: str, point: dict[str, Any]) -> float | None:
    return point.get("recognition", {}).get(recogniser, {}).get("frr")


def _lost(recogniser: str, point: dict[str, Any]) -> float | None:
    """Returns 1 - cosine, for a logarithmic axis; None if it is zero."""
    cosine = point.get("recognition", {}).get(recogniser, {}).get("cosine")
    return None if cosine is None or cosine >= 1 else 1 - cosine
