"""Shows the bench's results as tables, on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from facecodec.text import printable

PIPED_WIDTH = 160
CURVES = "curves"  # the file name of the curves, without a suffix

LEGEND = (
    "bpp: bits of whole files over pixels. Cosine: that of the embeddings of the decoded and the "
    "original face, FRR the share of queries that are rejected where one in a hundred impostors is "
    "let in (FAR = 1%), or one in a thousand (0.1%), pairs the accuracy of verification, no face the "
    "pictures in which none was found. In brackets: 95% intervals by bootstrap over people. Less "
    "HEVC's: that of HEVC at CRF 23 taken away, over the same people."
)
PARITIES = {
    "crossing": "FRR comes down to it",
    "no_worse": "FRR is no worse",
    "cosine": "cosine reaches it",
}


@dataclass(frozen=True)
class Numbers:
    """A table. The first column has names, the others numbers."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def show(results: dict[str, Any], conclusion: str) -> None:
    """Prints the conclusion, tables and remarks on stdout."""
    console = Console(markup=False, emoji=False)  # brackets in names are not markup
    if not console.is_terminal:
        console.width = PIPED_WIDTH  # wide enough for every number
    if conclusion:
        console.print(printable(conclusion), highlight=False)
    for numbers in tables(results):
        table = Table(title=printable(numbers.title))
        for head in numbers.heads:
            table.add_column(
                printable(head), justify="right" if table.columns else "left", no_wrap=True
            )
        for row in numbers.rows:
            table.add_row(*map(printable, row))
        console.print(table)
    for remark in remarks(results):
        console.print(printable(remark), highlight=False)


def markdown(results: dict[str, Any], conclusion: str) -> str:
    """Returns the same as a Markdown page, with the commands that made the results."""
    lines = ["# facecodec bench", ""]
    if conclusion:
        lines += [conclusion, ""]
    lines += ["Written by `facecodec bench`, by these commands:", ""]
    lines += [f"    facecodec {' '.join(words)}" for words in results["commands"]]
    lines += ["", LEGEND]
    if "codecs" in results:
        lines += ["", f"![Recognition, PSNR and MS-SSIM over rate]({CURVES}.png)"]
    for numbers in tables(results):
        lines += ["", f"## {numbers.title}", "", "| " + " | ".join(numbers.heads) + " |"]
        lines += ["|" + " --- |" * len(numbers.heads)]
        lines += ["| " + " | ".join(row) + " |" for row in numbers.rows]
    lines += ["", *(f"- {remark}" for remark in remarks(results)), ""]
    environment = results["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    lines += [
        f"Python {environment['python']}, {packages}; {environment['machine']}, "
        f"{environment['cores']} cores.",
        "",
    ]
    return "\n".join(lines)


def tables(results: dict[str, Any]) -> list[Numbers]:
    found = []
    if any(
        entry.get("parity") and len(entry["points"]) > 1
        for entry in results.get("codecs", {}).values()
    ):
        found.append(_headline(results))
    if "codecs" in results:
        found += _measured(results)
    if results.get("differences"):
        found.append(_differences(results))
    if "speed" in results:
        found.append(_speed(results["speed"]))
    return found


def remarks(results: dict[str, Any]) -> list[str]:
    """Returns remarks on BD-rate, and on what is missing and why."""
    lines = []
    for codec, entry in results.get("codecs", {}).items():
        lines += [
            f"{codec}: BD-rate on {name} {rate:+.1f}% against HEVC"
            for name, rate in entry["bd_rate"].items()
        ]
    lines += [
        f"{codec} was skipped: {reason}" for codec, reason in results.get("skipped", {}).items()
    ]
    dataset = results.get("dataset", {})
    lines += [
        f"{path} could not be read and was left out" for path in dataset.get("unreadable", [])
    ]
    points = [point for entry in results.get("codecs", {}).values() for point in entry["points"]]
    recognised = any(point.get("recognition") for point in points)
    if recognised and not results.get("baseline") and not results.get("differences"):
        lines.append("HEVC at CRF 23 was not measured, so nothing is compared with it")
    if any(point["ms_ssim"] is None for point in points):
        lines.append("no picture has more than 160 pixels on both sides, which MS-SSIM takes")
    if any("frr" not in seen for point in points for seen in point.get("recognition", {}).values()):
        lines.append(_why_no_frr(dataset))
    return lines


def _why_no_frr(dataset: dict[str, Any]) -> str:
    if dataset["queries"]:
        return f"{dataset['queries']} queries are too few for an FRR"
    return (
        "there is no FRR, which takes people with two photographs or more each: put those of each "
        "into a sub-folder"
    )


def described(dataset: dict[str, Any]) -> str:
    """Returns a dataset's name and number of photographs, and of people if they are known."""
    text = f"{dataset['name']}: {dataset['photographs']:,} photographs"
    if dataset["queries"]:
        text += f" of {dataset['people']:,} people, {dataset['queries']:,} queries"
    return text


def _headline(results: dict[str, Any]) -> Numbers:
    entries = {name: entry for name, entry in results["codecs"].items() if len(entry["points"]) > 1}
    recognisers = [
        recogniser
        for recogniser in recognisers_of(results)
        if any(recogniser in entry.get("parity", {}) for entry in entries.values())
    ]
    entries = {name: entry for name, entry in entries.items() if "parity" in entry}
    rows = [
        (f"{name}: {words}", *cells)
        for name, entry in entries.items()
        for measure, words in PARITIES.items()
        if any(cells := [_parity(entry["parity"].get(r, {}).get(measure)) for r in recognisers])
    ]
    codec, setting = results["baseline"]
    title = (
        f"Bits per pixel for the recognition of {codec} at {setting:g}, and their share of its bits"
    )
    return Numbers(title, ("", *marks(results, recognisers)), rows)


