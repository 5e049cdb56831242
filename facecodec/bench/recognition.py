"""Recognition networks to measure with, and the identification protocol of Xiao et al. (2022), section 4.2.2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from facecodec.errors import UsageError
from facecodec.faces.recognisers import recogniser_file

MIN_QUERIES = 500
FAR = 0.01
# facenet-pytorch's InceptionResnetV1, by the data that its weights were trained on.
FACENET = {"facenet-vggface2": "vggface2", "facenet-casia-webface": "casia-webface"}
FACENET_SIDE = 160


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


def find_recogniser(name: str, data: Path) -> str:
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


def galleries(people: Sequence[str], size: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Indices of gallery images and of queries: each person's first `size` images, and every later one."""
    seen: dict[str, int] = {}
    is_gallery = np.zeros(len(people), bool)
    for index, person in enumerate(people):
        seen[person] = seen.get(person, 0) + 1
        is_gallery[index] = seen[person] <= size
    return np.flatnonzero(is_gallery), np.flatnonzero(~is_gallery)


def distances(
    embeddings: np.ndarray, people: Sequence[str], size: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distances of each query to its own gallery, and to the nearest other person's.

    `embeddings` (N, D), unit vectors, in the order of file names; a person's first `size` images are the
    gallery, the nearest of which counts, every later one a query. Where an embedding is NaN, no face was
    found: such an image is infinitely far from every other.
    """
    gallery, queries = galleries(people, size)
    distance = np.nan_to_num(1 - embeddings[queries] @ embeddings[gallery].T, nan=np.inf)
    names = np.array(people)
    own = names[queries][:, None] == names[gallery]
    return np.where(own, distance, np.inf).min(1), np.where(own, np.inf, distance).min(1)


def frr_at_far(
    same: np.ndarray, other: np.ndarray, far: float = FAR, least: int = MIN_QUERIES
) -> float:
    """Share of `same` distances that are not below the threshold which `far` of the `other` distances pass.

    Raises UsageError for fewer than `least` queries.
    """
    if len(other) < least:
        raise UsageError(
            f"{len(other)} queries are too few for FRR at FAR {far:.0%}: at least {least}"
        )
    return float((same >= threshold_at_far(other, far)).mean())


def threshold_at_far(other: np.ndarray, far: float = FAR) -> float:
    """The distance below which `far` of the distances to somebody else lie."""
    return float(np.sort(other)[math.floor(far * len(other))])


def roc(same: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FAR and FRR at every threshold that changes one of them, FAR rising: two arrays of one length."""
    thresholds = np.unique(np.concatenate([same, other]))
    far = np.searchsorted(np.sort(other), thresholds) / len(other)
    frr = 1 - np.searchsorted(np.sort(same), thresholds) / len(same)
    return far, frr


def verification(distances: np.ndarray, same: np.ndarray, fold: np.ndarray) -> list[float]:
    """Accuracy on each fold of pairs with the threshold that is best on the others (LFW's protocol).

    Of each pair (P,): its distance, whether it is of one person, and its fold.
    """
    accuracies = []
    for number in np.unique(fold):
        ours = fold == number
        candidates = np.append(np.unique(distances[~ours]), np.inf)  # accepted is what lies below
        accepted = np.sort(distances[~ours & same])
        wrong = np.sort(distances[~ours & ~same])
        right = (
            np.searchsorted(accepted, candidates) + len(wrong) - np.searchsorted(wrong, candidates)
        )
        threshold = candidates[np.argmax(right)]
        accuracies.append(float(((distances[ours] < threshold) == same[ours]).mean()))
    return accuracies
