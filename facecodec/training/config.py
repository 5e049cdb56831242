"""The TOML file that describes a training run."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from facecodec.errors import UsageError
from facecodec.families import FAMILIES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Source:
    """A dataset, and its share of the crops.

    `set` is the name of a dataset (facecodec/datasets.py) or the path of a folder. `faces` "any"
    takes crops anywhere, and "none" takes crops without the main face. "cut" first aligns each main
    face to a 448x448 picture; "aligned" means that the pictures are aligned already. `resize` is
    the range of the factor by which the picture is resized for a crop. `crop` is the side of its
    crops in pixels; 0 means the run's.
    """

    set: str
    share: float = 1.0
    faces: str = "any"
    resize: tuple[float, float] = (1.0, 1.0)
    crop: int = 0


@dataclass(frozen=True)
class TeacherConfig:
    """A teacher of the identity loss, by name or file. It is drawn in proportion to `weight`.

    `features` are the ONNX nodes whose outputs are compared in addition to the embedding.
    """

    name: str
    weight: float = 1.0
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """One training run; docs/training.md explains the keys."""

    name: str
    steps: int
    data: tuple[Source, ...]
    family: str = "hyperprior"
    objective: str = "rec"
    distortion: str = "l2"
    seed: int = 0
    batch: int = 8
    crop: int = 128
    learning_rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.3  # last share of the steps, over which the learning rate falls to zero
    rounded_from: float = 0.5  # share of the steps after which the bits are of rounded latents
    rate_weights: tuple[float, float] = (0.96, 0.006)  # lambda_rate at q = 1 and at q = 8
    qualities: tuple[float, float] = (
        1.0,
        8.0,
    )  # q of each image is uniform between these; equal for a single rate
    average: float = (
        0.0  # decay of the averaged weights, which are validated and frozen; 0 for none
    )
    validate_every: int = 2000
    validation_images: int = 48
    recognisers: tuple[TeacherConfig, ...] = (
        TeacherConfig("mobilefacenet-ms1m"),
    )  # for ip and ipr
    averages_weight: float = 0.0  # weight of errors of 16x16 averages, beside those of pixels
    identity_weight: float = 1.0  # weight of the teachers' loss
    recognisers_drawn: int = 1  # teachers in each step
    recogniser_dropout: float = 0.0  # share of channels left out of the teachers' convolutions
    varied_views: bool = False  # views differ in mirroring, sampling, blur and noise
    analysis_alone: bool = False  # trains only what encoders need: files stay decodable
    trains_recogniser: bool = False  # a copy, for decoded faces, is trained with the codec
    adversarial: float = 0.0  # weight of a discriminator's loss
    head_weight: float = 1.0  # weight of a head's loss, if there is a [head]
    head: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)

    @property
    def keeps_identity(self) -> bool:
        return self.objective in ("ip", "ipr")

    @property
    def trains_head_alone(self) -> bool:
        return self.objective in HEAD_OBJECTIVES

    @property
    def makes_pictures(self) -> bool:
        """Returns whether a step runs the synthesis."""
        return self.objective != "rate" and not self.trains_head_alone

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


OBJECTIVES = ("rec", "ip", "ipr", "rate", "find", "embed")
HEAD_OBJECTIVES = ("find", "embed")  # a head learns to find the face, then everything
DISTORTIONS = ("l2", "msssim")
FACES = ("any", "none", "cut", "aligned")
MSSSIM_CROP = 192  # five scales need sides above 160


def parse_config(values: dict[str, Any]) -> Config:
    """Returns the Config of parsed TOML, or of `to_dict` output.

    Raises UsageError, which names the wrong key.
    """
    known = {f.name for f in fields(Config)}
    for key in values:
        if key not in known:
            raise UsageError(
                f"unknown key '{key}' in the training configuration; "
                f"known: {', '.join(sorted(known))}"
            )
    for key in ("name", "steps", "data"):
        if key not in values:
            raise UsageError(f"the training configuration lacks '{key}'")
    try:
        config = _converted(values)
        _check(config)
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"bad value in the training configuration: {error}") from None
    return config


def _converted(values: dict[str, Any]) -> Config:
    values = dict(values)
    values["data"] = tuple(_source(source) for source in values["data"])
    if "rate_weights" in values:
        low, high = values["rate_weights"]
        values["rate_weights"] = (float(low), float(high))
    if "qualities" in values:
        lowest, highest = values["qualities"]
        values["qualities"] = (float(lowest), float(highest))
    if "recognisers" in values:
        values["recognisers"] = tuple(_recogniser(given) for given in values["recognisers"])
    return Config(**values)


def _check(config: Config) -> None:
    """Raises UsageError for a value that is not allowed, or TypeError for one of another type."""
    for key, allowed in (
        ("family", FAMILIES),
        ("objective", OBJECTIVES),
        ("distortion", DISTORTIONS),
    ):
        if getattr(config, key) not in allowed:
            raise UsageError(f"{key} '{getattr(config, key)}' is not one of {', '.join(allowed)}")
    if not config.recognisers or min(each.weight for each in config.recognisers) <= 0:
        raise UsageError("recognisers must not be empty, and their weights must be above zero")
    if config.recognisers_drawn not in range(1, len(config.recognisers) + 1):
        raise UsageError(
            f"recognisers_drawn must be 1 to {len(config.recognisers)}, the number of recognisers, "
            f"not {config.recognisers_drawn!r}"
        )
    for key in ("recogniser_dropout", "average"):
        if not 0 <= getattr(config, key) < 1:
            raise UsageError(f"{key} must be in 0..1, not {getattr(config, key)!r}")
    counts = ("steps", "batch", "crop", "warmup", "validate_every", "validation_images")
    for key in counts:
        if not isinstance(getattr(config, key), int) or getattr(config, key) < 1:
            raise UsageError(
                f"{key} must be a whole number above zero, not {getattr(config, key)!r}"
            )
    if not isinstance(config.seed, int) or config.seed < 0:
        raise UsageError(f"seed must be a whole number of at least zero, not {config.seed!r}")
    for key, most in (("learning_rate", 1), ("decay", 1), ("rounded_from", 1)):
        value = getattr(config, key)
        if (
            not isinstance(value, int | float)
            or not (0 <= value <= most)
            or (value == 0 and key != "rounded_from")
        ):
            raise UsageError(f"{key} must be a number above zero and at most {most}, not {value!r}")
    for key in ("adversarial", "averages_weight", "head_weight", "identity_weight"):
        if not isinstance(getattr(config, key), int | float) or getattr(config, key) < 0:
            raise UsageError(
                f"{key} must be a number of at least zero, not {getattr(config, key)!r}"
            )
    if config.trains_recogniser and not config.keeps_identity:
        raise UsageError("trains_recogniser needs the objective ip or ipr")
    if config.trains_recogniser and len(config.recognisers) > 1:
        raise UsageError("trains_recogniser needs exactly one recogniser")
    if config.analysis_alone and not config.makes_pictures:
        raise UsageError(f"the objective '{config.objective}' does not train an analysis")
    if config.trains_head_alone and not config.head:
        raise UsageError(
            f"the objective '{config.objective}' trains a head: give its width in a [head] table"
        )
    if (
        not config.data
        or min(source.share for source in config.data) <= 0
        or min(config.rate_weights) <= 0
    ):
        raise UsageError(
            "shares and rate_weights must be above zero, and there must be a [[data]] table"
        )
    if not 1 <= config.qualities[0] <= config.qualities[1] <= 8:
        raise UsageError(
            f"qualities must be two numbers of 1 to 8 in order, not {list(config.qualities)}"
        )
    for source in config.data:
        if source.faces not in FACES:
            raise UsageError(
                f"faces '{source.faces}' of {source.set} is not one of {', '.join(FACES)}"
            )
        if not 0.1 <= source.resize[0] <= source.resize[1] <= 4:
            raise UsageError(
                f"resize of {source.set} must be two numbers of 0.1 to 4 in order, "
                f"not {list(source.resize)}"
            )
    for crop in (config.crop, *(source.crop or config.crop for source in config.data)):
        if not isinstance(crop, int) or crop < 64 or crop % 64:
            raise UsageError(f"crop must be a multiple of 64, not {crop}")
        if config.distortion == "msssim" and crop < MSSSIM_CROP:
            raise UsageError(f"crop must be at least {MSSSIM_CROP} for msssim, not {crop}")


def _source(given: dict[str, Any]) -> Source:
    """Returns a source from its table."""
    low, high = given.get("resize", (1.0, 1.0))
    return Source(**(given | {"resize": (float(low), float(high))}))


def _recogniser(given: str | dict[str, Any]) -> TeacherConfig:
    """Returns a teacher from its name, or from a table with its keys."""
    if isinstance(given, str):
        return TeacherConfig(given)
    return TeacherConfig(**(given | {"features": tuple(map(str, given.get("features", ())))}))


# The ONNX node of a layer of mobilefacenet-ms1m, which stored configurations may name otherwise.
FORMER_LAYERS = {"conv2": "/net/head/head.2/Clip"}


def stored_config(values: dict[str, Any]) -> dict[str, Any]:
    """Converts the stored configuration of a run or a start to the current keys."""
    values = dict(values)
    features, name = values.pop("features", ()), values.pop("recogniser", None)
    if name is not None:
        layers = [
            FORMER_LAYERS.get(layer, layer.replace("features.", "/net/blocks/blocks.") + "/Add")
            for layer in features
        ]
        values["recognisers"] = [{"name": name, "features": layers}]
    return values


def load_config(path: Path) -> Config:
    try:
        with open(path, "rb") as file:
            return parse_config(tomllib.load(file))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # of TOML, or of UTF-8
        raise UsageError(f"{path}: not a TOML file: {error}") from None