def _measured(results: dict[str, Any]) -> list[Numbers]:
    points = [
        (codec, numbers)
        for codec, entry in results["codecs"].items()
        for numbers in entry["points"]
    ]
    names = [(f"{codec} {n['setting']:g}", f"{n['bpp']:.3f}") for codec, n in points]
    pictures = [(f"{n['psnr']:.2f}", f"{n['ssim']:.3f}", _number(n["ms_ssim"])) for _, n in points]
    rows: list[tuple[str, ...]] = [
        name + cells for name, cells in zip(names, pictures, strict=True)
    ]
    heads = ("", "bpp", "PSNR", "SSIM", "MS-SSIM")
    tables = [_without_empty(described(results["dataset"]), heads, rows)]
    for recogniser in recognisers_of(results):
        seen = [numbers.get("recognition", {}).get(recogniser) for _, numbers in points]
        rows = [
            (
                *name,
                _number(s["cosine"]),
                _difference(s, "cosine", ".4f"),
                _with_interval(s, "frr"),
                _difference(s, "frr", ".1%"),
                _with_interval(s, "frr_strict"),
                _number(s.get("accuracy"), ".1%"),
                str(s["undetected"]),
            )
            for name, s in zip(names, seen, strict=True)
            if s
        ]
        tables.append(
            _without_empty(
                marked(results, recogniser),
                (
                    "",
                    "bpp",
                    "cosine",
                    "less HEVC's",
                    "FRR at FAR = 1%",
                    "less HEVC's",
                    "at 0.1%",
                    "pairs",
                    "no face",
                ),
                rows,
            )
        )
    return tables


def _without_empty(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Numbers:
    """Returns a table without its empty columns."""
    kept = [
        column for column, head in enumerate(heads) if not head or any(row[column] for row in rows)
    ]
    return Numbers(
        title,
        [heads[column] for column in kept],
        [[row[column] for column in kept] for row in rows],
    )


def _differences(results: dict[str, Any]) -> Numbers:
    rows = [
        (
            f"{each['model']} against {each['codec']}",
            f"{each['setting']:g}",
            marked(results, each["recogniser"]),
            f"{each['less']:.1%}{_between(each['interval'], '.1%')}",
        )
        for each in results["differences"]
    ]
    return Numbers(
        "FRR less than the other codec's, paired", ("", "bytes", "recogniser", "less"), rows
    )


def _speed(speed: dict[str, Any]) -> Numbers:
    base = next((each for each in speed["codecs"] if each["codec"] == "hevc"), None)

    def cell(each: dict[str, Any], task: str) -> str:
        text = f"{1000 * each[task]['median']:.0f} ± {1000 * each[task]['spread']:.0f}"
        return text + (f" ({each[task]['median'] / base[task]['median']:.2f})" if base else "")

    tasks = ("encode", "decode", "encode_batch", "decode_batch")
    rows = [
        (f"{each['codec']} {each['setting']:g}", *(cell(each, task) for task in tasks))
        for each in speed["codecs"]
    ]
    title = (
        f"Milliseconds a picture (ratio to HEVC): {speed['images']} of {speed['size']}, "
        f"{speed['cores']} cores"
    )
    return Numbers(title, ("", *(task.replace("_", ", ") for task in tasks)), rows)


def recognisers_of(results: dict[str, Any]) -> list[str]:
    """Returns the recognisers of the results; those with faces found again come last."""
    points = [point for entry in results.get("codecs", {}).values() for point in entry["points"]]
    found = list(
        dict.fromkeys(recogniser for point in points for recogniser in point.get("recognition", {}))
    )
    return sorted(found, key=lambda recogniser: ", " in recogniser)


def marks(results: dict[str, Any], recognisers: Sequence[str]) -> list[str]:
    return [marked(results, recogniser) for recogniser in recognisers]


def marked(results: dict[str, Any], recogniser: str) -> str:
    """Returns a recogniser's name, and whether a measured model was trained against it."""
    name, _, again = recogniser.partition(", ")
    mark = "seen in training" if name in results.get("seen", ()) else "never seen"
    return f"{name} ({mark}{', faces ' + again if again else ''})"


def _number(value: float | None, style: str = ".4f") -> str:
    return "" if value is None else f"{value:{style}}"


def _between(interval: Sequence[float] | None, style: str) -> str:
    return "" if interval is None else f" ({interval[0]:{style}} to {interval[1]:{style}})"


def _with_interval(seen: dict[str, Any], name: str) -> str:
    return _number(seen.get(name), ".1%") + _between(seen.get(f"{name}_interval"), ".1%")


def _difference(seen: dict[str, Any], name: str, style: str) -> str:
    found = seen.get("differences", {}).get(name)
    return "" if found is None else f"{found['value']:+{style}}{_between(found['interval'], style)}"


def _parity(parity: dict[str, Any] | None) -> str:
    if parity is None or "reason" in parity:
        return parity["reason"] if parity else ""
    return f"{parity['bpp']:.3f}{_between(parity.get('interval'), '.3f')}, {parity['share']:.0%}"
