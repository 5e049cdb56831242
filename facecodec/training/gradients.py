"""Frozen networks -> the graphs that the search for the best file descends by (facecodec/search)."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from facecodec import frozen
from facecodec.errors import UsageError
from facecodec.exact import FRACTION
from facecodec.faces import INSTALL
from facecodec.faces.recognisers import recogniser_file
from facecodec.networks.gradients import split, taught
from facecodec.search.detector import NETWORKS
from facecodec.training.config import Config
from facecodec.training.losses import DISTORTION_WEIGHT

TEACHERS = ("mobilefacenet-ms1m", "espressif-mbf", "retail-0095")


def is_searched(config: Config) -> bool:
    """Whether the search can follow the loss of a configuration."""
    return (
        config.family == "hyperprior"
        and config.distortion == "l2"
        and config.objective in ("rec", "ipr")
    )


def write_model(model: Path, config: Config) -> Path:
    """Write the search file of a frozen model that a configuration has trained; gives its path.

    Raises UsageError for a model that the search cannot follow.
    """
    if not is_searched(config):
        raise UsageError(f"{model}: only hyperpriors that keep pixels, by L2, are searched")
    card, tensors = frozen.load(model)
    facts = {
        "rate_weights": list(config.rate_weights),
        "pixels": DISTORTION_WEIGHT[config.distortion],
    }
    path = frozen.search_file(model)
    frozen.save_search(path, card.fingerprint, facts, of_model(tensors))
    return path


def write_faces(path: Path) -> None:
    """Write what finds faces and compares them: MTCNN's networks and the TEACHERS with their gradients."""
    tensors, sizes = _detector(), {}
    for name in TEACHERS:
        network = onnx.load(recogniser_file(name, None))
        sizes[name] = network.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        tensors[f"{name}.onnx"] = np.frombuffer(taught(network), np.uint8)
    frozen.save_search(path, "", {"sizes": sizes}, tensors)


def _detector() -> dict[str, np.ndarray]:
    try:
        from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
    except ImportError:
        raise UsageError(f"the networks that find faces are facenet-pytorch's: {INSTALL}") from None
    free = {"x": {0: "count", 2: "height", 3: "width"}}
    built = (
        _exported(PNet(), 40, ["moves", "chances"], free),
        _exported(RNet(), 24, ["moves", "chances"], {"x": {0: "count"}}),
        _exported(ONet(), 48, ["moves", "points", "chances"], {"x": {0: "count"}}),
    )
    return dict(zip(NETWORKS, built, strict=True))


def _exported(
    network: nn.Module, side: int, outputs: list[str], axes: dict[str, dict[int, str]]
) -> np.ndarray:
    buffer: Any = io.BytesIO()  # which the exporter takes, though its types say otherwise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, 3, side, side),),
            buffer,
            input_names=["x"],
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    for node in model.graph.node:
        node.doc_string = ""
    return np.frombuffer(model.SerializeToString(deterministic=True), np.uint8)


def of_model(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gradient graphs of a frozen hyperprior, from its own tensors: of g_s and, in floats, of h_s."""
    synthesis = onnx.load_from_string(tensors["g_s.onnx"].tobytes())
    latents = tensors["y_gain"].shape[1]
    hyper = tensors["z_table"].shape[1]
    graphs = {}
    for name, model, channels in (
        ("g_s", synthesis, latents),
        ("h_s", _hyper_synthesis(tensors), hyper),
    ):
        forward, backward, _ = split(model, (1, channels, 4, 4))
        graphs[f"{name}.forward.onnx"] = np.frombuffer(forward, np.uint8)
        graphs[f"{name}.backward.onnx"] = np.frombuffer(backward, np.uint8)
    return graphs


def _hyper_synthesis(tensors: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The integer hyper-synthesis of facecodec/exact.py as a network of floats, without its rounding.

    It takes z_hat and gives table indices, means and, where there is one, the quality map in steps of
    the quality byte.
    """
    nodes, initializers, x = [], [], "z_hat"
    shifts, upsample = tensors["h_s.shifts"], tensors["h_s.upsample"]
    for i, (shift, up) in enumerate(zip(shifts, upsample, strict=True)):
        weight = tensors[f"h_s.{i}.weight"] * 2.0 ** -float(shift)
        bias = tensors[f"h_s.{i}.bias"] * 2.0 ** -(float(shift) + FRACTION)
        for name, value in ((f"w{i}", weight), (f"b{i}", bias)):
            initializers.append(numpy_helper.from_array(value.astype(np.float32), name))
        pad = weight.shape[2] // 2
        nodes.append(
            helper.make_node(
                "Conv",
                [x, f"w{i}", f"b{i}"],
                [f"x{i}"],
                pads=[pad] * 4,
                kernel_shape=weight.shape[2:],
            )
        )
        x = f"x{i}"
        if i < len(shifts) - 1:
            nodes.append(helper.make_node("Relu", [x], [f"{x}.relu"]))
            x = f"{x}.relu"
        if up:
            nodes.append(
                helper.make_node("DepthToSpace", [x], [f"{x}.up"], blocksize=2, mode="CRD")
            )
            x = f"{x}.up"
    graph = helper.make_graph(
        nodes,
        "h_s",
        [helper.make_tensor_value_info("z_hat", TensorProto.FLOAT, [None] * 4)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [None] * 4)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
