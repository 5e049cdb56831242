"""Draws the report's curves: recognition, PSNR and MS-SSIM over rate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facecodec.bench.tables import CURVES, marked, recognisers_of


def draw(results: dict[str, Any], out: Path) -> None:
    """Draws curves.png and curves.svg: a panel for each recogniser, and two for the pictures."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    codecs = {name: entry for name, entry in results["codecs"].items() if name != "original"}
    baseline = results.get("baseline")
    target = baseline and next(
        point for point in codecs[baseline[0]]["points"] if point["setting"] == baseline[1]
    )
    every = [point.get("recognition", {}) for entry in codecs.values() for point in entry["points"]]
    recognisers = [
        recogniser
        for recogniser in recognisers_of(results)
        if any("frr" in seen.get(recogniser, {}) for seen in every)
    ]
    figure = Figure(figsize=(4.6 * (len(recognisers) + 2), 4.2), layout="constrained")
    panels = figure.subplots(1, len(recognisers) + 2)
    for axes, recogniser in zip(panels, recognisers, strict=False):
        _curves(axes, codecs, partial(_frr, recogniser))
        if target and recogniser in target["recognition"]:
            axes.axhline(
                target["recognition"][recogniser]["frr"],
                color="black",
                linewidth=0.8,
                linestyle=":",
            )
        axes.set_yscale("log")
        for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis(PercentFormatter(1, decimals=0))
        axes.set(title=marked(recogniser).replace(" (", "\n("), ylabel="false rejections at FAR 1%")
    _curves(panels[-2], codecs, lambda point: point["psnr"])
    panels[-2].set(title="PSNR", ylabel="dB")
    _curves(panels[-1], codecs, lambda point: point["ms_ssim"])
    panels[-1].set(title="MS-SSIM")
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
    return point["recognition"].get(recogniser, {}).get("frr")
