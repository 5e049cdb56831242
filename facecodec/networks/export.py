"""Exports torch modules as ONNX graphs in half precision, and measures their reach."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from facecodec.errors import UsageError
from facecodec.sessions import Transforms
from facecodec.tensors import REACH


def graph(
    module: nn.Module,
    example: Tensor,
    outputs: tuple[str, ...] = ("output",),
    by_quality: bool = False,
) -> np.ndarray:
    """Returns the module as the bytes of an ONNX graph, uint8. `outputs` names its outputs.

    Height and width are free, and constants are in half precision. With `by_quality` the module
    has a second input, the quality, (1,).
    """
    buffer: Any = io.BytesIO()  # the exporter accepts it, although its types do not
    axes = {2: "height", 3: "width"}
    torch.onnx.export(
        module.float().to(memory_format=torch.contiguous_format),
        (example, torch.ones(1)) if by_quality else (example,),
        buffer,
        input_names=["input", "quality"] if by_quality else ["input"],
        output_names=list(outputs),
        dynamic_axes={"input": axes, "output": axes},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load_from_string(buffer.getvalue())
    halve(model)
    # The exporter's name and version must not change the bytes of a model.
    model.producer_name = model.producer_version = ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model)
    return np.frombuffer(model.SerializeToString(deterministic=True), np.uint8)


def halve(model: onnx.ModelProto) -> None:
    """Stores the constants of an ONNX model in half precision. It still computes in float32."""
    for node in [node for node in model.graph.node if node.op_type == "Constant"]:
        tensor = node.attribute[0].t
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 0:
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
            model.graph.node.remove(node)
    for initializer in list(model.graph.initializer):
        if initializer.data_type == TensorProto.FLOAT and len(initializer.dims) > 0:
            half = numpy_helper.from_array(numpy_helper.to_array(initializer).astype(np.float16))
            half.name = f"{initializer.name}.half"
            cast = helper.make_node("Cast", [half.name], [initializer.name], to=TensorProto.FLOAT)
            model.graph.initializer.remove(initializer)
            model.graph.initializer.append(half)
            model.graph.node.insert(0, cast)


def of_pixels(
    name: str, module: nn.Module, step: int, by_quality: bool = False
) -> dict[str, np.ndarray]:
    """Exports a module from pictures to latents, with `step` pixels per position.

    Returns NAME.onnx and NAME.reach. `by_quality` is as in `graph`.
    """
    frozen = graph(module, torch.zeros(1, 3, 64, 64), by_quality=by_quality)
    return _with_reach(name, frozen, 3, down=step)


def of_latents(name: str, module: nn.Module, channels: int, down: int) -> dict[str, np.ndarray]:
    """Exports a module that reduces latents by `down` along each side, as `of_pixels` does."""
    frozen = graph(module, torch.zeros(1, channels, 8, 8))
    return _with_reach(name, frozen, channels, down=down, unit=down)


def to_pixels(name: str, module: nn.Module, channels: int, step: int) -> dict[str, np.ndarray]:
    """Exports a module from latents to pictures, `step` pixels per position, likewise."""
    frozen = graph(module, torch.zeros(1, channels, 4, 4))
    return _with_reach(name, frozen, channels, up=step)


def _with_reach(
    name: str, frozen: np.ndarray, channels: int, up: int = 1, down: int = 1, unit: int = 1
) -> dict[str, np.ndarray]:
    """Returns a graph and its reach in positions; a cell of `measured_reach` has `unit`.

    Raises UsageError for a reach above REACH.most.
    """
    tensors = {f"{name}.onnx": frozen}
    reach = unit * Transforms(tensors).measured_reach(f"{name}.onnx", channels, up, down)
    if reach > REACH.most:
        raise UsageError(f"{name} looks at {reach} positions to each side, not {REACH.most:g}")
    return tensors | {f"{name}.reach": np.array([reach], REACH.dtype)}
