"""Recognisers as torch modules whose gradient reaches the image, made from their ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from facecodec.errors import UsageError
from facecodec.faces.mobilefacenet import MobileFaceNet
from facecodec.faces.recognisers import Contract, read_contract, recogniser_file, recogniser_folders

if TYPE_CHECKING:
    import onnx

HEAD_SPACE = "mobilefacenet-ms1m"  # whose layers a head is built of, and whose embeddings it gives
# The training of the models never sees these, so that they can judge (docs/bench.md).
NEVER_TAUGHT = ("mobileface-v2", "edgeface-xs")


class Teacher(nn.Module):
    """RGB crops (B, 3, size, size) in 0..1, by the contract's template, -> embeddings (B, D)."""

    def __init__(self, network: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.network = network
        self.contract = contract

    def forward(self, crops: Tensor) -> Tensor:
        low, high = self.contract.range
        crops = crops if self.contract.channels == "rgb" else crops.flip(1)
        return self.network(crops * (high - low) + low)

    def layer(self, name: str) -> nn.Module:
        """The layer of an ONNX node's name. Raises UsageError for one that is not there."""
        try:
            return self.network.get_submodule(name.strip("/").replace(".", "/"))
        except AttributeError:
            raise UsageError(f"the recogniser has no layer '{name}'") from None


def load_teacher(name: str, data: Path | None) -> Teacher:
    """A frozen teacher by name or file, in evaluation mode. Raises UsageError.

    Its gradients are those of onnx2torch's modules; constants in half precision become single.
    """
    if Path(name).stem in NEVER_TAUGHT:
        raise UsageError(
            f"recogniser '{name}' judges and never teaches: nothing is trained against it"
        )
    import onnx
    from onnx2torch import convert

    path = recogniser_file(name, data)
    try:
        network = convert(_single(onnx.load(path)))
    except (
        Exception
    ) as error:  # each kind of file that cannot be converted raises a type of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path}: not a recogniser to train against: {reason}") from None
    teacher = Teacher(network, read_contract(path))
    return teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _single(model: onnx.ModelProto) -> onnx.ModelProto:
    """The ONNX model with each Cast of a constant done, which onnx2torch asks for."""
    import numpy as np
    from onnx import numpy_helper

    constants = {each.name: each for each in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Cast" and node.input[0] in constants:
            value = numpy_helper.to_array(constants[node.input[0]]).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
            model.graph.node.remove(node)
    used = {name for node in model.graph.node for name in node.input}
    for each in list(model.graph.initializer):
        if each.name not in used:
            model.graph.initializer.remove(each)
    return model


def load_head_teacher(data: Path | None) -> MobileFaceNet:
    """HEAD_SPACE as the layers that a head is built of, frozen.

    Its parameters lie in NAME.safetensors beside the ONNX file, in which normalisations are parts
    of the convolutions before them and no layers any more.
    """
    from safetensors.torch import load_file

    folders = recogniser_folders(data)
    places = [folder / f"{HEAD_SPACE}.safetensors" for folder in folders]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UsageError(
            f"no {HEAD_SPACE}.safetensors, of which a head is built, in "
            f"{', '.join(map(str, folders))}: set FACECODEC_RECOGNIZERS"
        )
    network = MobileFaceNet()
    missing, unexpected = network.load_state_dict(load_file(path), strict=False)
    if unexpected or any(not key.endswith("num_batches_tracked") for key in missing):
        raise UsageError(f"{path}: parameters of another network")
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def export_teacher(teacher: Teacher, path: Path) -> None:
    """Write a teacher that was trained along as an ONNX file by the default contract."""
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
