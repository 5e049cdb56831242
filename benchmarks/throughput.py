"""Times coding, with one process per picture and in a batch, beside other codecs.

    python benchmarks/throughput.py [--images N] [--batch N] [--repeats N] [--model NAME]
        [--data DIR]

The batch has more pictures, because processes that stay open only pay off then. CompressAI's
bmshj2018-hyperprior (N = 128, M = 192) has random weights, which take as long as trained ones; its
batch is timed within one process, without reading and writing files. The lower bound is the
multiply-adds of our transforms over the rate at which this machine multiplies matrices in float32,
one thread on each core at once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import torch
from compressai.models import ScaleHyperprior
from threadpoolctl import threadpool_limits

from facecodec import frozen, images
from facecodec.bench.codecs import find_codec
from facecodec.bench.speed import TASKS, speed_results, summary
from facecodec.bench.subjects import load_dataset
from facecodec.folders import data_root

OTHERS = ("hevc", "jpeg", "webp", "avif")
HEADINGS = ("encode, a process each", "decode, a process each", "encode, batch", "decode, batch")
SIDE = 1536  # of the matrices that measure the machine's rate


ALONE = 3  # processes of CompressAI's, which take seconds each
CALL = """
import pickle, sys
import numpy as np, torch
from PIL import Image
from compressai.models import ScaleHyperprior
task, picture, coded = sys.argv[1:]
torch.manual_seed(0)  # the same random weights for both tasks: others read past the stream's end
network = ScaleHyperprior(128, 192).eval()
network.update(force=True)
with torch.no_grad():
    if task == "encode":
        pixels = np.asarray(Image.open(picture).convert("RGB"))
        extra = [(0, -side % 64) for side in pixels.shape[:2]] + [(0, 0)]
        x = torch.from_numpy(np.pad(pixels, extra, mode="edge")).permute(2, 0, 1)[None] / 255
        pickle.dump(network.compress(x), open(coded, "wb"))
    else:
        x_hat = network.decompress(**pickle.load(open(coded, "rb")))["x_hat"]
        Image.fromarray((255 * x_hat[0].permute(1, 2, 0)).byte().numpy()).save(coded + ".png")
"""


def compressai_seconds(pictures: list[Path], repeats: int) -> dict[str, dict[str, float]]:
    """Returns the seconds per picture of compress() and decompress(), with one thread per core.

    Also returns those of one process per picture, for the first ALONE pictures.
    """
    network = ScaleHyperprior(128, 192).eval()
    network.update(force=True)
    tensors = []
    for path in pictures:
        pixels = images.load(path)
        extra = [(0, -side % 64) for side in pixels.shape[:2]] + [(0, 0)]
        tensors.append(
            torch.from_numpy(np.pad(pixels, extra, mode="edge")).permute(2, 0, 1)[None] / 255
        )
    taken: dict[str, list[float]] = {
        "encode": [],
        "decode": [],
        "encode_batch": [],
        "decode_batch": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for path in pictures[:ALONE]:
            for task in ("encode", "decode"):
                began = time.perf_counter()
                call = [
                    sys.executable,
                    "-W",
                    "ignore",
                    "-c",
                    CALL,
                    task,
                    str(path),
                    str(Path(folder, "coded")),
                ]
                subprocess.run(call, check=True, capture_output=True)
                taken[task].append(time.perf_counter() - began)
    with torch.no_grad():
        network.decompress(**network.compress(tensors[0]))
        for _ in range(repeats):
            began = time.perf_counter()
            coded = [network.compress(tensor) for tensor in tensors]
            between = time.perf_counter()
            for each in coded:
                network.decompress(**each)
            taken["encode_batch"].append((between - began) / len(tensors))
            taken["decode_batch"].append((time.perf_counter() - between) / len(tensors))
    return {task: summary(values) for task, values in taken.items()}


def multiply_adds(graph: bytes, positions: int) -> int:
    """Returns the multiply-adds of a graph's convolutions, for an input of so many positions."""
    graph = onnx.load_from_string(graph).graph
    weights = {each.name: int(np.prod(each.dims)) for each in graph.initializer}
    at = {graph.input[0].name: Fraction(positions)}
    count = 0
    for node in graph.node:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        first = node.input[0] if node.input else ""
        if first in weights:  # stored in half precision, cast
            weights[node.output[0]] = weights[first]
        elif first in at:
            here = (
                at[first]
                / int(np.prod(attributes.get("strides", 1)))
                * attributes.get("blocksize", 1) ** 2
            )
            at[node.output[0]] = here
            if node.op_type == "Conv":
                count += int(here * weights[node.input[1]])
    return count


