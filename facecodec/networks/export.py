"""Torch modules -> ONNX graphs in half precision."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn


def graph(module: nn.Module, example: Tensor) -> np.ndarray:
    """The module as ONNX bytes with free height and width and half-precision constants, as uint8."""
    buffer: Any = io.BytesIO()  # which the exporter takes, though its types say otherwise
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
    halve(model)
    # Who exported it and from which line of code is not part of the model.
    model.producer_name = model.producer_version = ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model)
    return np.frombuffer(model.SerializeToString(deterministic=True), np.uint8)


def halve(model: onnx.ModelProto) -> None:
    """Store the constants of an ONNX model in half precision; it computes in single as before."""
    for initializer in list(model.graph.initializer):
        if initializer.data_type == TensorProto.FLOAT and len(initializer.dims) > 0:
            half = numpy_helper.from_array(numpy_helper.to_array(initializer).astype(np.float16))
            half.name = f"{initializer.name}.half"
            cast = helper.make_node("Cast", [half.name], [initializer.name], to=TensorProto.FLOAT)
            model.graph.initializer.remove(initializer)
            model.graph.initializer.append(half)
            model.graph.node.insert(0, cast)


def reach(network: nn.Module, pixels: float, step: int) -> np.ndarray:
    """How many latent positions to each side a result depends on beyond its own place, uint8.

    `pixels` is what a position of the input stands for along a side, `step` what one of the latents
    does. Tiles see so much of their surroundings (facecodec/sessions.py).
    """
    total = 0.0
    layer: Any
    for layer in network.modules():  # in the order in which they run
        if isinstance(layer, nn.Conv2d):
            total += float(layer.padding[0]) * pixels
            pixels *= layer.stride[0]
        elif isinstance(layer, nn.PixelShuffle):
            pixels /= layer.upscale_factor
    return np.array([math.ceil(total / step)], np.uint8)
