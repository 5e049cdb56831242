"""Frozen models: finds their files, and checks that each is what it says.

A model is one safetensors file. Its digest is a SHA-256 over everything decoding depends on, so
without ENCODER_ONLY tensors and metadata. A .fic file names its model by the fingerprint, the first
four bytes of the digest. That suffices against accidents, but a fingerprint can be forged, so
models of one fingerprint are compared by their digests.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from facecodec.errors import ModelError, UsageError
from facecodec.steps import packed, unpacked
from facecodec.tensors import GRAPH, Tensor, check
from facecodec.text import printable

DEFAULT_MODEL = "l2-ipr"
ENCODER_ONLY = ("g_a", "h_a")  # prefixes of tensors that only encoding needs
FORMAT = "facecodec-2"
TYPES = ("U8", "I16", "I32", "I64", "F16", "F32")  # safetensors' names of the types of tensors
HEADS = "heads"  # the folder of heads, beside the models
HEAD_FORMAT = "facecodec-head-1"


@dataclass(frozen=True)
class ModelCard:
    """A model's card, which can be read without its tensors.

    `rates` has q, bpp, psnr and more, measured on held-back people. `runs` are the training runs in
    order, and `steps` is the sum of their steps.
    """

    name: str
    path: Path
    fingerprint: str
    family: str
    objective: str
    distortion: str
    data: str
    steps: int
    rates: list[dict[str, float]]
    runs: list[dict[str, Any]] = field(default_factory=list)

    def stored(self) -> dict[str, Any]:
        """Returns what `save` takes, to write the model again."""
        names = ("family", "objective", "distortion", "data", "steps", "rates", "runs")
        return {name: getattr(self, name) for name in names}


def search_path() -> list[Path]:
    """Returns the folders of models: $FACECODEC_MODELS, the package's and the checkout's."""
    package = Path(__file__).resolve().parent
    extra = os.environ.get("FACECODEC_MODELS", "")
    folders = [Path(part) for part in extra.split(os.pathsep) if part]
    return [*folders, package / "weights", package.parent / "weights"]


def installed_models() -> dict[str, Path]:
    """Returns the file of every installed model by name. Earlier folders win."""
    found: dict[str, Path] = {}
    for folder in search_path():
        for path in sorted(folder.glob("*.safetensors")):
            found.setdefault(path.stem, path)
    return found


def model_path(name: str | os.PathLike[str] | None) -> Path:
    """Returns the file of a model given by name or path.

    Raises UsageError, which lists the installed models, for one that is not there.
    """
    name = os.fspath(DEFAULT_MODEL if name is None else name)
    if name.endswith(".safetensors") or os.sep in name:
        if not os.path.isfile(name):
            raise UsageError(f"no model file {name}")
        return Path(name)
    models = installed_models()
    if name in models:
        _refuse_shadow(models[name])
    else:
        from difflib import get_close_matches

        near = get_close_matches(name.lower(), models, 1)
        raise UsageError(
            f"no model '{name}'{f', did you mean {near[0]}' if near else ''}; {_listing()}"
        )
    return models[name]


def _refuse_shadow(path: Path) -> None:
    """Raises ModelError if a model hides a different one of the same name and fingerprint.

    A model may replace another of its name, but it may not pretend to be that other model.
    """
    for folder in search_path():
        other = folder / path.name
        if not other.exists() or other.samefile(path):
            continue
        try:
            if read_card(other).fingerprint != read_card(path).fingerprint:
                continue
            digests = {path: digest_of(path), other: digest_of(other)}
        except ModelError:
            continue  # a damaged file cannot be used at all
        refuse_forgery(digests)


def refuse_forgery(digests: dict[Path, str]) -> None:
    """Raises ModelError if models of one fingerprint have different digests."""
    (first, digest), *others = digests.items()
    for path, other in others:
        if other != digest:
            raise ModelError(
                f"{first} and {path} differ, but both have the fingerprint {digest[:8]}",
                "remove the one that you do not trust, or say which with {model}",
            )


def path_of_fingerprint(fingerprint: bytes) -> Path | None:
    """Returns the installed model with a fingerprint, or None.

    Raises ModelError if two different models have it, or if all that have it are damaged.
    """
    paths = list(_paths_of_fingerprint(fingerprint))
    if len(paths) < 2:
        return next(iter(paths), None)
    digests = {}
    for path in paths:
        try:
            digests[path] = digest_of(path)
        except ModelError as error:
            damaged = error  # another copy may be whole
    if not digests:
        raise damaged
    refuse_forgery(digests)
    return next(iter(digests))


def _paths_of_fingerprint(fingerprint: bytes) -> Iterator[Path]:
    """Yields the installed model files, of any name, whose card has this fingerprint."""
    for folder in search_path():
        for path in sorted(folder.glob("*.safetensors")):
            try:
                card = read_card(path)
            except ModelError:
                continue  # an undamaged model may still be found
            if card.fingerprint == fingerprint.hex():
                yield path


def not_installed(fingerprint: bytes) -> ModelError:
    return ModelError(
        f"made with model {fingerprint.hex()}, which is not installed; {_listing()}. "
        "Put its .safetensors file into a folder named by FACECODEC_MODELS"
    )


def _listing() -> str:
    return "installed: " + (", ".join(sorted(installed_models())) or "none")


def read_card(path: Path) -> ModelCard:
    """Returns the card of a model file. Raises ModelError if it is not one."""
    try:
        with safe_open(path, "numpy") as file:
            return _card(path, file.metadata())
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path}: not a model file that freeze has made ({printable(str(error))})"
        ) from None


def _card(path: Path, metadata: dict[str, str] | None) -> ModelCard:
    if not metadata or metadata.get("format") != FORMAT:
        raise ModelError(
            f"{path}: not a frozen facecodec model of format {FORMAT}: give one that freeze has made"
        )
    try:
        values: dict[str, Any] = json.loads(metadata["card"])
        card = ModelCard(name=path.stem, path=path, fingerprint=metadata["fingerprint"], **values)
        _check_card(card)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its card is malformed: {printable(str(error))}") from None
    return card


def _check_card(card: ModelCard) -> None:
    """Raises TypeError or ValueError for a card with malformed values."""
    for name in ("family", "objective", "distortion", "data"):
        if not isinstance(getattr(card, name), str) or not getattr(card, name).isprintable():
            raise TypeError(f"{name} is no text of one line")
    if not isinstance(card.steps, int) or not isinstance(card.runs, list):
        raise TypeError("steps or runs are not what they should be")
    if not isinstance(card.rates, list):
        raise TypeError("rates are no list")
    for row in card.rates:
        for value in (row["q"], row["bpp"], row["psnr"]):
            if not isinstance(value, float | int) or not abs(value) < 1e9:
                raise ValueError("a rate is no number")


def digest_of(path: Path) -> str:
    """Returns the digest of a model file. Raises ModelError."""
    card, tensors = load(path)
    return digest(card.family, tensors)


def load(path: Path) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Returns the card and the tensors, after checking the fingerprint. Raises ModelError."""
    metadata, stored = _read(path)
    card = _card(path, metadata)
    try:
        tensors = unpacked(stored)
    except ValueError as error:
        raise ModelError(f"{path}: malformed: {error}") from None
    if fingerprint(card.family, tensors) != card.fingerprint or encoder_hash(
        tensors
    ) != metadata.get("encoder"):
        raise ModelError(f"{path}: its fingerprint does not match its content: the file is damaged")
    return card, tensors


