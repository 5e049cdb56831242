"""Reverse-mode differentiation of ONNX graphs: turns a network into graphs of its gradient.

The search (facecodec/search) needs gradients but must not need torch. So the chain rule is applied
to the graph once, when a model is frozen. Weights are constants; the gradient is with respect to
the one input. Each operator has a rule in `_RULES`; an operator without a rule is an error. A PRelu
becomes other operators first.

If a rule needs a value of the forward pass, `split` makes it an output of the forward graph and an
input of the backward graph. So nothing is computed twice.

Large weights are not in the graphs, but are returned beside them, each once. If a rule needs a
weight transposed or mirrored, the graph computes that when ONNX Runtime loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from facecodec.errors import UsageError

OPSET = 17
LARGE = 512  # a constant of at least so many numbers is a large weight
COTANGENT = "cotangent"
GRADIENT = "gradient"


@dataclass(frozen=True)
class Bare:
    """An ONNX graph without its large weights, uint8, and the weights by name, float32."""

    content: np.ndarray
    weights: dict[str, np.ndarray]


@dataclass
class _Tape:
    """The forward nodes in order, facts about their values, and the backward nodes so far."""

    nodes: list[onnx.NodeProto]
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    static: bool  # whether height and width are always those of `shapes`
    backward: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    stepwise: set[str] = field(default_factory=set)  # values whose slope is 0 wherever it exists
    names: int = 0

    def emit(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node with one output to the backward pass. Returns the output's name."""
        self.names += 1
        name = f"gradient.{self.names}"
        self.used.update(inputs)
        self.backward.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        """Adds a constant to the backward pass. Returns its name."""
        self.names += 1
        name = f"gradient.constant.{self.names}"
        self.weights[name] = value
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))


def split(
    model: onnx.ModelProto, example: tuple[int, ...], static: bool = False
) -> tuple[Bare, Bare]:
    """Returns the forward and the backward graph of a network with one input and one output.

    The forward graph returns the output, followed by intermediate values. The backward graph takes
    `cotangent`, of the output's shape, and these values, and returns `gradient`, of the input's
    shape. `example` is a shape of the input; its height and width may change later, unless
    `static`. Raises UsageError for an operator without a rule.
    """
    tape, entrance, output = _read(model, example, static)
    result = _differentiate(tape, entrance, output, COTANGENT)
    made = {name for node in tape.nodes for name in node.output} | {entrance}
    kept = sorted(tape.used & made)
    forward = _model(
        tape.nodes,
        tape.constants,
        [_free(entrance, len(example))],
        [_free(name, len(tape.shapes[name])) for name in (output, *kept)],
    )
    weights = {name: tape.constants[name] for name in sorted(tape.used & set(tape.constants))}
    backward = _model(
        [*tape.backward, helper.make_node("Identity", [result], [GRADIENT])],
        tape.weights | weights,
        [
            _free(COTANGENT, len(tape.shapes[output])),
            *(_free(name, len(tape.shapes[name])) for name in kept),
        ],
        [_free(GRADIENT, len(example))],
    )
    return forward, backward


def _read(model: onnx.ModelProto, example: tuple[int, ...], static: bool) -> tuple[_Tape, str, str]:
    """Returns the nodes that depend on the input, and the names of the input and the output.

    Nodes that depend only on constants and shapes become constants, with their values under
    `example`.
    """
    graph = model.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise UsageError("only a network of one input and one output has a gradient here")
    entrance, output = graph.input[0].name, graph.output[0].name
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    every = onnx.ModelProto()
    every.CopyFrom(model)
    names = [name for node in graph.node for name in node.output]
    del every.graph.output[:]
    every.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        every.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = dict(
        zip(names, session.run(None, {entrance: np.zeros(example, np.float32)}), strict=True)
    )
    fixed = set(constants) | {""}
    nodes = []
    for node in graph.node:
        if node.op_type == "Shape" or all(name in fixed for name in node.input):
            fixed.update(node.output)
            constants |= {name: values[name] for name in node.output}
        else:
            nodes.append(node)
    constants = {
        name: value.astype(np.float32) if value.dtype == np.float16 else value
        for name, value in constants.items()
    }
    asked = {name for node in nodes for name in node.input}
    constants = {name: value for name, value in constants.items() if name in asked}
    shapes = {name: np.shape(value) for name, value in values.items()} | {entrance: example}
    tape = _Tape([], constants, shapes, static)
    for node in nodes:
        tape.nodes.extend(_product(tape, node) if node.op_type == "PRelu" else [node])
    return tape, entrance, output


