"""`make demo`: codes one real face by the command line; prints a table and draws a picture.

The face is the crop around astronaut Eileen Collins's head in scikit-image's public-domain
portrait. AVIF is Pillow's. HEVC is measured if there is an ffmpeg with x265.
"""

from __future__ import annotations

import argparse
import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table
from skimage import data

from facecodec.bench.codecs import code, find_codec, unusable

OUT = Path("demo")
CROP = (96, 0, 352, 256)  # left, top, right, bottom
QUALITIES = (1, 2, 4, 6)
OTHERS = ("avif", "hevc")  # at our bytes; if necessary, the picture is shrunk first
FACECODEC = [sys.executable, "-m", "facecodec"]


def psnr(a: Image.Image, b: Image.Image) -> float:
    error = np.square(np.asarray(a, float) - np.asarray(b, float)).mean()
    return 10 * math.log10(255**2 / error)


def jpeg_of_equal_psnr(face: Image.Image, target: float) -> int:
    """Returns the bytes of the smallest JPEG (Pillow, optimised) with at least this PSNR."""
    for quality in range(1, 101):
        buffer = io.BytesIO()
        face.save(buffer, "JPEG", quality=quality, optimize=True)
        if psnr(face, Image.open(buffer)) >= target:
            return len(buffer.getvalue())
    raise RuntimeError("no JPEG quality is that close")


def run(*arguments: object) -> None:
    subprocess.run([*FACECODEC, *map(str, arguments)], check=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    OUT.mkdir(exist_ok=True)
    face = Image.fromarray(data.astronaut()).crop(CROP)
    face.save(OUT / "face.png")
    size = (OUT / "face.png").stat().st_size
    pixels = face.width * face.height

    table = Table(
        title=f"face.png: {face.width}x{face.height}, {size} bytes",
        caption="JPEG: bytes of the smallest JPEG of at least equal PSNR. AVIF, HEVC: PSNR in at most "
        "our bytes.",
    )
    reasons = {name: unusable(name) for name in OTHERS}
    others = [name for name, reason in reasons.items() if reason is None]
    labels = [find_codec(name).label for name in others]
    for name in ("q", "bytes", "bpp", "of input", "PSNR", "JPEG", "of JPEG", *labels):
        table.add_column(name, justify="right", no_wrap=True)
    panels = [("original", face)]
    for q in QUALITIES:
        fic, png = OUT / f"face-q{q}.fic", OUT / f"face-q{q}.png"
        run("encode", OUT / "face.png", "-q", q, "-o", fic, "-f", "--quiet")
        run("decode", fic, "-o", png, "-f", "--quiet")
        decoded = Image.open(png)
        count, quality = fic.stat().st_size, psnr(face, decoded)
        beside = [psnr(face, fitted(face, name, count)) for name in others]
        jpeg_bytes = jpeg_of_equal_psnr(face, quality)
        table.add_row(
            str(q), str(count), f"{8 * count / pixels:.3f}", f"{count / size:.1%}", f"{quality:.1f} dB",
            str(jpeg_bytes), f"{count / jpeg_bytes:.0%}", *(f"{each:.1f} dB" for each in beside),
        )  # fmt: skip
        panels.append((f"facecodec q {q}: {count} bytes", decoded))
    # A JPEG of the same size as the second of them, to look at beside it.
    budget = (OUT / f"face-q{QUALITIES[1]}.fic").stat().st_size
    panels.append(largest_fitting_jpeg(face, budget))

    Console().print(table)
    for name, reason in reasons.items():
        if reason is not None:
            print(f"{name} is left out: {reason}")
    sheet = Image.new("RGB", (len(panels) // 2 * face.width, 2 * (face.height + 18)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (label, image) in enumerate(panels):
        left, top = i % 3 * face.width, i // 3 * (face.height + 18)
        draw.text((left + 4, top + 3), label, "black")
        sheet.paste(image, (left, top + 18))
    sheet.save(OUT / "side-by-side.png")
    print(f"the faces side by side: {OUT / 'side-by-side.png'}")


def fitted(face: Image.Image, name: str, limit: int) -> Image.Image:
    """Returns the face under codec `name` in at most `limit` bytes."""
    _, decoded = code(f"{name}@1", np.asarray(face), limit, OUT / f"face.{name}")
    return Image.fromarray(decoded)


def largest_fitting_jpeg(face: Image.Image, budget: int) -> tuple[str, Image.Image]:
    """Returns the best JPEG of at most `budget` bytes, or quality 1 if none is that small."""
    best = b""
    for quality in range(1, 101):
        buffer = io.BytesIO()
        face.save(buffer, "JPEG", quality=quality, optimize=True)
        if best and len(buffer.getvalue()) > budget:
            break
        best = buffer.getvalue()
    return f"JPEG: {len(best)} bytes", Image.open(io.BytesIO(best)).convert("RGB")


if __name__ == "__main__":
    main()
