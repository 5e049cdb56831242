"""Recognition networks by name: torch modules to train against, ONNX files to measure with."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from facecodec.errors import UsageError
from facecodec.faces import cache_folder
from facecodec.faces.mobilefacenet import MobileFaceNet

# Networks whose gradient training may use. The unseen recogniser of the bench must never be among them.
TRAINABLE = {"mobilefacenet-ms1m": MobileFaceNet}


def recogniser_file(name: str, data: Path) -> Path:
    """The file NAME in $FACECODEC_RECOGNIZERS, in ../recognizers beside the data, or in the user's cache.

    Raises UsageError saying where it was looked for.
    """
    folders = [data.resolve().parent / "recognizers", cache_folder() / "recognizers"]
    if "FACECODEC_RECOGNIZERS" in os.environ:
        folders.insert(0, Path(os.environ["FACECODEC_RECOGNIZERS"]))
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"no recogniser {name} in {', '.join(map(str, folders))}: set FACECODEC_RECOGNIZERS"
    )


def load_trainable(name: str, data: Path) -> nn.Module:
    """A frozen torch module: crops (B, 3, 112, 112) in 0..1 -> embeddings (B, D). Raises UsageError.

    `name` is one of TRAINABLE, or PACKAGE.MODULE:FUNCTION of your own, called without arguments.
    """
    network = build_recogniser(name)
    if ":" in name:
        return _frozen(network)
    missing, unexpected = network.load_state_dict(
        load_file(recogniser_file(f"{name}.safetensors", data)), strict=False
    )
    if unexpected or any(not key.endswith("num_batches_tracked") for key in missing):
        raise UsageError(f"the parameters of recogniser '{name}' do not fit its network")
    return _frozen(network)


def build_recogniser(name: str) -> nn.Module:
    """The network of that name, as `load_trainable` takes it, with whatever parameters it begins with."""
    if ":" in name:
        return _imported(name)()
    if name not in TRAINABLE:
        raise UsageError(
            f"recogniser '{name}' is not one of {', '.join(TRAINABLE)}, nor MODULE:FUNCTION"
        )
    return TRAINABLE[name]()


def export_recogniser(network: nn.Module, path: Path) -> None:
    """Write a torch recogniser as the ONNX file that the bench takes: `image` 0..255 to `embedding`."""
    torch.onnx.export(
        nn.Sequential(_Scaled(), network.eval().to(memory_format=torch.contiguous_format)),
        (torch.zeros(2, 3, 112, 112),),
        path,
        input_names=["image"],
        output_names=["embedding"],
        dynamic_axes={"image": {0: "batch"}, "embedding": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


class _Scaled(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image / 255


def _imported(name: str) -> Callable[[], nn.Module]:
    module, function = name.split(":", 1)
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"recogniser '{name}': {error}") from None


def _frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
