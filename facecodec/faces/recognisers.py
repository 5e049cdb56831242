"""Recognisers: ONNX files. A TOML file beside each states its contract.

Recognisers that teach, recognisers that judge, and a user's own all work alike. CONTRIBUTING.md
lists the keys of the TOML file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from facecodec.errors import UsageError
from facecodec.folders import cache_folder, data_folder
from facecodec.frozen import search_path
from facecodec.template import SIZE, TEMPLATE, scale_of, similarity
from facecodec.text import printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# facenet-pytorch's InceptionResnetV1: the training data of each of its weights.
FACENET = {"facenet-vggface2": "vggface2", "facenet-casia-webface": "casia-webface"}
FACENET_SIDE = 160
POINTS = 5  # of a template
MAX_SIZE = 1024  # pixels along a side of a crop
LARGEST = 16.0  # the largest factor between a template's face and ArcFace's, either way


@dataclass(frozen=True)
class Contract:
    """The input that a recogniser requires. A file without a TOML file has the defaults.

    `size` is the crop's side in pixels, `channels` the order of channels, `range` the values of
    black and white. `template` has the five points (x, y), in pixels of the crop, to which the
    landmarks are aligned; by default they are ArcFace's, scaled to `size`. With `mirrored`, an
    embedding is the sum of the crop's and its mirror image's. `metric` compares embeddings.
    """

    size: int = 112
    channels: str = "rgb"
    range: tuple[float, float] = (0.0, 255.0)
    template: tuple[tuple[float, float], ...] = ()
    mirrored: bool = True
    metric: str = "cosine"
    licence: str = ""
    source: str = ""

    def turn(self) -> np.ndarray:
        """Returns the similarity transform (2, 3) from ArcFace's template to this template.

        Both are in a crop scaled to 112 pixels. Raises LinAlgError if there is none.
        """
        return similarity(TEMPLATE, (np.array(self.template) + 0.5) * SIZE / self.size - 0.5)

    def departures(self) -> list[str]:
        """Returns the values that change embeddings and are not defaults, for a cache key."""
        plain, text = Contract(), ("licence", "source")
        return [
            f"{f.name} {getattr(self, f.name)}"
            for f in fields(self)
            if f.name not in text and getattr(self, f.name) != getattr(plain, f.name)
        ]


def read_contract(file: Path) -> Contract:
    """Returns the contract of an ONNX file.

    Raises UsageError, in one line that names the wrong key of its TOML file.
    """
    path = file.with_suffix(".toml")
    if not path.is_file():
        return Contract()
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a TOML file: {printable(str(error))}") from None
    known = [f.name for f in fields(Contract)]
    for key in values:
        if key not in known:
            raise UsageError(f"{path}: unknown key '{printable(key)}'; known: {', '.join(known)}")
        is_valid, rule = RULES[key]
        if not is_valid(values[key]):
            raise UsageError(f"{path}: {key} {rule}")
    if "range" in values:
        values["range"] = tuple(map(float, values["range"]))
    if "template" in values:
        values["template"] = tuple((float(x), float(y)) for x, y in values["template"])
    contract = Contract(**values)
    if contract.template and not _lies_on_a_face(contract):
        raise UsageError(
            f"{path}: template is not five points of a face in a crop of {contract.size} pixels"
        )
    return contract


def _is_pair(value: object, most: float) -> bool:
    """Returns whether a value is two numbers from -most to most."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(each) in (int, float) and abs(each) <= most for each in value)
    )


def _is_line(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 1000 and value.isprintable()


# What each key's value must be: a test, and the rule in words.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "size": (
        lambda value: type(value) is int and 8 <= value <= MAX_SIZE,
        f"must be a number of pixels from 8 to {MAX_SIZE}",
    ),
    "channels": (lambda value: value in ("rgb", "bgr"), "must be 'rgb' or 'bgr'"),
    "range": (
        lambda value: _is_pair(value, 65536) and value[0] != value[1],
        "must have two different numbers, from -65536 to 65536",
    ),
    "template": (
        lambda value: (
            isinstance(value, list)
            and len(value) in (0, POINTS)
            and all(_is_pair(each, 2 * MAX_SIZE) for each in value)
        ),
        f"must have five points (x, y), of numbers from {-2 * MAX_SIZE} to {2 * MAX_SIZE}",
    ),
    "mirrored": (lambda value: type(value) is bool, "must be true or false"),
    "metric": (
        lambda value: value == "cosine",
        "must be 'cosine'; Euclidean distances of unit vectors rank alike",
    ),
    "licence": (_is_line, "must be one line of text"),
    "source": (_is_line, "must be one line of text"),
}


def _lies_on_a_face(contract: Contract) -> bool:
    """Returns whether a template is ArcFace's, apart from a rotation and a plausible scale."""
    try:
        return 1 / LARGEST < scale_of(contract.turn()) < LARGEST
    except np.linalg.LinAlgError:  # all five points are the same
        return False


