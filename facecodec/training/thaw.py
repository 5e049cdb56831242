"""Turns a frozen model back into the network's parameters, from which a run can start.

The weights are precise enough for training: graphs have them in half precision, and integer
networks in 15 bits. The scales of z are restored within half a step of their table.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from facecodec.container import QUALITY_STEPS
from facecodec.exact import FRACTION, GAIN_FRACTION, SCALE_STEPS
from facecodec.frozen import HeadFile
from facecodec.networks.head import HeadNetwork
from facecodec.networks.hyperprior import hyper_synthesis
from facecodec.networks.integers import SCALE_MIN, convolutions
from facecodec.networks.sliced import correction

HALF = ".half"  # the end of names of weights that networks/export.py stored in half precision


def thawed(family: str, tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Returns the parameters, by name, of a network of the family `hyperprior` or `sliced`.

    Raises ValueError for other families.
    """
    if family not in ("hyperprior", "sliced"):
        raise ValueError(f"a model of the family '{family}' cannot be trained on")
    latents, scales = tensors["y_log_gain"].shape[1], np.log2(SCALE_MIN)
    state = {
        name: value
        for graph in ("g_a", "h_a", "g_s")
        for name, value in _weights(f"{graph}.", _stored(tensors[f"{graph}.onnx"])).items()
    }
    with torch.device("meta"):  # without weights: only the places of convolutions are needed
        far = len(tensors["h_s.shifts"]) - len(convolutions(hyper_synthesis(1, 1, 1)))
        layers = convolutions(hyper_synthesis(1, 1, 1, far))
        correcting = convolutions(correction(1, 1, 1))
    state |= _convolutions("h_s", "h_s", layers, tensors)
    weight, bias = (state[f"h_s.{layers[-1]}.{part}"] for part in ("weight", "bias"))
    weight[:latents] /= SCALE_STEPS
    bias[:latents] = bias[:latents] / SCALE_STEPS + scales
    if len(bias) == 2 * latents:  # a model without a quality map gets one of zeros
        weight, bias = np.pad(weight, ((0, 1), (0, 0), (0, 0), (0, 0))), np.pad(bias, (0, 1))
        state |= {f"h_s.{layers[-1]}.weight": weight, f"h_s.{layers[-1]}.bias": bias}
    weight[-1] /= QUALITY_STEPS
    bias[-1] /= QUALITY_STEPS
    anchors = slice(None, None, QUALITY_STEPS)
    state["y_log_gain"] = tensors["y_log_gain"][anchors] / (SCALE_STEPS * 2.0**FRACTION)
    state["z_log_gain"] = GAIN_FRACTION - np.log2(tensors["z_inverse_gain"][anchors])
    state["z_log_scale"] = tensors["z_table"][anchors] / SCALE_STEPS + scales
    features = len(bias) - 2 * latents - 1
    for number, size in enumerate(tensors.get("slices", np.zeros(1))[1:]):
        name = f"predict.{number}"
        state |= _convolutions(name, f"slice{number + 1}", correcting, tensors)
        seen = state[f"{name}.0.weight"][:, features + 1 : features + 1 + size, 0, 0]
        seen *= SCALE_STEPS
        state[f"{name}.0.bias"] -= scales * seen.sum(1)
        for part in ("weight", "bias"):
            state[f"{name}.4.{part}"][:size] /= SCALE_STEPS
    return {name: torch.from_numpy(value).float() for name, value in state.items()}


def thawed_head(head: HeadFile) -> dict[str, Tensor]:
    """Returns the parameters of a head. Their names begin with "head.".

    The graph has folded each normalisation into the convolution before it. Here the convolution
    keeps both, and the normalisation becomes the identity.
    """
    stored = _stored(head.tensors["head.onnx"])
    state = _weights("", stored)
    joined = {
        int(name.rpartition("_")[2]): value
        for name, value in stored.items()
        if name.startswith("onnx::Conv")
    }
    values = iter([joined[number] for number in sorted(joined)])
    for name, layer in HeadNetwork(1).named_modules():
        if f"head.{name}.weight" in state:
            continue
        if isinstance(layer, nn.Conv2d):
            state[f"head.{name}.weight"] = next(values)
            if layer.bias is not None:
                state[f"head.{name}.bias"] = np.zeros(layer.out_channels)
        elif isinstance(layer, nn.BatchNorm2d):
            one = np.ones(layer.num_features)
            state[f"head.{name}.weight"], state[f"head.{name}.bias"] = one, next(values)
            state[f"head.{name}.running_mean"] = 0 * one
            state[f"head.{name}.running_var"] = one - layer.eps
            state[f"head.{name}.num_batches_tracked"] = np.zeros(())
    for part in ("weight", "bias"):
        if part in head.tensors:
            state[f"head.classes.{part}"] = head.tensors[part]
    return {name: torch.from_numpy(value).float() for name, value in state.items()}


def _stored(graph: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the constants of a graph, float64, by their names before they were halved.

    Of equal constants, such as two biases of zero, the exporter stores one. The others are its
    copies.
    """
    model = onnx.load_model_from_string(graph.tobytes()).graph
    stored = {
        each.name.removesuffix(HALF): numpy_helper.to_array(each).astype(np.float64)
        for each in model.initializer
    }
    for node in model.node:
        if node.op_type == "Identity" and node.input[0] in stored:
            stored[node.output[0]] = stored[node.input[0]].copy()
    return stored


def _weights(prefix: str, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the weights and biases among a graph's constants, with `prefix` before the names."""
    return {
        f"{prefix}{name}": value
        for name, value in stored.items()
        if name.endswith((".weight", ".bias"))
    }


def _convolutions(
    name: str, stored: str, layers: list[int], tensors: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the weights and biases of an integer network. `layers` are its convolutions."""
    state = {}
    for number, layer in enumerate(layers):
        shift = float(tensors[f"{stored}.shifts"][number])
        state[f"{name}.{layer}.weight"] = tensors[f"{stored}.{number}.weight"] * 2.0**-shift
        state[f"{name}.{layer}.bias"] = tensors[f"{stored}.{number}.bias"] * 2.0 ** -(
            shift + FRACTION
        )
    return state