def machine_rate() -> float:
    """Returns the multiply-adds per second in float32, of all cores together."""
    cores = os.cpu_count() or 1
    pairs = [np.ones((2, SIDE, SIDE), np.float32) for _ in range(cores)]

    def multiply(pair: np.ndarray) -> None:
        for _ in range(4):
            pair[0] @ pair[1]

    def once(work: Callable[[np.ndarray], None]) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(work, pairs))
        return cores * 4 * SIDE**3 / (time.perf_counter() - began)

    with threadpool_limits(1):
        return max(once(multiply) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, default=20, help="with a process each, and CompressAI's"
    )
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="l2-ipr")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    subjects = load_dataset(
        "lfw", data_root(arguments.data), limit=arguments.batch, faces=False
    ).subjects
    pictures = [subject.path for subject in subjects[: arguments.batch]]

    names = [arguments.model, *(name for name in OTHERS if find_codec(name).missing() is None)]
    settings = dict.fromkeys(names, ())
    timed = speed_results(settings, pictures, arguments.repeats, alone=arguments.images)["codecs"]
    results = {each["codec"]: each for each in timed}
    results["CompressAI"] = compressai_seconds(pictures[: arguments.images], arguments.repeats)
    print(
        f"{arguments.images} pictures with a process each, {len(pictures)} in a batch, {arguments.repeats} rounds,"
    )
    print(f"{os.cpu_count()} cores; milliseconds a picture: median")
    print(f"(interquartile range), and how many times as fast `{arguments.model}` is\n")
    print(f"| | {' | '.join(HEADINGS)} |\n| --- | --- | --- | --- | --- |")
    for name, result in results.items():
        cells = []
        for task in TASKS:
            if task not in result:
                cells.append("")
                continue
            ratio = result[task]["median"] / results[arguments.model][task]["median"]
            cells.append(
                f"{1000 * result[task]['median']:.1f} ({1000 * result[task]['spread']:.1f}), {ratio:.2f}x"
            )
        print(f"| {name} | {' | '.join(cells)} |")

    _, tensors = frozen.load(frozen.model_path(arguments.model))
    height, width = (-(-side // 64) * 64 for side in images.load(pictures[0]).shape[:2])
    pixels, latents = height * width, height * width // 16**2
    graphs = {name: tensors[f"{name}.onnx"].tobytes() for name in ("g_a", "h_a", "g_s")}
    adds = {
        "encode_batch": multiply_adds(graphs["g_a"], pixels)
        + multiply_adds(graphs["h_a"], latents),
        "decode_batch": multiply_adds(graphs["g_s"], latents),
    }
    rate = machine_rate()
    print(f"\nThis machine: {rate / 1e9:.0f} thousand million multiply-adds a second\n")
    for task, count in adds.items():
        bound, taken = count / rate, results[arguments.model][task]["median"]
        print(
            f"    {task.replace('_', ', ')}: {count / 1e6:.0f} million multiply-adds, "
            f"at best {1000 * bound:.1f} ms, taken {1000 * taken:.1f} ms: {taken / bound:.1f} times the lower bound"
        )


if __name__ == "__main__":
    main()
