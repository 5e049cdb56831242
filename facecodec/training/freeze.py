"""Torch network -> frozen model: ONNX graphs in half precision, and integers for all that must be exact."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save
from torch import Tensor, nn

from facecodec import checkpoint
from facecodec.container import MAX_QUALITY_BYTE, QUALITY_STEPS
from facecodec.entropy import PRECISION
from facecodec.errors import UsageError
from facecodec.exact import FRACTION, GAIN_FRACTION
from facecodec.networks.hyperprior import SCALE_MIN, Hyperprior, interpolate
from facecodec.training.config import Config, parse_config
from facecodec.training.loop import CHECKPOINT, build_network

SCALE_STEPS = 8  # tables per octave of the standard deviation
SCALE_OCTAVES = 10
TAIL = 5.0  # a table reaches this many standard deviations
ESCAPE_COUNT = 16  # least count, of 2^24, of "beyond the table": real latents have heavier tails than Gaussians
WEIGHT_BITS = 15


def freeze(run: Path, out: Path) -> str:
    """Write the frozen model `out` and the start train/NAME beside it; returns the fingerprint.

    Raises UsageError where the run has no checkpoint.
    """
    path = run / CHECKPOINT
    if not path.exists():
        raise UsageError(f"{run} holds no checkpoint to freeze")
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: a model file ends in .safetensors")
    saved = torch.load(path, map_location="cpu", weights_only=True)
    config = parse_config(saved["config"])
    network = build_network(config)
    network.load_state_dict(saved["network"])
    network.eval()
    this = {key: saved["config"][key] for key in ("name", "objective", "distortion", "seed", "batch", "crop")}
    this |= {"data": data_of(config), "steps": saved["step"], "hours": round(saved["seconds"] / 3600, 2)}
    runs = [*saved["runs"], this | {"hardware": saved["hardware"]}]
    card = {
        "family": config.family,
        "objective": config.objective,
        "distortion": config.distortion,
        "data": data_of(config),
        "steps": sum(run["steps"] for run in runs),
        "runs": runs,
        "rates": saved["history"][-1]["rows"] if saved["history"] else [],
    }
    mark = checkpoint.save(out, card, frozen_tensors(network))
    start = out.parent / "train" / out.name
    start.parent.mkdir(exist_ok=True)
    partial = start.with_suffix(".partial")
    # Buffers hold bounds such as 1e-9, which half precision would turn into zero.
    half = dict(network.named_buffers()) | {name: value.detach().half() for name, value in network.named_parameters()}
    partial.write_bytes(save(half, {"config": json.dumps(saved["config"]), "runs": json.dumps(runs)}))
    os.replace(partial, start)
    return mark


def data_of(config: Config) -> str:
    """The datasets, with what became of the faces where that is not the default."""
    return ", ".join(s.set if s.faces == "any" else f"{s.set} (faces: {s.faces})" for s in config.data)


def frozen_tensors(network: Hyperprior) -> dict[str, np.ndarray]:
    """Everything that coding needs, by name (docs/format.md, "The model")."""
    latents = network.y_log_gain.shape[1]
    hyper = network.z_log_gain.shape[1]
    counts, starts = gaussian_tables()
    tensors = {
        "g_a.onnx": graph(network.g_a, torch.zeros(1, 3, 64, 64)),
        "h_a.onnx": graph(network.h_a, torch.zeros(1, latents, 8, 8)),
        "g_s.onnx": graph(network.g_s, torch.zeros(1, latents, 4, 4)),
        "table_counts": counts,
        "table_starts": starts,
    }
    return tensors | frozen_gains(network) | frozen_hyper_synthesis(network.h_s, latents, hyper)


def graph(module: nn.Module, example: Tensor) -> np.ndarray:
    """The module as ONNX bytes with free height and width and half-precision constants, as uint8."""
    buffer = io.BytesIO()
    axes = {2: "height", 3: "width"}
    torch.onnx.export(
        module.float().to(memory_format=torch.contiguous_format),
        (example,),
        buffer,
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": axes, "output": axes},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load_from_string(buffer.getvalue())
    for initializer in list(model.graph.initializer):
        if initializer.data_type == TensorProto.FLOAT and len(initializer.dims) > 0:
            half = numpy_helper.from_array(numpy_helper.to_array(initializer).astype(np.float16))
            half.name = f"{initializer.name}.half"
            cast = helper.make_node("Cast", [half.name], [initializer.name], to=TensorProto.FLOAT)
            model.graph.initializer.remove(initializer)
            model.graph.initializer.append(half)
            model.graph.node.insert(0, cast)
    # Who exported it and from which line of code is not part of the model.
    model.producer_name = model.producer_version = ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model)
    return np.frombuffer(model.SerializeToString(deterministic=True), np.uint8)


def gaussian_tables() -> tuple[np.ndarray, np.ndarray]:
    """Counts of rounded zero-mean Gaussians, scales SCALE_MIN 2^(i/8), each with its escape; and their starts."""
    tables = []
    for i in range(SCALE_STEPS * SCALE_OCTAVES + 1):
        scale = SCALE_MIN * 2 ** (i / SCALE_STEPS)
        reach = max(1, int(np.ceil(TAIL * scale)))
        edges = torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5
        mass = torch.special.ndtr(edges / scale).diff().numpy()
        mass = np.append(mass, max(1 - mass.sum(), ESCAPE_COUNT / 2**PRECISION))
        counts = np.maximum(1, np.rint(mass / mass.sum() * 2**PRECISION)).astype(np.int64)
        counts[reach] += 2**PRECISION - counts.sum()
        tables.append(counts)
    starts = np.cumsum([0] + [len(t) for t in tables])
    return np.concatenate(tables).astype(np.int32), starts.astype(np.int32)


def frozen_gains(network: Hyperprior) -> dict[str, np.ndarray]:
    """A row for each quality byte: what the gains add to scale indices and multiply means and z by."""
    quality = 1 + torch.arange(MAX_QUALITY_BYTE + 1) / QUALITY_STEPS
    with torch.no_grad():
        y_log, z_log, z_scale = (
            interpolate(anchors.double(), quality.double()[:, None, None])[..., 0, 0].numpy()
            for anchors in (network.y_log_gain, network.z_log_gain, network.z_log_scale)
        )
    index = np.rint(SCALE_STEPS * (z_scale - np.log2(SCALE_MIN)))
    return {
        "y_log_gain": np.rint(y_log * SCALE_STEPS * 2**FRACTION).astype(np.int32),
        "y_gain": np.rint(2 ** (y_log + GAIN_FRACTION)).astype(np.int32),
        "z_inverse_gain": np.rint(2 ** (GAIN_FRACTION - z_log)).astype(np.int32),
        "z_table": np.clip(index, 0, SCALE_STEPS * SCALE_OCTAVES).astype(np.uint8),
    }


def frozen_hyper_synthesis(h_s: nn.Sequential, latents: int, hyper: int) -> dict[str, np.ndarray]:
    """Integer weights: each layer takes and gives values in units of 2^-FRACTION.

    The last layer's scales are turned into table indices and its quality map into steps of the quality byte here,
    so that decoding needs no logarithm.
    """
    tensors: dict[str, Any] = {}
    shifts, upsample = [], []
    modules = list(h_s)
    convolutions = [i for i, module in enumerate(modules) if isinstance(module, nn.Conv2d)]
    for number, i in enumerate(convolutions):
        weight = modules[i].weight.detach().double().numpy()
        bias = modules[i].bias.detach().double().numpy()
        if i == convolutions[-1]:
            weight, bias = weight.copy(), bias.copy()
            weight[:latents] *= SCALE_STEPS
            bias[:latents] = SCALE_STEPS * (bias[:latents] - np.log2(SCALE_MIN))
            weight[-1] *= QUALITY_STEPS
            bias[-1] *= QUALITY_STEPS
        shift = WEIGHT_BITS - 1 - int(np.floor(np.log2(np.abs(weight).max())))
        tensors[f"h_s.{number}.weight"] = np.clip(np.rint(weight * 2.0**shift), -(2**15), 2**15 - 1).astype(np.int16)
        tensors[f"h_s.{number}.bias"] = np.rint(bias * 2.0 ** (shift + FRACTION)).astype(np.int64)
        shifts.append(shift)
        upsample.append(i + 1 < len(modules) and isinstance(modules[i + 1], nn.PixelShuffle))
    tensors["h_s.shifts"] = np.array(shifts, np.uint8)
    tensors["h_s.upsample"] = np.array(upsample, np.uint8)
    return tensors
