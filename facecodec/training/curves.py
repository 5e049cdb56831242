"""Plots a run: the loss over the steps, and rate against quality at each validation."""

from __future__ import annotations

import json
import os
from pathlib import Path


def draw_curves(log: Path, out: Path) -> None:
    """Writes `out` (PNG) from a run's log.jsonl, whole or not at all."""
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [row for row in rows if "loss" in row]
    validations = [row for row in rows if "validation" in row]
    second = [
        key
        for key in ("psnr", "identity")
        if validations and key in validations[-1]["validation"][0]
    ]
    figure = Figure(figsize=(4.5 * (1 + len(second)), 4), layout="constrained")
    left, *others = figure.subplots(1, 1 + len(second), squeeze=False)[0]
    left.plot(
        [row["step"] for row in losses],
        [row["loss"] for row in losses],
        linewidth=0.8,
        label="training",
    )
    left.plot(
        [row["step"] for row in validations],
        [row["objective"] for row in validations],
        "o-",
        label="held back",
    )
    left.set(xlabel="step", ylabel="objective")
    left.legend()
    labels = {"psnr": "PSNR in dB", "identity": "1 - cosine to the original"}
    for axes, key in zip(others, second, strict=True):
        for number, row in enumerate(validations):
            shade = 0.25 + 0.75 * (number + 1) / len(validations)
            points = [(each["bpp"], each[key]) for each in row["validation"]]
            axes.plot(
                *zip(*points, strict=True),
                ".-",
                color="tab:blue",
                alpha=shade,
                label=f"step {row['step']}",
            )
        axes.set(xlabel="bits per pixel, held-back people", ylabel=labels[key])
        axes.set_xscale("log")
        axes.grid(alpha=0.3, which="both")
        if key == "identity":
            axes.set_yscale("log")
    if others:
        others[0].legend(
            [others[0].lines[-1]], [f"step {validations[-1]['step']}"], loc="lower right"
        )
    partial = out.with_suffix(".partial")
    figure.savefig(partial, dpi=120, format="png")
    os.replace(partial, out)