@dataclass(frozen=True)
class HeadFile:
    """The file of a model's head: `tensors` are its graph and the linear layer of `classes`.

    `space` is the recogniser whose embeddings it gives; `classes` are the people that it can tell
    apart. `certain` is the middle and the width of a logistic function, which turns the length of
    an embedding into the probability that there is a face; None if it was not measured. `runs` are
    the training runs of its model and its own.
    """

    space: str
    classes: list[str]
    runs: list[dict[str, Any]]
    certain: tuple[float, float] | None
    tensors: dict[str, np.ndarray]


def head_path(model: Path) -> Path:
    return model.parent / HEADS / model.name


def has_head(card: ModelCard) -> bool:
    """Returns whether a model has a head, so that files can be embedded without decoding."""
    return head_path(card.path).exists()


def load_head(card: ModelCard, or_former: bool = False) -> HeadFile:
    """Returns the head of a model; with `or_former`, even that of a former model of this name.

    Raises ModelError if there is none, or if it belongs to another model.
    """
    path = head_path(card.path)
    if not has_head(card):
        raise ModelError(
            f"model {card.name} has no head ({path}): decode the file and embed the picture"
        )
    model = None if or_former else card.fingerprint
    facts, tensors = load_beside(path, HEAD_FORMAT, "head", model)
    try:
        certain = facts.get("certain")
        if certain is not None:
            if not isinstance(certain, list):
                raise TypeError("its certainty is no list")
            middle, width = map(float, certain)
            certain = (middle, width)
        head = HeadFile(facts["space"], facts["classes"], facts["runs"], certain, tensors)
        _check_head(head)
        return head
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: the head is malformed: {error}") from None