def _product(tape: _Tape, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Returns the nodes of a PRelu as a product with its slopes.

    ONNX Runtime computes this four times as fast as a PRelu, and the gradient needs the slopes too.
    """
    (entrance, slope), (made,) = node.input, node.output
    positive, slopes = f"{made}.positive", f"{made}.slopes"
    zero, one = "gradient.zero", "gradient.one"  # no names of the network's own
    tape.constants |= {zero: np.array(0, np.float32), one: np.array(1, np.float32)}
    tape.shapes[slopes] = tape.shapes[made]
    tape.stepwise.add(slopes)
    return [
        helper.make_node("Greater", [entrance, zero], [positive]),
        helper.make_node("Where", [positive, one, slope], [slopes]),
        helper.make_node("Mul", [entrance, slopes], [made]),
    ]


def _differentiate(tape: _Tape, entrance: str, output: str, cotangent: str) -> str:
    """Appends the backward pass. Returns the name of the input's gradient."""
    pieces: dict[str, list[str]] = {output: [cotangent]}
    slices: dict[str, list[tuple[int, int, str]]] = {}
    for node in reversed(tape.nodes):
        gradient = _sum(tape, node.output[0], pieces, slices)
        if gradient is None:
            continue
        part = _part(tape, node) if node.op_type == "Slice" else None
        if part is not None:
            slices.setdefault(node.input[0], []).append((*part, gradient))
            continue
        if node.op_type not in _RULES:
            raise UsageError(f"there is no gradient here for the operator {node.op_type}")
        for name, piece in _RULES[node.op_type](tape, node, gradient):
            pieces.setdefault(name, []).append(piece)
    result = _sum(tape, entrance, pieces, slices)
    if result is None:
        raise UsageError("the output of this network does not depend on its input")
    return result


def _sum(
    tape: _Tape,
    name: str,
    pieces: dict[str, list[str]],
    slices: dict[str, list[tuple[int, int, str]]],
) -> str | None:
    """Returns the sum of the gradients that a value gets from its users.

    Gradients of slices of channels that make up the value are joined.
    """
    parts = sorted(slices.pop(name, []))
    if parts:
        edges = [0, *(last for _, last, _ in parts)]
        if edges[:-1] != [first for first, _, _ in parts] or edges[-1] != tape.shapes[name][1]:
            raise UsageError("slices that do not fill a value have no gradient here")
        pieces.setdefault(name, []).append(
            tape.emit("Concat", *(each for *_, each in parts), axis=1)
        )
    total = None
    for piece in pieces.pop(name, []):
        total = piece if total is None else tape.emit("Add", total, piece)
    return total


def _part(tape: _Tape, node: onnx.NodeProto) -> tuple[int, int] | None:
    """Returns the first channel that a Slice takes, and the channel after its last one.

    Returns None for a Slice that reverses the channels.
    """
    first, last, axis = (int(tape.constants[name].ravel()[0]) for name in node.input[1:4])
    step = int(tape.constants[node.input[4]].ravel()[0]) if len(node.input) > 4 else 1
    if axis != 1 or tape.constants[node.input[1]].size != 1 or step not in (1, -1):
        raise UsageError("only slices of channels have a gradient here")
    return (first, min(last, tape.shapes[node.input[0]][1])) if step == 1 else None


Pieces = list[tuple[str, str]]
Rule = Callable[[_Tape, onnx.NodeProto, str], Pieces]


def _conv(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    has = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    name, weight = node.input[0], node.input[1]
    w = tape.constants[weight]
    group, (kernel, across), pads = has.get("group", 1), w.shape[2:], has.get("pads", [0] * 4)
    stride = has.get("strides", [1, 1])[0]
    depthwise = group == len(w) and w.shape[1] == 1
    plain = kernel == across and len(set(pads)) == 1 and set(has.get("dilations", [1, 1])) == {1}
    if not plain or not (depthwise or group == 1) or len(set(has.get("strides", [1, 1]))) > 1:
        raise UsageError("this kind of convolution has no gradient here")
    if kernel == 1 and stride == 1 and pads[0] == 0:
        turned = tape.emit("Transpose", weight, perm=[1, 0, 2, 3])
        return [(name, tape.emit("Conv", gradient, turned, kernel_shape=[1, 1]))]
    size, made = tape.shapes[name], tape.shapes[node.output[0]]
    if depthwise and tape.static and made[2:] == (1, 1) and size[2:] == w.shape[2:]:
        turned = tape.emit("Transpose", weight, perm=[1, 0, 2, 3])
        return [(name, tape.emit("Mul", gradient, turned))]
    if stride > 1 and not tape.static:
        raise UsageError("a strided convolution of free size has no gradient here")
    # The number of rows at the end that the forward pass skips; negative if it pads them.
    extra = size[2] + 2 * pads[0] - kernel - (made[2] - 1) * stride if tape.static else 0
    if not depthwise:
        attributes = {"kernel_shape": [kernel] * 2, "pads": pads, "strides": [stride] * 2}
        back = tape.emit(
            "ConvTranspose", gradient, weight, output_padding=[extra] * 2, **attributes
        )
        return [(name, back)]
    if stride > 1:  # a grouped ConvTranspose is slow, so zeros are inserted before a convolution
        _, _, height, width = made
        ends = np.zeros((height * stride, width * stride), np.float32)
        ends[::stride, ::stride] = 1
        larger = tape.constant(np.array([1, 1, stride, stride], np.float32))
        # A Pad of six axes, which would insert them too, is seven times as slow.
        repeated = tape.emit(
            "Resize",
            gradient,
            "",
            larger,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        gradient = tape.emit("Mul", repeated, tape.constant(ends))
        extra -= stride - 1
    start = kernel - 1 - pads[0]
    turn = (_ints(-1, -1), _ints(-kernel - 1, -kernel - 1), _ints(2, 3), _ints(-1, -1))
    flipped = tape.emit("Slice", weight, *map(tape.constant, turn))
    attributes = {"kernel_shape": [kernel] * 2, "pads": [start] * 2 + [start + extra] * 2}
    return [(name, tape.emit("Conv", gradient, flipped, group=group, **attributes))]


def _add(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    return [
        (name, _like(tape, name, node.output[0], gradient))
        for name in node.input
        if name not in tape.constants
    ]


def _sub(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    first, second = node.input
    pieces = []
    if first not in tape.constants:
        pieces.append((first, _like(tape, first, node.output[0], gradient)))
    if second not in tape.constants:
        back = tape.emit("Neg", gradient)
        pieces.append((second, _like(tape, second, node.output[0], back)))
    return pieces


def _mul(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    pairs = (tuple(node.input), tuple(reversed(node.input)))
    return [
        (name, _like(tape, name, node.output[0], tape.emit("Mul", gradient, other)))
        for name, other in pairs
        if name not in tape.constants and name not in tape.stepwise
    ]


def _div(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    if node.input[1] not in tape.constants:
        raise UsageError("a division by anything but a constant has no gradient here")
    return [(node.input[0], tape.emit("Div", gradient, node.input[1]))]


def _like(tape: _Tape, name: str, made: str, gradient: str) -> str:
    """Returns the gradient summed over the axes along which a value was broadcast."""
    axes = [
        axis
        for axis, (own, whole) in enumerate(zip(tape.shapes[name], tape.shapes[made], strict=True))
        if own == 1 and whole > 1
    ]
    if not axes:
        return gradient
    return tape.emit("ReduceSum", gradient, tape.constant(_ints(*axes)), keepdims=1)


def _rectified(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    """Differentiates Relu and LeakyRelu, whose output has the sign of their input."""
    slope = next((each.f for each in node.attribute if each.name == "alpha"), 0.01)
    slope = slope if node.op_type == "LeakyRelu" else 0.0
    positive = tape.emit("Greater", node.output[0], tape.number(0))
    factor = tape.emit("Where", positive, tape.number(1), tape.number(slope))
    return [(node.input[0], tape.emit("Mul", gradient, factor))]


def _clip(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    low, high = node.input[1:3]
    within = tape.emit(
        "And",
        tape.emit("Greater", node.output[0], low),
        tape.emit("Less", node.output[0], high),
    )
    factor = tape.emit("Cast", within, to=TensorProto.FLOAT)
    return [(node.input[0], tape.emit("Mul", gradient, factor))]


def _sigmoid(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    made = node.output[0]
    slope = tape.emit("Mul", made, tape.emit("Sub", tape.number(1), made))
    return [(node.input[0], tape.emit("Mul", gradient, slope))]


def _depth_to_space(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    has = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    block = has["blocksize"]
    back = tape.emit("SpaceToDepth", gradient, blocksize=block)
    if has.get("mode", b"DCR") == b"CRD":  # SpaceToDepth has only the other order of channels
        order = np.arange(tape.shapes[node.input[0]][1]).reshape(block, block, -1)
        back = tape.emit("Gather", back, tape.constant(order.transpose(2, 0, 1).ravel()), axis=1)
    return [(node.input[0], back)]


def _reversed(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    """Differentiates a Slice that reverses the channels. `_part` handles all other slices."""
    order = np.arange(tape.shapes[node.input[0]][1])[::-1].copy()
    return [(node.input[0], tape.emit("Gather", gradient, tape.constant(order), axis=1))]


def _mean(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    has = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if list(has.get("axes", [])) != [2, 3] or not has.get("keepdims", 1) or not tape.static:
        raise UsageError("this kind of mean has no gradient here")
    height, width = tape.shapes[node.input[0]][2:]
    share = tape.emit("Mul", gradient, tape.number(1 / (height * width)))
    whole = tape.constant(_ints(1, 1, height, width))
    return [(node.input[0], tape.emit("Expand", share, whole))]


def _resize(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    """Differentiates a bilinear Resize of half pixels, without anti-aliasing.

    The Resize is two products with one matrix.
    """
    has = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    known = has.get("mode") == b"linear" and not has.get("antialias", 0)
    if not known or has.get("coordinate_transformation_mode", b"half_pixel") != b"half_pixel":
        raise UsageError("this kind of resizing has no gradient here")
    (rows, columns), (high, wide) = (
        tape.shapes[each][2:] for each in (node.input[0], node.output[0])
    )
    if rows != columns or high != wide or not tape.static:
        raise UsageError("resizing of anything but a square has no gradient here")
    place = np.clip((np.arange(high) + 0.5) * rows / high - 0.5, 0, rows - 1)
    below = np.minimum(place.astype(int), rows - 2)
    matrix = np.zeros((high, rows), np.float32)
    matrix[np.arange(high), below] = 1 - (place - below)
    matrix[np.arange(high), below + 1] += place - below
    along = tape.constant(matrix)
    across = tape.emit("MatMul", gradient, along)
    back = tape.emit("MatMul", tape.emit("Transpose", along, perm=[1, 0]), across)
    return [(node.input[0], back)]


def _flatten(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    shape = tape.constant(_ints(-1, *tape.shapes[node.input[0]][1:]))
    return [(node.input[0], tape.emit("Reshape", gradient, shape))]


def _gemm(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    has = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if has.get("alpha", 1) != 1 or has.get("transA", 0) or not has.get("transB", 0):
        raise UsageError("this kind of matrix product has no gradient here")
    return [(node.input[0], tape.emit("MatMul", gradient, node.input[1]))]


def _cast(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    if helper.get_node_attr_value(node, "to") != TensorProto.FLOAT:
        raise UsageError("a conversion to anything but float32 has no gradient here")
    return [(node.input[0], gradient)]


def _identity(tape: _Tape, node: onnx.NodeProto, gradient: str) -> Pieces:
    return [(node.input[0], gradient)]


_RULES: dict[str, Rule] = {
    "Add": _add,
    "Cast": _cast,
    "Clip": _clip,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "Identity": _identity,
    "LeakyRelu": _rectified,
    "Mul": _mul,
    "ReduceMean": _mean,
    "Relu": _rectified,
    "Resize": _resize,
    "Sigmoid": _sigmoid,
    "Slice": _reversed,
    "Sub": _sub,
}


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _free(name: str, axes: int) -> onnx.ValueInfoProto:
    """Describes a value with so many axes, of any size."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * axes)


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> Bare:
    asked = {name for node in nodes for name in node.input}
    plain = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.doc_string = copy.name = ""
        plain.append(copy)
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(value), name)
        for name, value in sorted(constants.items())
        if name in asked
    ]
    graph = helper.make_graph(plain, "gradient", inputs, outputs, initializers)
    return bare(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    )


def bare(model: onnx.ModelProto) -> Bare:
    """Removes the large weights from a model, which it changes."""
    onnx.checker.check_model(model)
    weights = {}
    for each in model.graph.initializer:
        value = numpy_helper.to_array(each)
        if value.dtype != np.float32 or value.size < LARGE:
            continue
        weights[each.name] = value
    kept = [each for each in model.graph.initializer if each.name not in weights]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return Bare(np.frombuffer(model.SerializeToString(deterministic=True), np.uint8), weights)
