"""Measures embeddings of faces of every size: the certainty, and how well they separate people.

    python benchmarks/face_sizes.py --calibrate [--model NAME]     writes into the head
    python benchmarks/face_sizes.py [--model NAME] [-q Q] [--limit N]

The first command uses training people, the second test people. The photographs are those of
celeba-wild-mini, celeba-hq-mini, london-faces and, for the first, all-age-faces-mini with a longer
side of at least 300 pixels. For testing, every second photograph of London is enlarged to 2,400
pixels. The table compares `embed` with decoding, MTCNN's landmarks and the recogniser, over all
pairs of photographs. A photograph without a found face counts as unlike all others. It also prints
in which of Kodak's photographs a face is found.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from facecodec import frozen, images
from facecodec.bench.protocols import FAR, threshold_at_far
from facecodec.codec import Codec, open_container
from facecodec.container import Container
from facecodec.datasets import photographs
from facecodec.errors import ImageError
from facecodec.faces.alignment import crop_face
from facecodec.faces.detection import find_landmarks
from facecodec.faces.embedding import Embedder
from facecodec.faces.recognisers import (
    FacenetRecogniser,
    Recogniser,
    find_recogniser,
    load_recogniser,
)
from facecodec.families import Unrounded
from facecodec.folders import data_root
from facecodec.template import Face, similarity

SETS = ("celeba-wild-mini", "celeba-hq-mini", "london-faces")
LEAST, ENLARGED = 300, 2400  # pixels along the longer side
FACE_RADIUS = 75  # pixels of the template: the face lies within this distance of its centre
STRIP = 100  # pixels along the shorter side of a strip without a face, at least
FACE, BESIDE, LARGE = "faces", "strips beside faces", "faces that are too large, as they are"
TOO_LARGE = 2.2  # pixels per pixel of the template: no head knows such a face
NEAR = 12  # pixels of the template
PER_OCTAVE = 2  # sizes of a picture that a head looks at, per factor of two
LARGEST = 2.0  # the largest of them, as a multiple of the picture's
LONGEST, SHORTEST = 1024, 64  # pixels; bounds of their sides
SPAN = 10.0  # of the logistic function while lengths are measured


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="l2-ipr")
    parser.add_argument("-q", "--quality", type=float, default=4)
    parser.add_argument("--limit", type=int, default=50, help="photographs of each set")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--calibrate", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec = Codec(frozen.model_path(arguments.model), threads=1)
    root = data_root(arguments.data)
    if arguments.calibrate:
        calibrate(codec, arguments.quality, arguments.limit, root)
    else:
        report(codec, arguments.quality, arguments.limit, root)


def chosen(split: str, limit: int, root: Path) -> Iterator[tuple[np.ndarray, str]]:
    """Yields pixels and person, of whole people until there are `limit` photographs per set."""
    for name in SETS if split == "test" else (*SETS, "all-age-faces-mini"):
        count, last = 0, None
        for photo in sorted(photographs(name, split, root), key=lambda each: each.person):
            if count >= limit and photo.person != last:
                break
            pixels = images.load(photo.path)
            if max(pixels.shape) < LEAST:
                continue
            if split == "test" and name == "london-faces" and photo.person == last:
                size = (round(ENLARGED * pixels.shape[1] / max(pixels.shape)), ENLARGED)
                pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
            count, last = count + 1, photo.person
            yield pixels, photo.person


def calibrate(codec: Codec, quality: float, limit: int, root: Path) -> None:
    """Fits a head's certainty to the lengths of its embeddings, of faces and of strips without."""
    codec.head.certain = (0.0, SPAN)
    lengths: list[float] = []
    kinds: list[str] = []
    for pixels, _ in chosen("train", limit, root):
        points = next(iter(find_landmarks([Image.fromarray(pixels)])))
        if points is None:
            continue
        matrix = similarity(points)
        scale = np.hypot(*matrix[0, :2])
        picture = codec.decode(codec.encode(pixels, quality))
        shown = [(most_certain(codec, picture), FACE)]
        if scale > TOO_LARGE:
            shown.append((found(codec, picture, 1.0), LARGE))
        strip = beside(pixels, matrix)
        if min(strip.shape[:2]) >= STRIP:
            shown.append((most_certain(codec, codec.decode(codec.encode(strip, quality))), BESIDE))
        for face, kind in shown:
            off = np.linalg.norm(face.landmarks - points, axis=1).mean() / scale
            if kind == FACE and off > NEAR:
                continue  # the head found another face or none, so this is no kind
            lengths.append(SPAN * np.log(face.certainty / (1 - face.certainty)))
            kinds.append(kind)
    labels = [kind == FACE for kind in kinds]
    fit = LogisticRegression(class_weight="balanced").fit(np.array(lengths)[:, None], labels)
    width = float(1 / fit.coef_[0, 0])
    middle = float(-fit.intercept_[0] * width)
    for kind in (FACE, BESIDE, LARGE):
        each = np.sort([length for length, of in zip(lengths, kinds, strict=True) if of == kind])
        spread = f"{each[0]:.1f}, median {np.median(each):.1f}, {each[-1]:.1f}"
        print(f"{len(each)} {kind}: lengths {spread}")
    print(f"as likely as not at {middle:.2f}, width {width:.2f}")
    path = frozen.head_path(codec.card.path)
    with safe_open(path, "numpy") as file:
        card = json.loads(file.metadata()["card"])
    card["certain"] = [round(middle, 2), round(width, 2)]
    tensors = frozen.load_head(codec.card).tensors
    frozen.save_head(path, codec.card.fingerprint, card, tensors)
    print(f"written into {path}")