def _check_head(head: HeadFile) -> None:
    """Raises TypeError or ValueError for a head with malformed values."""
    if not isinstance(head.space, str) or not isinstance(head.classes, list):
        raise TypeError("its space is no text, or its classes are no list")
    if not isinstance(head.runs, list):
        raise TypeError("its runs are no list")
    if head.certain is not None:
        middle, width = head.certain
        if not (math.isfinite(middle) and 0 < width < math.inf):
            raise ValueError("its certainty is no number and a width")
    expected = {"head.onnx": GRAPH}
    if head.classes or head.tensors.keys() & {"weight", "bias"}:
        expected |= {
            "weight": Tensor("float16", (len(head.classes), "D"), -65504, 65504),
            "bias": Tensor("float16", (len(head.classes),), -65504, 65504),
        }
    check(head.tensors, expected)


def load_beside(
    path: Path, form: str, kind: str, model: str | None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the card and the tensors of a file that lies beside a model.

    `model` is the model's fingerprint; None accepts any. Raises ModelError.
    """
    metadata, tensors = _read(path)
    try:
        facts = json.loads(metadata["card"])
        mark = _short(_hash(kind, tensors, list(tensors)))
        if metadata["format"] != form or metadata["hash"] != mark:
            raise ModelError(f"{path}: not a {kind}, or a damaged one")
        if model is not None and metadata["model"] != model:
            other = printable(metadata["model"])
            raise ModelError(f"{path}: the {kind} of model {other}, not of {model}")
        if not isinstance(facts, dict):
            raise TypeError("its card is no table")
        return facts, tensors
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the {kind} is malformed: {printable(str(error))}") from None


def _read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Returns metadata and tensors of a file that freeze has made. Raises ModelError."""
    try:
        with safe_open(path, "numpy") as file:
            names = list(file.keys())
            for name in names:  # NumPy lacks some types, so they are refused before it fails
                kind = file.get_slice(name).get_dtype()
                if kind not in TYPES:
                    raise ModelError(
                        f"{path}: tensor {printable(name)} is of type {kind}, which no model has"
                    )
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path}: not a model file that freeze has made ({printable(str(error))})"
        ) from None


def fingerprint(family: str, tensors: dict[str, np.ndarray]) -> str:
    """Returns the first eight digits of the digest."""
    return _short(digest(family, tensors))


def digest(family: str, tensors: dict[str, np.ndarray]) -> str:
    """Returns the SHA-256 of what decoding depends on: the family, and tensors by name."""
    return _hash(family, tensors, [name for name in tensors if not name.startswith(ENCODER_ONLY)])


def encoder_hash(tensors: dict[str, np.ndarray]) -> str:
    """Returns the digest of the tensors that only encoding needs, which shows damage to them."""
    names = [name for name in tensors if name.startswith(ENCODER_ONLY)]
    return _short(_hash("encoder", tensors, names))


def _short(digest: str) -> str:
    return digest[:8]


def _hash(start: str, tensors: dict[str, np.ndarray], names: list[str]) -> str:
    digest = hashlib.sha256(start.encode())
    for name in sorted(names):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"\0{name}\0{tensor.dtype.newbyteorder('<').str}\0{tensor.shape}\0".encode())
        digest.update(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def save(path: Path, card: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """Writes a model file, whole or not at all, and returns its fingerprint.

    `card` has the fields of ModelCard except name, path and fingerprint.
    """
    mark = fingerprint(card["family"], tensors)
    metadata = {
        "format": FORMAT,
        "fingerprint": mark,
        "encoder": encoder_hash(tensors),
        "card": json.dumps(card),
    }
    _write(path, packed(tensors), metadata)
    return mark


def save_head(path: Path, model: str, card: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Writes the head of the model whose fingerprint is `model`, whole or not at all.

    `card` has `space`, `classes` and `runs`, and `certain` once it is known when the head is sure.
    """
    save_beside(path, HEAD_FORMAT, "head", model, card, tensors)


def save_beside(
    path: Path,
    form: str,
    kind: str,
    model: str,
    card: dict[str, Any],
    tensors: dict[str, np.ndarray],
) -> None:
    """Writes a file that belongs to the model whose fingerprint is `model`, whole or not at all."""
    mark = _short(_hash(kind, tensors, list(tensors)))
    metadata = {"format": form, "model": model, "hash": mark, "card": json.dumps(card)}
    _write(path, tensors, metadata)


def _write(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(serialised(tensors, metadata))
    os.replace(partial, path)


def serialised(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Returns a safetensors file. Equal tensors and metadata give the same bytes.

    The library writes the metadata in a random order, so they are put in order here.
    """
    import safetensors.numpy

    content = safetensors.numpy.save(tensors, metadata)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + content[start:]
