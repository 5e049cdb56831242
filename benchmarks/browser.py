"""Compares the browser's decoder with Python's in real Chromium: symbols, pixels, time.

python benchmarks/browser.py symbols --limit 200     # LFW test people, every family
python benchmarks/browser.py damaged --count 10000   # mutations of the golden files
python benchmarks/browser.py time --limit 50         # the first picture, later ones, and sizes
python benchmarks/browser.py screenshots             # of the page, into docs/images
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import browsing
from facecodec import frozen, viewer
from facecodec.codec import Codec, codec_of, open_container
from facecodec.datasets import photographs
from facecodec.errors import FacecodecError

MODELS = ("l2-ipr", "l2-ip", "compact-png", "lfic", "spic")
QUALITIES = (1, 4, 8)
BATCH = 20
PATIENCE = 240_000  # milliseconds until a page that does not open is an error
LIMIT, SECONDS = 1 << 14, 10  # a file of so many pixels that takes longer is a hang
# Notes when a page has its file, its model and its wasm; what follows is the session and a run.
WATCH = """
const make = WebAssembly.instantiate;
WebAssembly.instantiate = async (...given) => {
  window.unpacked = performance.now();
  const made = await make(...given);
  window.compiled = performance.now();
  return made;
};
"""
STAGES = """() => [
  performance.getEntriesByType("navigation")[0].domInteractive,
  window.unpacked, window.compiled, performance.now(),
]"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["symbols", "damaged", "time", "screenshots"])
    parser.add_argument("--limit", type=int, default=200, help="photographs")
    parser.add_argument("--count", type=int, default=10_000, help="damaged files")
    parser.add_argument("--seed", type=int, default=2, help="of the damage")
    asked = parser.parse_args()
    with sync_playwright() as running, tempfile.TemporaryDirectory() as folder:
        browser = browsing.launch(running)
        print("Chromium", browser.version)
        if asked.what == "damaged":
            damaged(browser, Path(folder), asked.count, asked.seed)
        elif asked.what == "time":
            times(browser, Path(folder), asked.limit)
        elif asked.what == "screenshots":
            screenshots(browser, Path(folder))
        else:
            for model in MODELS:
                compare(browser, Path(folder), model, asked.limit)


