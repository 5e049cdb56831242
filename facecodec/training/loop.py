"""The training loop: a run is a folder with config.json, log.jsonl and checkpoint.pt.

All randomness of a step is a function of the seed and the step, so a resumed run repeats what the
uninterrupted one would have done.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facecodec.errors import FacecodecError, UsageError
from facecodec.faces.alignment import jitter
from facecodec.families import module_name
from facecodec.networks.head import HeadNetwork
from facecodec.training.config import Config, parse_config, stored_config
from facecodec.training.curves import draw_curves
from facecodec.training.data import CropSampler, LandmarkFinder
from facecodec.training.distributed import Processes, join
from facecodec.training.terms import Pass, Terms
from facecodec.training.validation import load_held_back, to_tensor, validate, validation_loss

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 180


def build_network(config: Config) -> nn.Module:
    """A fresh network. Raises UsageError for a [network] table that does not describe one."""
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
    """Load parameters. Raises UsageError where they are of another network."""
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise UsageError(
            f"{origin} holds a network of another shape than the configuration's [network]"
        ) from None


def begin(network: nn.Module, state: dict[str, Tensor], origin: Path) -> None:
    """Take over what parameters a start has. Parts that it lacks altogether stay fresh, such as a head.

    Raises UsageError where a part is of another shape or the start has no part of the network.
    """
    mine = network.state_dict()
    theirs = {part(name) for name in state}
    kept = {name: state[name] for name in mine if name in state}
    if any(part(name) in theirs and name not in kept for name in mine):
        raise UsageError(
            f"{origin} holds a network of another shape than the configuration's [network]"
        )
    fill(network, mine | kept, origin)


def part(name: str) -> str:
    """g_a.body of g_a.body.0.weight."""
    return ".".join(name.split(".")[:2])


def learning_rate(config: Config, step: int) -> float:
    """Warm-up, a constant, then a straight line to zero over the last `decay` of the steps."""
    rising = (step + 1) / config.warmup
    falling = (config.steps - step) / (config.decay * config.steps)
    return config.learning_rate * min(1.0, rising, falling)


def load_start(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[dict[str, Any]]]:
    """State dict (float32), configuration and past runs of a weights/train/NAME.safetensors file or a checkpoint.pt."""
    if path.name == CHECKPOINT and path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return saved["network"], stored_config(saved["config"]), past_runs(saved)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            config = stored_config(json.loads(metadata["config"]))
            return state, config, json.loads(metadata.get("runs", "[]"))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: not a training start (weights/train/NAME.safetensors, RUN/{CHECKPOINT}): {error}"
        ) from None


def past_runs(saved: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that led to a checkpoint, itself last, as a model's card tells them."""
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
    return [*saved["runs"], this | {"hardware": saved["hardware"]}]


def data_of(config: Config) -> str:
    """The datasets, with what became of the faces where that is not the default."""
    return ", ".join(
        s.set if s.faces == "any" else f"{s.set} (faces: {s.faces})" for s in config.data
    )


