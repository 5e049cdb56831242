"""High-resolution faces: the CelebA test people at full resolution and as 448x448 aligned faces, beside HEVC CRF 23.

    python benchmarks/celeba.py --model l2-rec --model l2-ipr [-q 2 -q 3 ...] [--data DIR] [-o FILE.json]

Mean cosine is between the embeddings of the decoded and the original face, under the recogniser that training saw and
under the one it did not. For each model also the rate where that cosine is HEVC's, from a monotone fit over its q.
There are too few people here for an FRR.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facecodec.bench.datasets import load_subjects
from facecodec.bench.measure import Bench, Subject
from facecodec.bench.metrics import rate_at
from facecodec.bench.recognition import find_recogniser
from facecodec.bench.store import Store
from facecodec.faces import cache_folder
from facecodec.faces.alignment import scaled_template
from facecodec.training.data import CUT, cut_face, data_root

SEEN, UNSEEN = "mobilefacenet-ms1m", "mobileface-v2"


def aligned(subjects: list[Subject], folder: Path) -> list[Subject]:
    """The same people as 448x448 pictures that alignment cut out."""
    cut = []
    for number, subject in enumerate(subjects):
        pixels = np.asarray(Image.open(subject.path).convert("RGB"))
        path = folder / f"{number:04}.png"
        Image.fromarray(cut_face(pixels, subject.landmarks)).save(path)
        cut.append(replace(subject, path=path, landmarks=scaled_template(CUT)))
    return cut


def line(row: dict[str, Any], name: str) -> str:
    cosines = " | ".join(f"{row[f'cosine:{recogniser}']:.4f}" for recogniser in (SEEN, UNSEEN))
    return f"| {name} | {row['bpp']:.3f} | {row['psnr']:.2f} | {row['ms_ssim']:.4f} | {cosines} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("-q", action="append", type=float)
    parser.add_argument("--data", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="write every number to this JSON file")
    arguments = parser.parse_args()
    root = data_root(arguments.data)
    found = {name: find_recogniser(name, root) for name in (SEEN, UNSEEN)}
    bench = Bench(found, Store(cache_folder() / "bench.sqlite"))
    whole = load_subjects("celeba-hq-mini", root)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, subjects in (("full resolution", whole), ("448x448, aligned", aligned(whole, Path(folder)))):
            print(f"\n{title}, {len(subjects)} photographs\n")
            print("| | bpp | PSNR | MS-SSIM | cosine, seen | cosine, unseen |\n|" + " --- |" * 6)
            hevc = bench.row("hevc", 23, subjects)
            print(line(hevc, "HEVC CRF 23"), flush=True)
            results[title] = [hevc]
            equal = []
            for model in arguments.model:
                rows = []
                for q in arguments.q or range(1, 7):
                    rows.append(bench.row(model, q, subjects))
                    print(line(rows[-1], f"`{model}` q {q:g}"), flush=True)
                results[title] += rows
                for recogniser in (SEEN, UNSEEN):
                    key = f"cosine:{recogniser}"
                    rate = rate_at([row["bpp"] for row in rows], [1 - row[key] for row in rows], 1 - hevc[key])
                    told = "not reached" if rate is None else f"{rate:.3f} bpp, {rate / hevc['bpp']:.0%} of HEVC's bits"
                    equal.append(f"`{model}` has HEVC's cosine under {recogniser} at {told}")
            print("\n" + "\n".join(equal), flush=True)
    bench.close()
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