def photos(limit: int) -> list[Image.Image]:
    """Returns `limit` photographs of LFW test people, spread over all of them."""
    found = photographs("lfw", "test", None)
    return [Image.open(photo.path) for photo in found[:: max(1, len(found) // limit)][:limit]]


def compare(browser: Any, folder: Path, model: str, limit: int) -> None:
    """Prints how many symbols and pixels differ between the browser's decoder and Python's."""
    codec = Codec(frozen.model_path(model), threads=1)
    browsing.write_script(folder, [frozen.model_path(model)])
    page = browser.new_page()
    browsing.serve(page, folder)
    for q in QUALITIES:
        files = [codec.encode(photo, q) for photo in photos(limit)]
        symbols = wrong = pixels = unequal = largest = 0
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            for data, result in zip(batch, browsing.decode(page, batch), strict=True):
                expected = codec.symbols(open_container(data))
                for name, values in result["symbols"].items():
                    symbols += values.size
                    wrong += int((values != np.ravel(getattr(expected, name))).sum())
                apart = np.abs(result["pixels"].astype(int) - np.asarray(codec.decode(data)))
                pixels += apart.size
                unequal += int((apart > 0).sum())
                largest = max(largest, int(apart.max()))
        print(
            f"{model} q {q}: {len(files)} files, {symbols} symbols, {wrong} differ; "
            f"{unequal / pixels:.5%} of values differ, by at most {largest}",
            flush=True,
        )
    page.close()


def damaged(browser: Any, folder: Path, count: int, seed: int) -> None:
    """Decodes damaged files; prints the outcomes, and the time of the slowest.

    Raises an error where Python disagrees.
    """
    data = ROOT / "tests" / "data"
    os.environ["FACECODEC_MODELS"] = str(data)
    browsing.write_script(folder, sorted(data.glob("*.safetensors")))
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    browsing.serve(page, folder)
    seeds = [path.read_bytes() for path in sorted(data.glob("*.fic"))]
    browsing.decode(page, seeds, whole=False)  # loads everything, so that only decoding is timed
    files, slowest = browsing.mutations(seeds, count, seed), (0.0, b"")
    outcomes: Counter[str] = Counter()
    while batch := list(islice(files, 200)):
        for each, result in zip(
            batch, browsing.decode(page, batch, LIMIT, whole=False), strict=True
        ):
            if "error" in result and not result["ours"]:
                raise SystemExit(f"{each.hex()}: {result['error']}")
            # Pillow also takes a PNG file whose end is missing.
            strict = result.get("error", "").startswith("its compact image is damaged")
            if not strict and decodes(each) != ("error" not in result):
                raise SystemExit(f"{each.hex()}: {result} in the browser, otherwise in Python")
            outcomes["an error" if "error" in result else "a picture"] += 1
            slowest = max(slowest, (result["milliseconds"], each))
    taken, file = slowest
    if taken > 1000 * SECONDS:
        raise SystemExit(f"{file.hex()}: it took {taken:.0f} ms")
    whole = all("error" not in result for result in browsing.decode(page, seeds))
    print(f"{count} damaged files: {dict(outcomes)}, as in Python; the slowest took {taken:.0f} ms")
    print(f"the same page decodes all {len(seeds)} whole files after them: {whole}")


def decodes(data: bytes) -> bool:
    """Returns whether Python can decode a file."""
    try:
        parsed = open_container(data, LIMIT)
        codec_of(parsed).decode_container(parsed)
    except FacecodecError:
        return False
    return True


def times(browser: Any, folder: Path, limit: int) -> None:
    """Prints the times to a page's first picture and to later ones, and the size of its files."""
    model = frozen.model_path(None)
    codec = Codec(model)
    files = [(f"{i}.fic", codec.encode(photo, 4)) for i, photo in enumerate(photos(limit))]
    parts = {
        "script": (viewer.BUILT / viewer.SCRIPT).stat().st_size,
        "wasm, packed": (viewer.BUILT / viewer.WASM).stat().st_size,
        "model": len(viewer.decoding_half(model)[2]),
    }
    written = folder / "page.html"
    written.write_bytes(viewer.page(files[:1], [model]))
    print({**parts, "a page of one file": written.stat().st_size})
    for kind in ("cold", "warm"):
        taken, stages = [], []
        context = browser.new_context()
        for _ in range(3):
            page = context.new_page()
            page.add_init_script(WATCH)
            page.set_default_timeout(PATIENCE)
            started = time.perf_counter()
            page.goto(written.as_uri())
            page.locator("canvas").wait_for()
            taken.append(time.perf_counter() - started)
            stages.append(np.diff(page.evaluate(STAGES), prepend=0))
            page.close()
            if kind == "cold":
                context.close()
                context = browser.new_context()
        context.close()
        print(f"first picture, {kind}: {statistics.median(taken):.2f} s, median of {len(taken)}")
        read, unpacked, wasm, run = np.mean([each / each.sum() for each in stages], axis=0)
        print(
            f"  of it {read:.0%} reads the page, {unpacked:.0%} unpacks model and wasm and "
            f"reads symbols, {wasm:.0%} compiles, {run:.0%} makes the session and runs it once"
        )
    browsing.write_script(folder, [model])
    page = browser.new_page()
    browsing.serve(page, folder)
    data = [content for _, content in files]
    browsing.decode(page, data[:2])
    each = [result["milliseconds"] for result in browsing.decode(page, data, whole=False)]
    print(f"then {statistics.median(each):.0f} ms for a picture of 250x250, median of {len(each)}")


def screenshots(browser: Any, folder: Path) -> None:
    """Takes screenshots of the page with one face at ten qualities, wide and as on a phone."""
    from skimage import data

    face = Image.fromarray(data.astronaut()).crop((96, 0, 352, 256))
    model = frozen.model_path(None)
    codec = Codec(model)
    qualities = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)
    files = [(f"face-q{q}.fic", codec.encode(face, q)) for q in qualities]
    written = folder / "page.html"
    written.write_bytes(viewer.page(files, [model]))
    for name, width, height in (("view", 1240, 900), ("view-phone", 390, 780)):
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        page.goto(written.as_uri())
        page.locator("[data-waiting='0']").wait_for()
        page.screenshot(path=folder / f"{name}.png", animations="disabled")
        with Image.open(folder / f"{name}.png") as shot:
            shot.convert("RGB").save(ROOT / "docs" / "images" / f"{name}.webp", quality=75)
        page.close()


if __name__ == "__main__":
    main()
