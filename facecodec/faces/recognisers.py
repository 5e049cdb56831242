"""Recognition networks by name: torch modules to train against, ONNX files to measure with."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file
from torch import nn

from facecodec.errors import UsageError
from facecodec.faces.mobilefacenet import MobileFaceNet
from facecodec.folders import cache_folder, data_folder

# facenet-pytorch's InceptionResnetV1, by the data that its weights were trained on.
FACENET = {"facenet-vggface2": "vggface2", "facenet-casia-webface": "casia-webface"}
FACENET_SIDE = 160
# Networks whose gradient training may use. The unseen recogniser of the bench must never be among them.
TRAINABLE = {"mobilefacenet-ms1m": MobileFaceNet}


def recogniser_file(name: str, data: Path | None) -> Path:
    """The file NAME in $FACECODEC_RECOGNIZERS, in ../recognizers beside the data, or in the user's cache.

    `data` is the folder of datasets, see folders.data_folder. Raises UsageError saying where it was
    looked for.
    """
    folders = [data_folder(data).resolve().parent / "recognizers", cache_folder() / "recognizers"]
    if "FACECODEC_RECOGNIZERS" in os.environ:
        folders.insert(0, Path(os.environ["FACECODEC_RECOGNIZERS"]))
    folders = list(dict.fromkeys(folders))
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"no recogniser {name} in {', '.join(map(str, folders))}: set FACECODEC_RECOGNIZERS"
    )


def load_trainable(name: str, data: Path | None) -> nn.Module:
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


class Embedder:
    """An ONNX recogniser: `image` (B, 3, 112, 112) RGB 0..255, five-point aligned, -> `embedding` (B, D)."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a type of its own for each kind of damage
            raise UsageError(f"{path}: not a recogniser that loads: {error}") from None

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """(3, 112, 112) float32 in 0..255 -> unit vector (D,): the sum for the crop and its mirror image."""
        total = self._session.run(None, {"image": with_mirror(crop)})[0].sum(0)
        return total / np.linalg.norm(total)


class FacenetEmbedder:
    """InceptionResnetV1 of facenet-pytorch on the same aligned crops, enlarged to its 160 pixels.

    Its weights are downloaded at the first use. Raises UsageError where they cannot be.
    """

    def __init__(self, name: str) -> None:
        from facenet_pytorch import InceptionResnetV1

        try:
            self._network = InceptionResnetV1(pretrained=FACENET[name]).eval()
        except OSError as error:
            raise UsageError(f"the weights of {name} could not be downloaded: {error}") from None

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """As Embedder does."""
        import torch
        from torch.nn.functional import interpolate

        with torch.no_grad():
            both = (torch.from_numpy(with_mirror(crop)) - 127.5) / 128  # as its authors standardise
            total = (
                self._network(interpolate(both, FACENET_SIDE, mode="bilinear", antialias=True))
                .sum(0)
                .numpy()
            )
        return total / np.linalg.norm(total)


def with_mirror(crop: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.stack([crop, crop[..., ::-1]]))


def find_recogniser(name: str, data: Path | None) -> str:
    """What `load_embedder` takes, for a file (it ends in .onnx), a name of FACENET or that of a file without .onnx.

    Loads it once, so that what is wrong shows before work begins. Raises UsageError.
    """
    if name in FACENET:
        found = name
    else:
        found = str(Path(name) if name.endswith(".onnx") else recogniser_file(f"{name}.onnx", data))
    load_embedder(found)
    return found


def load_embedder(found: str) -> Embedder | FacenetEmbedder:
    return FacenetEmbedder(found) if found in FACENET else Embedder(Path(found))
