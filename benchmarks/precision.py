"""Measures what 8-bit integers in the synthesis would save, and cost in pixels.

    python benchmarks/precision.py [--model NAME] [--images N] [--data DIR]

The integers are ONNX Runtime's static quantisation, per channel, calibrated on training people.
Both run in turn, on one thread.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from facecodec import frozen, images
from facecodec.bench.metrics import psnr
from facecodec.codec import Codec, open_container
from facecodec.datasets import lfw
from facecodec.folders import data_root

CALIBRATION = 16  # pictures
ROUNDS = 5


class Latents(CalibrationDataReader):
    def __init__(self, latents: list[np.ndarray], name: str) -> None:
        self.left: Iterator[dict[str, np.ndarray]] = iter([{name: each} for each in latents])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def session(path: Path, basic: Path | None = None) -> onnxruntime.InferenceSession:
    """Returns a session of a graph.

    With `basic`, the graph is also written there, its constants folded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if basic is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(basic)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="l2-ipr")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    path = frozen.model_path(arguments.model)
    codec = Codec(path)
    root = data_root(arguments.data)
    pictures = [
        images.load(photo.path) for photo in lfw(root, "train")[: arguments.images + CALIBRATION]
    ]
    latents = []
    for pixels in pictures:
        parsed = open_container(codec.encode(pixels, 4))
        latents.append(
            codec.family.decode_latents(
                parsed.streams, (parsed.height, parsed.width), parsed.quality_byte
            )[None]
        )
    with tempfile.TemporaryDirectory() as folder:
        exact, basic, small = (
            Path(folder, name) for name in ("exact.onnx", "basic.onnx", "small.onnx")
        )
        exact.write_bytes(frozen.load(path)[1]["g_s.onnx"].tobytes())
        name = session(exact, basic).get_inputs()[0].name
        quantize_static(
            basic,
            small,
            Latents(latents[:CALIBRATION], name),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # AVX2 adds pairs of products in 16 bits
        )
        sessions = {"float32": session(exact), "int8": session(small)}
    taken: dict[str, list[float]] = {kind: [] for kind in sessions}
    quality: dict[str, list[float]] = {kind: [] for kind in sessions}
    for number in range(ROUNDS):
        for kind, each in sessions.items():
            began = time.process_time()
            results = [each.run(None, {name: y_hat})[0] for y_hat in latents[CALIBRATION:]]
            taken[kind].append((time.process_time() - began) / len(results))
            if number == 0:
                for pixels, result in zip(pictures[CALIBRATION:], results, strict=True):
                    image = np.rint(
                        255 * result[0, :, : pixels.shape[0], : pixels.shape[1]].clip(0, 1)
                    ).transpose(1, 2, 0)
                    quality[kind].append(psnr(pixels, image))
    for kind in sessions:
        seconds, decibels = np.median(taken[kind]), np.mean(quality[kind])
        print(f"synthesis, {kind}: {1000 * seconds:.1f} ms a picture, {decibels:.2f} dB at q 4")


if __name__ == "__main__":
    main()
