"""Torch modules -> ONNX graphs, their constants in half precision or in eight bits."""

from __future__ import annotations

import io

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn


def graph(module: nn.Module, example: Tensor, eight_bits: bool = False) -> np.ndarray:
    """The module as ONNX bytes with free height and width, as uint8; constants in half precision.

    With `eight_bits` the weights of convolutions are integers, with a scale for each channel that they give.
    """
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
            values = numpy_helper.to_array(initializer)
            stored, node = (_integers if eight_bits and values.ndim == 4 else _half)(values, initializer.name)
            model.graph.initializer.remove(initializer)
            model.graph.initializer.extend(stored)
            model.graph.node.insert(0, node)
    # Who exported it and from which line of code is not part of the model.
    model.producer_name = model.producer_version = ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model)
    return np.frombuffer(model.SerializeToString(deterministic=True), np.uint8)


Stored = tuple[list[TensorProto], NodeProto]  # of a constant, and what makes it of them


def _half(values: np.ndarray, name: str) -> Stored:
    half = numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
    return [half], helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT)


def _integers(values: np.ndarray, name: str) -> Stored:
    scale = np.maximum(np.abs(values).max((1, 2, 3)), 1e-12) / 127
    integers = np.rint(values / scale[:, None, None, None]).astype(np.int8)
    parts = [(integers, "int8"), (scale.astype(np.float32), "scale"), (np.zeros(len(scale), np.int8), "zero")]
    stored = [numpy_helper.from_array(part, f"{name}.{kind}") for part, kind in parts]
    return stored, helper.make_node("DequantizeLinear", [each.name for each in stored], [name], axis=0)
