"""Writes a model's card in Markdown: how it was trained, and what was measured."""

from __future__ import annotations

from typing import Any

from facecodec.bench import SEEN
from facecodec.frozen import ModelCard

COLUMNS = (("bpp", ".3f"), ("psnr", ".2f"), ("ms_ssim", ".4f"))


def teachers(card: ModelCard) -> tuple[str, ...]:
    """Returns the names of the recognisers that a model was trained against.

    Old runs do not state them; at that time there was only one.
    """
    names: list[str] = []
    for run in card.runs:
        names += run.get("recognisers", [SEEN] if run["objective"] in ("ip", "ipr") else [])
    return tuple(dict.fromkeys(names))


def render(card: ModelCard, rows: list[dict[str, Any]], size: int, command: str) -> str:
    """Returns a model's card. `rows` are the measurements of each q, `command` made the card."""
    recognisers = list(rows[0]["recognition"])
    heads = ["q", "bpp", "PSNR", "MS-SSIM"]
    for name in recognisers:
        mark = "seen" if name in teachers(card) else "unseen"
        heads += [f"FRR, {name} ({mark})", f"cosine, {name}"]
    lines = [
        f"# {card.name}",
        "",
        f"{card.family} trained with the `{card.objective}` objective and {card.distortion}; "
        f"fingerprint {card.fingerprint}, {size:,} bytes.",
        "",
        "## Training",
        "",
        *_table(
            [
                "configuration",
                "objective",
                "data",
                "seed",
                "batch x crop",
                "steps",
                "hours",
                "hardware",
            ],
            [
                [
                    run["name"],
                    f"{run['objective']}, {run['distortion']}",
                    run["data"],
                    run["seed"],
                    f"{run['batch']} x {run['crop']}",
                    run["steps"],
                    run["hours"],
                    run["hardware"],
                ]
                for run in card.runs
            ],
        ),
        "",
        "Each run starts from what one or more of those above it gave.",
        "",
        "## Measured on the LFW test people",
        "",
        f"{rows[0]['images']:,} photographs of people that training never saw, through real files. "
        "FRR at FAR = 1% by identification with one gallery image a person; cosine is the mean to "
        "the original's embedding.",
        "",
        *_table(heads, [_cells(row, recognisers) for row in rows]),
        "",
        f"Written by `{command}`.",
    ]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any], recognisers: list[str]) -> list[str]:
    cells = [f"{row['setting']:g}", *(f"{row[key]:{style}}" for key, style in COLUMNS)]
    for name in recognisers:
        seen = row["recognition"][name]
        cells += [
            f"{seen['frr']:.1%}" if "frr" in seen else "too few queries",
            f"{seen['cosine']:.4f}",
        ]
    return cells


def _table(heads: list[str], rows: list[list[Any]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|" + " --- |" * len(heads),
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
    ]