class Recogniser:
    """An ONNX recogniser, without gradients. Raises UsageError for a file that does not load."""

    def __init__(self, path: Path) -> None:
        self.contract = read_contract(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a type of its own for each kind of damage
            raise UsageError(f"{path}: the recogniser does not load: {error}") from None
        taken = self._session.get_inputs()[0]
        wanted = (3, self.contract.size, self.contract.size)
        if len(taken.shape) != 4 or any(
            isinstance(side, int) and side != size
            for side, size in zip(taken.shape[1:], wanted, strict=True)
        ):
            shape = ", ".join(map(str, taken.shape))
            raise UsageError(
                f"{path}: takes ({shape}), not crops (B, {', '.join(map(str, wanted))}): "
                f"state its size in {path.with_suffix('.toml').name}, or export it so"
            )
        self._input = taken.name
        self._batch = taken.shape[0] if isinstance(taken.shape[0], int) else None  # None: any

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """Returns the unit vector (D,) of a crop (3, size, size), RGB float32 in 0..255.

        The crop is aligned to the contract's template; see alignment.crop.
        """
        low, high = self.contract.range
        image = crop if self.contract.channels == "rgb" else crop[::-1]
        image = image * np.float32((high - low) / 255) + np.float32(low)
        images = with_mirror(image) if self.contract.mirrored else image[None]
        batch = self._batch or len(images)
        filled = np.concatenate([images, np.repeat(images[-1:], -len(images) % batch, 0)])
        found = [
            self._session.run(None, {self._input: filled[start : start + batch]})[0]
            for start in range(0, len(filled), batch)
        ]
        total = np.concatenate(found)[: len(images)].sum(0)
        return total / np.linalg.norm(total)


class FacenetRecogniser:
    """InceptionResnetV1 of facenet-pytorch, on crops of the default contract.

    Crops are enlarged to its 160 pixels. Its weights are downloaded at the first use. Raises
    UsageError if the download fails.
    """

    contract = Contract()

    def __init__(self, name: str) -> None:
        from facenet_pytorch import InceptionResnetV1

        try:
            self._network = InceptionResnetV1(pretrained=FACENET[name]).eval()
        except OSError as error:
            raise UsageError(f"the weights of {name} could not be downloaded: {error}") from None

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """Returns the unit vector (D,) of a crop, as Recogniser does."""
        import torch
        from torch.nn.functional import interpolate

        with torch.no_grad():
            both = (torch.from_numpy(with_mirror(crop)) - 127.5) / 128  # facenet-pytorch's scaling
            total = (
                self._network(interpolate(both, FACENET_SIDE, mode="bilinear", antialias=True))
                .sum(0)
                .numpy()
            )
        return total / np.linalg.norm(total)


def with_mirror(crop: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.stack([crop, crop[..., ::-1]]))


def recogniser_folders(data: Path | None) -> list[Path]:
    """Returns the folders in which recognisers are searched for; the first match counts.

    They are $FACECODEC_RECOGNISERS, `recognizers` beside the data, `recognisers` in the user's
    cache, and the package's own. `data` is the folder of datasets (folders.data_folder).
    """
    folders = [data_folder(data).resolve().parent / "recognizers", cache_folder() / "recognisers"]
    if "FACECODEC_RECOGNISERS" in os.environ:
        folders.insert(0, Path(os.environ["FACECODEC_RECOGNISERS"]))
    folders += [folder / "recognisers" for folder in search_path()]
    return list(dict.fromkeys(folders))


def recogniser_file(name: str, data: Path | None) -> Path:
    """Returns the file of a recogniser, given by its name or by the path of NAME.onnx.

    Raises UsageError, which lists the folders searched, if there is none.
    """
    if name.endswith(".onnx"):
        return Path(name)
    folders = recogniser_folders(data)
    for folder in folders:
        if (folder / f"{name}.onnx").is_file():
            return folder / f"{name}.onnx"
    raise UsageError(
        f"no recogniser {name}.onnx in {', '.join(map(str, folders))}: give a file or set "
        "FACECODEC_RECOGNISERS"
    )


def find_recogniser(name: str, data: Path | None) -> str:
    """Returns the argument of `load_recogniser` for a name, a file NAME.onnx, or a name of FACENET.

    Loads the recogniser once, so that errors show before work begins. Raises UsageError.
    """
    found = name if name in FACENET else str(recogniser_file(name, data))
    load_recogniser(found)
    return found


def load_recogniser(found: str) -> Recogniser | FacenetRecogniser:
    """Returns the recogniser that `find_recogniser` found."""
    return FacenetRecogniser(found) if found in FACENET else Recogniser(Path(found))
