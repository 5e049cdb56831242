"""Turns recognisers' ONNX files into differentiable torch modules."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
import torch
from torch import Tensor, nn

from facecodec.errors import UsageError
from facecodec.faces.mobilefacenet import MobileFaceNet
from facecodec.faces.recognisers import Contract, read_contract, recogniser_file, recogniser_folders

if TYPE_CHECKING:
    import onnx

HEAD_SPACE = "mobilefacenet-ms1m"  # heads are built from its layers and give its embeddings
# These recognisers judge (docs/bench.md), so no model may be trained against them.
NEVER_TAUGHT = ("mobileface-v2", "edgeface-xs")


class Teacher(nn.Module):
    """Turns RGB crops (B, 3, size, size) in 0..1 into embeddings (B, D).

    Crops are aligned to the contract's template.
    """

    def __init__(self, network: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.network = network
        self.contract = contract

    def forward(self, crops: Tensor) -> Tensor:
        low, high = self.contract.range
        crops = crops if self.contract.channels == "rgb" else crops.flip(1)
        return self.network(crops * (high - low) + low)

    def layer(self, name: str) -> nn.Module:
        """Returns the layer made from the ONNX node `name`. Raises UsageError if there is none."""
        try:
            return self.network.get_submodule(name.strip("/").replace(".", "/"))
        except AttributeError:
            raise UsageError(f"the recogniser has no layer '{name}'") from None


def load_teacher(name: str, data: Path | None) -> Teacher:
    """Returns a frozen teacher by name or file, in evaluation mode. Raises UsageError.

    onnx2torch makes its modules; the slopes of PRelu get no gradient.
    """
    if Path(name).stem in NEVER_TAUGHT:
        raise UsageError(
            f"recogniser '{name}' judges the models, so none may be trained against it"
        )
    from onnx2torch import convert

    path = recogniser_file(name, data)
    try:
        network = _with_frozen_slopes(convert(_simplified(path)))
    except Exception as error:  # each kind of unsuitable file raises another type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path}: not a recogniser to train against: {reason}") from None
    teacher = Teacher(network, read_contract(path))
    return teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _simplified(path: Path) -> onnx.ModelProto:
    """Returns the ONNX model with constants folded, and added constants made convolutions' biases.

    onnx2torch refuses Casts of weights, and folding saves time in each step.
    """
    import onnx

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        simpler = Path(folder) / path.name
        options.optimized_model_filepath = str(simpler)
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return onnx.load(simpler)


class FrozenPReLU(torch.autograd.Function):
    """PReLU of x (B, C, ...) by frozen slopes (C,) or (1,).

    torch's own also computes the slopes' gradient, which triples the time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(x, slopes)
        return torch.prelu(x, slopes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, slopes = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(gradient, x, 0)
        return torch.lerp(above, gradient, slopes.view(-1, *[1] * (x.dim() - 2))), None


class _PReLU(nn.Module):
    """Replaces onnx2torch's module of a PRelu if there is a slope for each channel."""

    def __init__(self, general: nn.Module) -> None:
        super().__init__()
        self._general = general

    def forward(self, x: Tensor, slopes: Tensor) -> Tensor:
        if slopes.numel() in (1, slopes.shape[0]) and slopes.shape[0] in (1, x.shape[1]):
            return FrozenPReLU.apply(x, slopes.view(-1))
        return self._general(x, slopes)


def _with_frozen_slopes(network: nn.Module) -> nn.Module:
    from onnx2torch.node_converters.activations import OnnxPReLU

    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, OnnxPReLU):
                setattr(parent, name, _PReLU(module))
    return network


def load_head_teacher(data: Path | None) -> MobileFaceNet:
    """Returns HEAD_SPACE, frozen, with the layers from which a head is built.

    Its parameters are in NAME.safetensors beside the ONNX file. There, normalisations are separate
    layers; in the ONNX file they are folded into the convolutions. Raises UsageError.
    """
    from safetensors.torch import load_file

    folders = recogniser_folders(data)
    places = [folder / f"{HEAD_SPACE}.safetensors" for folder in folders]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UsageError(
            f"no {HEAD_SPACE}.safetensors, from which a head is built, in "
            f"{', '.join(map(str, folders))}: set FACECODEC_RECOGNISERS"
        )
    network = MobileFaceNet()
    missing, unexpected = network.load_state_dict(load_file(path), strict=False)
    if unexpected or any(not key.endswith("num_batches_tracked") for key in missing):
        raise UsageError(f"{path}: these are parameters of another network")
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def export_teacher(teacher: Teacher, path: Path) -> None:
    """Writes a teacher that was trained with the codec as an ONNX file of the default contract."""
    torch.onnx.export(
        _Default(teacher.eval().to(memory_format=torch.contiguous_format)),
        (torch.zeros(2, 3, 112, 112),),
        path,
        input_names=["image"],
        output_names=["embedding"],
        dynamic_axes={"image": {0: "batch"}, "embedding": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


class _Default(nn.Module):
    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, image: Tensor) -> Tensor:
        return self.teacher(image / 255)
