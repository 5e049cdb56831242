"""The start of a run: a fresh network, or the parameters of an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facecodec import frozen
from facecodec.errors import FacecodecError, UsageError
from facecodec.families import module_name
from facecodec.networks.coded import FamilyNetwork
from facecodec.networks.head import HeadNetwork
from facecodec.training.config import HEAD_OBJECTIVES, Config, parse_config, stored_config
from facecodec.training.thaw import thawed, thawed_head

CHECKPOINT = "checkpoint.pt"


def build_network(config: Config) -> FamilyNetwork:
    """Returns a new network. Raises UsageError for a wrong [network] or [head] table."""
    low, high = config.rate_weights
    family = import_module(f"facecodec.networks.{module_name(config.family)}")
    try:
        network = family.build(span=low / high, **config.network)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the [network] table of the configuration is wrong: {error}") from None
    if config.head:
        try:
            network.head = HeadNetwork(network.channels, **config.head)
        except (AttributeError, TypeError, ValueError) as error:
            raise UsageError(f"the [head] table of the configuration is wrong: {error}") from None
    return network


def fill(network: nn.Module, state: dict[str, Tensor], origin: Path) -> None:
    """Loads parameters. Raises UsageError for those of another network."""
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise UsageError(
            f"{origin} has a network of another shape than the configuration's [network]"
        ) from None


def begin(network: FamilyNetwork, state: dict[str, Tensor], origin: Path) -> None:
    """Loads the parameters of a start.

    Parts that the start lacks, such as a head, keep their initial values. Raises UsageError if a
    part has another shape, or if the start has no part of the network.
    """
    mine, state = network.state_dict(), network.adopted(state)
    theirs = {part(name) for name in state}
    kept = {name: state[name] for name in mine if name in state}
    if any(part(name) in theirs and name not in kept for name in mine):
        raise UsageError(
            f"{origin} has a network of another shape than the configuration's [network]"
        )
    fill(network, mine | kept, origin)


def begin_at_mean(
    network: FamilyNetwork, starts: Sequence[Path]
) -> tuple[list[dict[str, Any]], bool]:
    """Loads the mean of the parameters of several starts.

    Returns the runs that led to them, and whether any has a head.

    If networks were fine-tuned from the same one on different data, their mean serves all of these
    data (Wortsman et al., "Model soups", ICML 2022). The largest start comes first: if another
    lacks a part or a block, that of the start before it counts again. Raises UsageError as `begin`
    does.
    """
    runs: list[dict[str, Any]] = []
    states, has_head = [], False
    loaded = [(path, *load_start(path)) for path in starts]
    loaded.sort(key=lambda each: -sum(value.numel() for value in each[1].values()))
    for path, state, led in loaded:
        begin(network, state, path)
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        runs += [run for run in led if run not in runs]
        has_head |= any(name.startswith("head.") for name in state)
    network.load_state_dict(
        {name: sum(state[name] for state in states) / len(states) for name in states[0]}
    )
    return runs, has_head


def part(name: str) -> str:
    """Returns the part in the name of a parameter: g_a.body in g_a.body.0.weight."""
    return ".".join(name.split(".")[:2])


def load_start(path: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Returns the parameters (float32) and past runs of a start.

    A start is a frozen model, with its head if it has one, or RUN/checkpoint.pt. Raises UsageError.
    """
    if path.name == CHECKPOINT and path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return saved["network"], past_runs(saved)
    try:
        card, tensors = frozen.load(path)
        state, runs = thawed(card.family, tensors), card.runs
        if frozen.has_head(card):  # the head of a former model of this name is a good start too
            head = frozen.load_head(card, or_former=True)
            state |= thawed_head(head)
            runs = runs + [run for run in head.runs if run["objective"] in HEAD_OBJECTIVES]
        return state, runs
    except (FacecodecError, ValueError) as error:
        raise UsageError(
            f"{path}: not a start for training (a model, or RUN/{CHECKPOINT}): {error}"
        ) from None


def past_runs(saved: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the runs that led to a checkpoint, its own last, as in a model's card."""
    config = parse_config(stored_config(saved["config"]))
    this = {
        key: saved["config"][key]
        for key in ("name", "objective", "distortion", "seed", "batch", "crop")
    }
    this |= {
        "data": data_of(config),
        "steps": saved["step"],
        "hours": round(saved["seconds"] / 3600, 2),
    }
    if config.keeps_identity:
        this["recognisers"] = [Path(each.name).stem for each in config.recognisers]
    return [*saved["runs"], this | {"hardware": saved["hardware"]}]


def data_of(config: Config) -> str:
    """Returns the names of the datasets, with `faces` where it is not the default."""
    named = (s.set if s.faces == "any" else f"{s.set} (faces: {s.faces})" for s in config.data)
    return ", ".join(dict.fromkeys(named))
