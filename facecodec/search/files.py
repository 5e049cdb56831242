"""Search files: gradient graphs, and the places of their weights.

A model's search file is in the folder `search` beside it; the file for faces serves all models.
Weights that the model, or a recogniser beside it, already contains are not stored again: the search
file says where each weight is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from facecodec import frozen
from facecodec.errors import ModelError
from facecodec.frozen import ModelCard
from facecodec.search.graphs import Graph, Transform
from facecodec.tensors import GRAPH, check
from facecodec.text import printable

FOLDER = "search"  # beside models
FORMAT = "facecodec-search-1"
KIND = "search file"
FACES = "faces.safetensors"
OWN = "weights"  # the tensor with the weights that are in no other file
TYPES = ("int8", "int16", "float16", "float32")
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Place:
    """Where a weight is: numbers of a `type` and a `shape`, from byte `at` of a `source` on.

    They are multiplied by `scale`. If `scales` is given, they are also multiplied by one float32
    per output channel, which are from that byte of the same source on.
    """

    source: str
    at: int
    type: str
    shape: tuple[int, ...]
    scale: float = 1.0
    scales: int | None = None

    def read(self, sources: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the weight as float32.

        Raises KeyError, TypeError or ValueError if it is not there.
        """
        if self.type not in TYPES or min(self.shape) < 1 or self.at < 0:
            raise ValueError("a weight's place is malformed")
        there = sources[self.source].reshape(-1).view(np.uint8)
        values = np.frombuffer(there, self.type, math.prod(self.shape), self.at)
        weight = values.reshape(self.shape).astype(np.float32) * np.float32(self.scale)
        if self.scales is not None:
            each = np.frombuffer(there, np.float32, self.shape[0], self.scales)
            weight *= each.reshape(-1, *[1] * (len(self.shape) - 1))
        return weight


Places = dict[str, dict[str, Place]]  # by graph and weight


class Graphs:
    """The graphs of a search file.

    Raises KeyError, TypeError or ValueError for malformed `facts`.
    """

    def __init__(
        self,
        path: Path,
        facts: dict[str, Any],
        tensors: dict[str, np.ndarray],
        sources: Mapping[str, np.ndarray],
    ) -> None:
        self._path, self._tensors, self._sources = path, tensors, {**sources, **tensors}
        self._places = {
            str(graph): {
                str(name): Place(**place | {"shape": tuple(place["shape"])})
                for name, place in weights.items()
            }
            for graph, weights in facts["weights"].items()
        }

    @property
    def names(self) -> Iterable[str]:
        return self._places

    def open(self, name: str) -> Graph:
        """Returns a graph by name. Raises ModelError if it is not there or does not load."""
        if name not in self._tensors or name not in self._places:
            raise ModelError(f"{self._path}: it has no graph {name}")
        try:
            places = self._places[name].items()
            weights = {weight: place.read(self._sources) for weight, place in places}
            return Graph(self._tensors[name], weights)
        except (*MALFORMED, ModelError) as error:
            raise ModelError(f"{self._path}: {name}: {printable(str(error))}") from None

    def transform(self, name: str) -> Transform:
        """Returns the transform of a name, from its forward and its backward graph.

        Raises ModelError.
        """
        return Transform(self.open(f"{name}.forward.onnx"), self.open(f"{name}.backward.onnx"))


@dataclass(frozen=True)
class SearchFile:
    """The search file of a model.

    In the loss of the model's training, `rate_weights` are the weights of a bit per pixel at q 1
    and q 8, `pixels` is the weight of the mean squared error, and `averages` that of averages over
    areas of 16x16 pixels.
    """

    rate_weights: tuple[float, float]
    pixels: float
    averages: float
    graphs: Graphs


@dataclass(frozen=True)
class FacesFile:
    """The file for faces: graphs that find and compare them, and the names of recognisers."""

    recognisers: list[str]
    graphs: Graphs


def search_file(model: Path) -> Path:
    """Returns the path of a model's search file, which need not exist."""
    return model.parent / FOLDER / model.name


def save(
    path: Path,
    model: str,
    facts: dict[str, Any],
    tensors: dict[str, np.ndarray],
    places: Places,
) -> None:
    """Writes a search file. `model` is the model's fingerprint, or '' for the file for faces."""
    listed = {graph: {n: asdict(p) for n, p in each.items()} for graph, each in places.items()}
    frozen.save_beside(path, FORMAT, KIND, model, facts | {"weights": listed}, tensors)


def load_search(card: ModelCard, model: Mapping[str, np.ndarray]) -> SearchFile:
    """Returns the search file of a model. `model` are its tensors.

    Raises ModelError, which names the file.
    """
    path = search_file(card.path)
    facts, tensors = _load(path, card.fingerprint)
    try:
        low, high = (float(each) for each in facts["rate_weights"])
        graphs = Graphs(path, facts, tensors, model)
        pixels, averages = float(facts["pixels"]), float(facts["averages"])
        weights = (pixels, averages)
        if not (0 < low < np.inf and 0 < high < np.inf and all(0 <= w < np.inf for w in weights)):
            raise ValueError("a weight is out of range")
        return SearchFile((low, high), pixels, averages, graphs)
    except MALFORMED as error:
        raise _malformed(path, error) from None


def faces_file(model: Path) -> Path:
    """Returns where the file for faces is: beside a model's search file, or an installed model's.

    If it is nowhere, returns where it should be.
    """
    beside = [folder / FOLDER / FACES for folder in _folders(model)]
    return next((each for each in beside if each.exists()), beside[0])


def _folders(model: Path) -> list[Path]:
    return [model.parent, *frozen.search_path()]


def load_faces(card: ModelCard) -> FacesFile:
    """Returns the file for faces of a model. Raises ModelError, which names the file."""
    folders, path = _folders(card.path), faces_file(card.path)
    facts, tensors = _load(path, "")
    try:
        recognisers = [str(name) for name in facts["recognisers"]]
        sources = {
            str(name): _other_file(folders, str(name), digest)
            for name, digest in facts["files"].items()
        }
        return FacesFile(recognisers, Graphs(path, facts, tensors, sources))
    except MALFORMED as error:
        raise _malformed(path, error) from None


def _other_file(folders: list[Path], name: str, digest: str) -> np.ndarray:
    """Returns the bytes of the file `name` in the first folder where it has this SHA-256.

    Raises ModelError, and ValueError for a name that leads out of the folders.
    """
    given = PurePosixPath(name)
    if given.is_absolute() or ".." in given.parts or not name.isprintable():
        raise ValueError(f"{name} is no file beside a model")
    for folder in folders:
        path = folder / name
        if path.is_file():
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == digest:
                return np.frombuffer(content, np.uint8)
    raise ModelError(
        f"an effort above 1 needs {folders[0] / name}, which is missing or differs: use effort 1"
    )


def _load(path: Path, model: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.exists():
        raise ModelError(f"an effort above 1 needs {path}, which is not there: use effort 1")
    facts, tensors = frozen.load_beside(path, FORMAT, KIND, model)
    try:
        check(tensors, dict.fromkeys(tensors, GRAPH))
    except ValueError as error:
        raise _malformed(path, error) from None
    return facts, tensors


def _malformed(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path}: the search file is malformed: {printable(str(error))}")
