"""The targets of `encode`: a quality, a number of bytes, a rate, or a similarity."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Protocol

import click

from facecodec.cli.extras import require
from facecodec.container import DEFAULT_QUALITY, quality_byte
from facecodec.errors import ImageError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from facecodec.encoding import Analysed, Encoded
    from facecodec.faces.similarity import FaceSimilarity


class Bytes(click.ParamType):
    """The type of an argument in bytes; k means a thousand and M a million."""

    name = "bytes"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(
            r"([0-9]{1,15}|[0-9]{0,15}\.[0-9]+)([kM]?)B?", value, re.IGNORECASE | re.ASCII
        )
        number = (
            int(float(found[1]) * {"": 1, "k": 10**3, "m": 10**6}[found[2].lower()]) if found else 0
        )
        if number < 1:
            self.fail(
                f"'{value}' is not a number of bytes: write it like 1024, 10k or 1.5M.", param, ctx
            )
        return number


BYTES = Bytes()


class Target(Protocol):
    """What a user requires of a file. It can be pickled."""

    def encode(self, picture: Analysed) -> Encoded:
        """Returns a file of the picture that meets the target. Raises ImageError if none does."""


@dataclass(frozen=True)
class Quality:
    """A quality q, 1 to 8."""

    q: float

    def __post_init__(self) -> None:
        quality_byte(self.q)  # raises UsageError before any input is read

    def encode(self, picture: Analysed) -> Encoded:
        return picture.at(quality_byte(self.q))


@dataclass(frozen=True)
class MaxBytes:
    """The highest quality whose file has at most `limit` bytes."""

    limit: int

    def encode(self, picture: Analysed) -> Encoded:
        return picture.within(self.limit)


@dataclass(frozen=True)
class MaxRate:
    """The highest quality whose file has at most `bpp` bits per pixel."""

    bpp: float

    def __post_init__(self) -> None:
        if not 0 < self.bpp < math.inf:
            raise UsageError(f"--target-bpp {self.bpp:g} is not a rate: give a number above zero")

    def encode(self, picture: Analysed) -> Encoded:
        height, width = picture.pixels.shape[:2]
        try:
            return picture.within(int(self.bpp * width * height / 8))
        except ImageError:
            least = 8 * len(picture.at(0).data) / (width * height)
            raise ImageError(
                f"q 1 takes {least:.3f} bits per pixel, more than {self.bpp:g}: try another model"
            ) from None


@dataclass(frozen=True)
class MinSimilarity:
    """The lowest quality at which the decoded face has a `cosine`, 0 to 1, to the original.

    `recogniser` comes from recognisers.find_recogniser.
    """

    cosine: float
    recogniser: str

    def __post_init__(self) -> None:
        if not 0 <= self.cosine <= 1:  # nan passes click's range
            raise UsageError(f"--min-similarity {self.cosine:g} is not between 0 and 1")

    def encode(self, picture: Analysed) -> Encoded:
        import numpy as np

        measure = _open_similarity(self.recogniser).to(picture.pixels)
        found = 0.0

        def accepts(decoded: Image.Image) -> bool:
            nonlocal found
            found = measure(np.asarray(decoded))
            return found >= self.cosine

        try:
            return picture.accepted(accepts)
        except ImageError:
            raise ImageError(
                f"even q 8 keeps a similarity of only {found:.3f}, not {self.cosine:g}"
            ) from None


@cache
def _open_similarity(recogniser: str) -> FaceSimilarity:
    from facecodec.faces.similarity import FaceSimilarity

    return FaceSimilarity(recogniser)


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of targets to a command, which gets them as one argument `target`."""

    @wraps(command)
    def with_target(
        quality: float | None,
        max_bytes: int | None,
        target_bpp: float | None,
        min_similarity: float | None,
        recogniser: str | None,
        **others: Any,
    ) -> Any:
        target = _target(quality, max_bytes, target_bpp, min_similarity, recogniser)
        return command(target=target, **others)

    options = (
        click.option(
            "-q",
            "--quality",
            type=float,
            metavar="Q",
            help=f"1 (smallest) to 8, in steps of 1/32; {DEFAULT_QUALITY:g} by default.",
        ),
        click.option(
            "--max-bytes",
            type=BYTES,
            metavar="N",
            help="The best quality whose file fits into N bytes; 10k is 10,000, 1M a million.",
        ),
        click.option(
            "--target-bpp",
            type=float,
            metavar="X",
            help="The best quality within X bits per pixel.",
        ),
        click.option(
            "--min-similarity",
            type=click.FloatRange(0, 1),
            metavar="S",
            help="The lowest quality at which the decoded face has a cosine similarity of at least "
            "S to the original.",
        ),
        click.option(
            "--recogniser",
            "--recognizer",
            "recogniser",
            metavar="NAME|FILE.onnx",
            type=click.Path(),
            help="The network that measures S. It does not take part in the search of --effort.",
        ),
    )
    for option in reversed(options):
        with_target = option(with_target)
    return with_target


def _target(
    quality: float | None,
    max_bytes: int | None,
    target_bpp: float | None,
    min_similarity: float | None,
    recogniser: str | None,
) -> Target:
    """Returns the target that is given. Raises UsageError for several targets."""
    if sum(given is not None for given in (quality, max_bytes, target_bpp, min_similarity)) > 1:
        raise UsageError(
            "-q, --max-bytes, --target-bpp and --min-similarity exclude each other: give one"
        )
    if min_similarity is not None:
        return MinSimilarity(min_similarity, _found_recogniser(recogniser))
    if recogniser is not None:
        raise UsageError("--recogniser is for --min-similarity: give that too")
    if target_bpp is not None:
        return MaxRate(target_bpp)
    if max_bytes is not None:
        return MaxBytes(max_bytes)
    return Quality(DEFAULT_QUALITY if quality is None else quality)


def _found_recogniser(name: str | None) -> str:
    from facecodec.faces import INSTALL

    require(
        ("torch", "facenet_pytorch"),
        f"for --min-similarity, pip install 'facecodec[train]' and {INSTALL}",
    )
    from facecodec.bench import SEEN
    from facecodec.faces.recognisers import find_recogniser

    return find_recogniser(name or SEEN, None)
