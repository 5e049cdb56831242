"""Writes the gradient graphs for the search (facecodec/search)."""

from __future__ import annotations

import hashlib
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
from facecodec.networks.gradients import bare, split
from facecodec.search.detector import NETWORKS
from facecodec.search.efforts import RELAXED
from facecodec.search.files import Place, save, search_file
from facecodec.template import SIZE
from facecodec.training.config import Config
from facecodec.training.losses import DISTORTION_WEIGHT
from facecodec.training.packing import Packing

# The search with an `ip` model weighs pixels so, relative to other models. Its training did not
# weigh them, but without a weight the background drifts away and nothing is gained.
ANCHOR = 1 / 15
TEACHERS = ("mobilefacenet-ms1m", "espressif-mbf", "retail-0095")
EIGHT_BITS = ("retail-0095",)  # eight bits suffice for these teachers (docs/effort.md)


def is_searched(config: Config) -> bool:
    """Returns whether the search supports a configuration's family and loss."""
    return config.family in RELAXED and config.distortion == "l2"


def write_model(model: Path, config: Config) -> Path:
    """Writes the search file of a frozen model and returns its path. `config` trained the model.

    Raises UsageError for a model that the search does not support.
    """
    if not is_searched(config):
        raise UsageError(
            f"{model}: only hyperpriors, sliced or not, with the distortion L2 are searched"
        )
    card, tensors = frozen.load(model)
    pixels = DISTORTION_WEIGHT[config.distortion] * (ANCHOR if card.objective == "ip" else 1)
    facts = {
        "rate_weights": list(config.rate_weights),
        "pixels": pixels,
        "averages": pixels * config.averages_weight,
    }
    path = search_file(model)
    packing = of_model(tensors)
    save(path, card.fingerprint, facts, packing.tensors(), packing.places)
    return path


def write_faces(path: Path, shared: Path) -> None:
    """Writes the file for faces: MTCNN's networks, and the TEACHERS with their gradients.

    `shared` is the first teacher's file, which is installed with the models; its weights are not
    stored again.
    """
    name = f"{shared.parent.name}/{shared.name}"
    content = shared.read_bytes()
    packing = Packing({name: np.frombuffer(content, np.uint8)})
    for network, model in _detector().items():
        packing.add(network, bare(model))
    for teacher in TEACHERS:
        model = onnx.load(shared if teacher == shared.stem else recogniser_file(teacher, None))
        graphs = split(model, (1, 3, SIZE, SIZE), static=True)
        for direction, graph in zip(("forward", "backward"), graphs, strict=True):
            packing.add(f"{teacher}.{direction}.onnx", graph, eight_bits=teacher in EIGHT_BITS)
    facts = {"recognisers": TEACHERS, "files": {name: hashlib.sha256(content).hexdigest()}}
    save(path, "", facts, packing.tensors(), packing.places)


def _detector() -> dict[str, onnx.ModelProto]:
    try:
        from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
    except ImportError:
        raise UsageError(f"finding faces needs facenet-pytorch: {INSTALL}") from None
    free = {"x": {0: "count", 2: "height", 3: "width"}}
    built = (
        _exported(PNet(), 40, ["moves", "chances"], free),
        _exported(RNet(), 24, ["moves", "chances"], {"x": {0: "count"}}),
        _exported(ONet(), 48, ["moves", "points", "chances"], {"x": {0: "count"}}),
    )
    return dict(zip(NETWORKS, built, strict=True))


def _exported(
    network: nn.Module, side: int, outputs: list[str], axes: dict[str, dict[int, str]]
) -> onnx.ModelProto:
    buffer: Any = io.BytesIO()  # the exporter accepts it, although its types do not
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
    return model


def of_model(tensors: dict[str, np.ndarray]) -> Packing:
    """Packs the gradient graphs of a frozen model, whose weights they refer to.

    There are graphs of the synthesis and, as floats, of each integer network.
    """
    synthesis = onnx.load_from_string(tensors["g_s.onnx"].tobytes())
    latents = tensors["y_gain"].shape[1]
    networks = {"h_s": tensors["z_table"].shape[1]}
    if "slices" in tensors:  # the family `sliced`, whose synthesis also gets the quality
        latents += 1
        counts = range(1, len(tensors["slices"]))
        networks |= {f"slice{i}": tensors[f"slice{i}.0.weight"].shape[1] for i in counts}
    graphs: dict[str, tuple[onnx.ModelProto, dict[str, Place], int]] = {
        "g_s": (synthesis, {}, latents)
    }
    for name, channels in networks.items():
        graphs[name] = (*floats(tensors, name), channels)
    packing = Packing({"g_s.onnx": tensors["g_s.onnx"]})
    for name, (model, places, channels) in graphs.items():
        forward, backward = split(model, (1, channels, 4, 4))
        packing.add(f"{name}.forward.onnx", forward, places)
        packing.add(f"{name}.backward.onnx", backward, places)
    return packing


def floats(tensors: dict[str, np.ndarray], name: str) -> tuple[onnx.ModelProto, dict[str, Place]]:
    """Returns an integer network (facecodec/exact.py) in floats, without rounding.

    Also returns the places of its weights in the model. Integers in units of 2^-10 become the
    values that they stand for.
    """
    nodes, initializers, places, x = [], [], {}, "values"
    shifts, upsample = tensors[f"{name}.shifts"], tensors[f"{name}.upsample"]
    for i, (shift, up) in enumerate(zip(shifts, upsample, strict=True)):
        scale = 2.0 ** -float(shift)
        source = f"{name}.{i}.weight"
        weight = tensors[source] * scale
        bias = tensors[f"{name}.{i}.bias"] * scale * 2.0**-FRACTION
        places[f"w{i}"] = Place(source, 0, tensors[source].dtype.name, weight.shape, scale)
        for constant, value in ((f"w{i}", weight), (f"b{i}", bias)):
            initializers.append(numpy_helper.from_array(value.astype(np.float32), constant))
        pad = weight.shape[2] // 2
        depthwise = i > 0 and weight.shape[1] == 1 and weight.shape[2] > 1
        nodes.append(
            helper.make_node(
                "Conv",
                [x, f"w{i}", f"b{i}"],
                [f"x{i}"],
                group=len(weight) if depthwise else 1,
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
        name,
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, [None] * 4)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [None] * 4)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, places