def found(codec: Codec, picture: Image.Image, scale: float) -> Face:
    """The face, in the picture's pixels, that a head finds in the picture resized by `scale`."""
    family = codec.family
    assert isinstance(family, Unrounded)
    size = (round(picture.width * scale), round(picture.height * scale))
    shown = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    face = codec.head.run(family.unrounded(np.asarray(shown))).face
    assert face is not None
    points = (face.landmarks + 0.5) * np.array(picture.size) / size - 0.5
    return Face(points, face.certainty)


def most_certain(codec: Codec, picture: Image.Image) -> Face:
    """The face of the size of a picture at which a head is most sure."""
    first = min(LARGEST, LONGEST / max(picture.size))
    count = int(PER_OCTAVE * np.log2(max(first * min(picture.size) / SHORTEST, 1))) + 1
    scales = [first * 2 ** (-step / PER_OCTAVE) for step in range(count)]
    return max((found(codec, picture, scale) for scale in scales), key=lambda face: face.certainty)


def beside(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns the largest strip of a picture above, below or beside its face, without the face."""
    x, y = (matrix @ [55.5, 55.5, 1]).round().astype(int)
    reach = round(FACE_RADIUS * float(np.hypot(*matrix[0, :2])))
    strips = [
        pixels[: max(y - reach, 0)],
        pixels[y + reach :],
        pixels[:, : max(x - reach, 0)],
        pixels[:, x + reach :],
    ]
    return max(strips, key=lambda strip: min(strip.shape[:2]))


def report(codec: Codec, quality: float, limit: int, root: Path) -> None:
    """Prints the table, and in which of Kodak's photographs a face is found."""
    embedder = Embedder(codec)
    recognise = load_recogniser(find_recogniser(embedder.space, root))
    ways: dict[str, Callable[[Container], np.ndarray | None]] = {
        "`embed`": lambda parsed: embedded(embedder, parsed),
        "decode, find and recognise": lambda parsed: recognised(codec, recognise, parsed),
    }
    rows: dict[str, list[np.ndarray | None]] = {way: [] for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    people = []
    for pixels, person in chosen("test", limit, root):
        people.append(person)
        parsed = open_container(codec.encode(pixels, quality))
        for way, embed in ways.items():
            began = time.process_time()
            rows[way].append(embed(parsed))
            seconds[way] += time.process_time() - began
    same = np.equal.outer(people, people)[np.triu_indices(len(people), 1)]
    print(f"{len(people)} photographs of {len(set(people))} people, q {quality:g}: ", end="")
    print(f"{same.sum()} pairs of one person, {(~same).sum()} of two\n")
    print("| | AUC | FRR at FAR 1% | without a face | seconds a picture |\n|" + " --- |" * 5)
    for way, found in rows.items():
        size = next(len(each) for each in found if each is not None)
        vectors = np.stack([np.full(size, np.nan) if each is None else each for each in found])
        apart = np.nan_to_num(1 - vectors @ vectors.T, nan=2)[np.triu_indices(len(people), 1)]
        rejected = (apart[same] >= threshold_at_far(apart[~same], FAR)).mean()
        missing = sum(each is None for each in found)
        auc, mean = roc_auc_score(same, -apart), seconds[way] / len(people)
        print(f"| {way} | {auc:.3f} | {rejected:.1%} | {missing} | {mean:.2f} |")
    kodak = sorted((root / "kodak").glob("*.png"))
    files = [open_container(codec.encode(images.load(path), quality)) for path in kodak]
    names = [
        path.name
        for path, parsed in zip(kodak, files, strict=True)
        if embedded(embedder, parsed) is not None
    ]
    print(f"\nof Kodak's {len(kodak)}, a face is found in {', '.join(names) or 'none'}")


def embedded(embedder: Embedder, parsed: Container) -> np.ndarray | None:
    try:
        return embedder(parsed).vector
    except ImageError:
        return None


def recognised(
    codec: Codec, recognise: Recogniser | FacenetRecogniser, parsed: Container
) -> np.ndarray | None:
    picture = codec.decode_container(parsed)
    points = next(iter(find_landmarks([picture])))
    if points is None:
        return None
    return recognise(crop_face(np.asarray(picture), points, recognise.contract))


if __name__ == "__main__":
    main()