def save_atomically(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def landmark_finder(config: Config, processes: Processes) -> LandmarkFinder | None:
    """Where faces are, kept in the user's cache; None for a configuration that need not know."""
    seeks = any(source.faces in ("none", "cut") for source in config.data)
    if not (seeks or config.keeps_identity or config.head):
        return None
    from facecodec.faces.detection import cached_landmarks

    def find(files: list[Path]) -> list[np.ndarray | None]:
        if not processes.is_first:
            processes.wait()  # until the first has filled the cache
        points = cached_landmarks(files)
        if processes.is_first:
            processes.wait()
        return points

    return find


def hardware(processes: Processes) -> str:
    """What a run computes on, for the model's card."""
    name = (
        torch.cuda.get_device_name()
        if processes.device.type == "cuda"
        else f"{torch.get_num_threads()} CPU cores"
    )
    return name if processes.count == 1 else f"{processes.count} x {name}"


def uses_bfloat16(device: torch.device) -> bool:
    """On CPUs bfloat16 pays only with matrix instructions for it; without, it is 15 times slower."""
    if device.type == "cuda":
        return True
    return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()


def train(
    config: Config,
    run: Path,
    data: Path | None,
    start: Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> None:
    """Train until `config.steps` or for `minutes`; `report` gets each row that goes to log.jsonl.

    `data` is the folder of datasets, see folders.data_folder. With `resume` the run goes on from its
    last checkpoint; `start` gives the parameters to begin with instead of random ones. Under
    torchrun every process calls this with the same arguments and has batches of its own; the first
    one writes and reports. Raises UsageError for a folder that already holds a run.
    """
    if config.keeps_identity and start is None and not resume:
        raise UsageError(
            f"the '{config.objective}' objective starts from a rec network", "give one with {start}"
        )
    begun = time.monotonic()
    checkpoint_path = run / CHECKPOINT
    if checkpoint_path.exists() and not resume:
        raise UsageError(
            f"{run} already holds a run", "continue it with {resume}, or give another {run}"
        )
    if resume and not checkpoint_path.exists():
        raise UsageError(f"{run} holds no checkpoint to resume")

    processes = join()
    device = processes.device
    torch.manual_seed(config.seed)
    network = build_network(config)
    step, seconds, history, runs, state = 0, 0.0, [], [], {}
    if start is not None:
        state, _, runs = load_start(start)
        begin(network, state, start)
    network.to(device, memory_format=torch.channels_last)
    terms = Terms(config, data, processes)
    if config.head and not resume and not any(name.startswith("head.") for name in state):
        network.head.start_from(terms.head_teacher, network.g_s.body)
    one_pass = Pass(network, config)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
    if resume:
        saved = torch.load(checkpoint_path, map_location=device, weights_only=True)
        if parse_config(stored_config(saved["config"])) != config:
            report(
                {
                    "note": "the configuration differs from the checkpoint's; the new one holds from here"
                }
            )
        fill(network, saved["network"], checkpoint_path)
        optimizer.load_state_dict(saved["optimizer"])
        terms.load(saved.get("terms", {}))
        step, seconds, history, runs = (
            saved[name] for name in ("step", "seconds", "history", "runs")
        )
    forward = processes.distribute(one_pass)

    find = landmark_finder(config, processes)
    sampler = CropSampler(config.data, data, config.crop, find, config.head.get("classes", 0))
    held_back = load_held_back(config, data, find)
    if processes.is_first:
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n")
        report({"images": sampler.counts, "held_back": len(held_back), "device": str(device)})
    bfloat16 = uses_bfloat16(device)
    # Reading the data counts towards the limit, not towards the hours that the card will state.
    trained_from = time.monotonic()

    def save() -> None:
        state = {
            "config": config.to_dict(),
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        state |= {
            "step": step,
            "seconds": seconds + time.monotonic() - trained_from,
            "history": history,
        }
        state |= {"runs": runs, "hardware": hardware(processes), "terms": terms.state()}
        state |= {"classes": list(sampler.labels)}
        save_atomically(state, checkpoint_path)

    def out_of_time() -> bool:
        return minutes is not None and processes.agree(time.monotonic() - begun > minutes * 60)

    def emit(row: dict[str, Any]) -> None:
        row = {"step": step, "seconds": round(seconds + time.monotonic() - trained_from, 1)} | row
        with open(run / "log.jsonl", "a") as log:
            log.write(json.dumps(row) + "\n")
        report(row)

    def check() -> None:
        rows = validate(network, held_back, device, terms)
        history.append({"step": step, "rows": rows})
        emit({"validation": rows, "objective": validation_loss(rows, config)})
        draw_curves(run / "log.jsonl", run / "curves.png")

    saved_at, recent = time.monotonic(), []
    while step < config.steps and not out_of_time():
        rng = np.random.default_rng([config.seed, step, processes.rank])
        torch.manual_seed(int(rng.integers(2**63)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        batch = sampler.batch(config.batch, rng)
        x = to_tensor(batch.pixels, device)
        quality = torch.from_numpy(
            rng.uniform(*config.qualities, config.batch).astype(np.float32)
        ).to(device)
        # A head sees every other face where it is, about, and the rest where it finds them, as it will later.
        about = None
        if config.head:
            about = jitter(batch.matrices, rng)
            about[1::2] = np.nan
            about = torch.from_numpy(about).to(device, torch.float32)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            coded, reading = forward(x, quality, step < config.rounded_from * config.steps, about)
        shares = terms(coded, reading, x, quality, batch, rng)
        loss = shares["loss"].mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FacecodecError(
                f"the gradient at step {step} is not finite", "lower learning_rate and {resume}"
            )
        optimizer.step()
        terms.step(x, coded)
        step += 1

        if not processes.is_first:
            continue
        recent.append([share.mean().item() for share in shares.values()] + [norm.item()])
        if step % 100 == 0:
            means = dict(zip([*shares, "gradient"], np.mean(recent, axis=0).tolist(), strict=True))
            emit({"steps": config.steps} | means)
            recent.clear()
        if step % config.validate_every == 0 or step == config.steps:
            check()
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
            save()
            saved_at = time.monotonic()
    if processes.is_first:
        if not history or history[-1]["step"] != step:
            check()
        save()
    processes.wait()
