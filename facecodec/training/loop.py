"""The training loop: a run is a folder with config.json, log.jsonl and checkpoint.pt.

All randomness of a step depends only on the seed and the step, so a resumed run gives the same
result as an uninterrupted one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from facecodec.errors import FacecodecError, UsageError
from facecodec.faces.alignment import jitter
from facecodec.networks.coded import FamilyNetwork
from facecodec.training.config import Config, parse_config, stored_config
from facecodec.training.curves import draw_curves
from facecodec.training.data import Batch, CropSampler, LandmarkFinder
from facecodec.training.distributed import Processes, join
from facecodec.training.starts import CHECKPOINT, begin_at_mean, build_network, fill
from facecodec.training.terms import Pass, Terms
from facecodec.training.validation import load_held_back, to_tensor, validate, validation_loss

CHECKPOINT_SECONDS = 180
LOG_EVERY = 100  # steps

Report = Callable[[dict[str, Any]], None]


def learning_rate(config: Config, step: int) -> float:
    """Returns the learning rate of a step.

    It warms up, stays constant, and falls linearly to zero over the last `decay` of the steps.
    """
    rising = (step + 1) / config.warmup
    falling = (config.steps - step) / (config.decay * config.steps)
    return config.learning_rate * min(1.0, rising, falling)


def save_atomically(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def landmark_finder(config: Config, processes: Processes) -> LandmarkFinder | None:
    """Returns a function that finds faces and caches them, or None if none is needed."""
    seeks = any(source.faces in ("none", "cut") for source in config.data)
    if not (seeks or config.keeps_identity or config.head):
        return None
    from facecodec.faces.detection import cached_landmarks

    def find(files: list[Path]) -> list[np.ndarray | None]:
        if not processes.is_first:
            processes.wait()  # the first process fills the cache
        points = cached_landmarks(files)
        if processes.is_first:
            processes.wait()
        return points

    return find


def hardware(processes: Processes) -> str:
    """Returns the hardware of a run, for the model's card."""
    name = (
        torch.cuda.get_device_name()
        if processes.device.type == "cuda"
        else f"{torch.get_num_threads()} CPU cores"
    )
    return name if processes.count == 1 else f"{processes.count} x {name}"


def uses_bfloat16(network: FamilyNetwork, config: Config, device: torch.device) -> bool:
    """Returns whether a pass is faster in bfloat16, by timing both.

    CPUs differ: with instructions for bfloat16 it is twice as fast as float32, without them 15
    times slower.
    """
    if device.type == "cuda":
        return True
    x = torch.rand(config.batch, 3, config.crop, config.crop).to(memory_format=torch.channels_last)
    quality = torch.full((config.batch,), 4.0)
    spent = {}
    for enabled in (False, True, False, True):  # the first two passes only warm up
        begun = time.monotonic()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            network(x, quality)
        spent[enabled] = time.monotonic() - begun
    return spent[True] < spent[False]


def train(
    config: Config,
    run: Path,
    data: Path | None,
    starts: Sequence[Path] = (),
    minutes: float | None = None,
    resume: bool = False,
    report: Report = lambda row: None,
    begun: float | None = None,
) -> None:
    """Trains until `config.steps` or for `minutes`. `report` takes each row of log.jsonl.

    The minutes count from `begun`, a time.monotonic, or from now; when they are over, the run is
    saved and not validated. With 0 minutes it is only validated. `data` is the folder of datasets
    (folders.data_folder). With `resume` the run continues from its last checkpoint. With `starts`
    it starts from the mean of their parameters, not from random ones. Under torchrun, every process
    calls this with the same arguments and has its own batches; the first one writes and reports.
    Raises UsageError for a folder that already has a run.
    """
    begun = time.monotonic() if begun is None else begun
    if config.keeps_identity and not starts and not resume:
        raise UsageError(
            f"the '{config.objective}' objective starts from a rec network", "give one with {start}"
        )
    has_checkpoint = (run / CHECKPOINT).exists()
    if has_checkpoint and not resume:
        raise UsageError(
            f"{run} already has a run", "continue it with {resume}, or give another {run}"
        )
    if resume and not has_checkpoint:
        raise UsageError(f"{run} has no checkpoint to resume")
    # Reading the data counts towards the limit, but not towards the hours in the model's card.
    trainer = Trainer(config, run, data, starts, resume, report)
    if minutes == 0:
        trainer.finish()
    else:
        trainer.run_until(None if minutes is None else begun + minutes * 60)


class Trainer:
    """One run: its network, the networks that are trained with it, its data, and its steps."""

    def __init__(
        self,
        config: Config,
        run: Path,
        data: Path | None,
        starts: Sequence[Path],
        resume: bool,
        report: Report,
    ) -> None:
        self._config, self._run, self._report = config, run, report
        self._processes = join()
        self._device = self._processes.device
        self._step, self._earlier_seconds = 0, 0.0
        self._history: list[dict[str, Any]] = []
        self._runs: list[dict[str, Any]] = []
        self._end: float | None = None

        torch.manual_seed(config.seed)
        self._network = build_network(config)
        has_head = resume
        if starts:
            self._runs, has_head = begin_at_mean(self._network, starts)
        self._network.to(self._device).to(memory_format=torch.channels_last)
        self._terms = Terms(config, data, self._processes)
        if config.head and not has_head:
            self._network.head.start_from(self._terms.head_teacher, self._network.g_s.body)
        one_pass = Pass(self._network, config)
        self._optimizer = torch.optim.Adam(
            self._network.parameters(), lr=config.learning_rate, fused=True
        )
        self._averaged = None
        if config.average:
            self._averaged = AveragedModel(
                self._network, multi_avg_fn=get_ema_multi_avg_fn(config.average)
            )
        self._bfloat16 = not resume and self._processes.agree(
            uses_bfloat16(self._network, config, self._device)
        )
        if resume:
            self._load()
        self._forward = self._processes.distribute(one_pass)

        find = landmark_finder(config, self._processes)
        classes = config.head.get("classes", 0)
        self._sampler = CropSampler(config.data, data, config.crop, find, classes)
        unreadable = self._sampler.unreadable
        self._held_back = load_held_back(config, data, find, unreadable)
        if self._processes.is_first:
            run.mkdir(parents=True, exist_ok=True)
            (run / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n")
            report(
                {
                    "images": self._sampler.counts,
                    "held_back": len(self._held_back),
                    "device": str(self._device),
                }
            )
            if unreadable:
                report({"unreadable": unreadable})
        self._trained_from = time.monotonic()

    def run_until(self, end: float | None) -> None:
        """Makes the remaining steps and validates. At `end`, a time.monotonic, it only saves."""
        self._end = end
        saved_at = time.monotonic()
        recent: list[dict[str, float]] = []
        while self._step < self._config.steps and not self._processes.agree(self._is_over()):
            values = self.make_step()
            if not self._processes.is_first:
                continue
            recent.append({name: value.mean().item() for name, value in values.items()})
            if self._step % LOG_EVERY == 0:
                means = {name: float(np.mean([row[name] for row in recent])) for name in values}
                self._log({"steps": self._config.steps} | means)
                recent.clear()
            if self._step % self._config.validate_every == 0:
                self._validate()
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                self._save()
                saved_at = time.monotonic()
        self.finish()

    def finish(self) -> None:
        """Validates if that has not been done and the time is not over, and saves."""
        if self._processes.is_first:
            if not self._is_validated():
                self._validate()
            self._save()
            if not self._is_validated():
                self._report({"stopped": self._step, "steps": self._config.steps})
        self._processes.wait()

    def _is_validated(self) -> bool:
        return bool(self._history) and self._history[-1]["step"] == self._step

    def make_step(self) -> dict[str, Tensor]:
        """Makes one step. Returns the terms of its loss, (B,), and the gradient's norm."""
        config, device = self._config, self._device
        rng = np.random.default_rng([config.seed, self._step, self._processes.rank])
        torch.manual_seed(int(rng.integers(2**63)))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(config, self._step)
        batch = self._sampler.batch(config.batch, rng)
        x = to_tensor(batch.pixels, device)
        qualities = rng.uniform(*config.qualities, len(x)).astype(np.float32)
        quality = torch.from_numpy(qualities).to(device)
        about = self._looked_at(batch, rng) if config.head else None
        noisy_rate = self._step < config.rounded_from * config.steps
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
            coded, outputs = self._forward(x, quality, noisy_rate, about)
        values = self._terms(coded, outputs, x, quality, batch, rng)
        self._optimizer.zero_grad(set_to_none=True)
        values["loss"].mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FacecodecError(
                f"the gradient at step {self._step} is not finite",
                "lower learning_rate and {resume}",
            )
        self._optimizer.step()
        if self._averaged is not None:
            self._averaged.update_parameters(self._network)
        self._terms.step(x, coded)
        self._step += 1
        return values | {"gradient": norm}

    def _looked_at(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Returns where the head looks first, (B, 2, 3): half of the time, around the true face.

        Otherwise it is NaN, and the head looks where it finds the face, as it does in use.
        """
        about = jitter(batch.matrices, rng)
        about[1::2] = np.nan
        return torch.from_numpy(about).to(self._device, torch.float32)

    def _is_over(self) -> bool:
        return self._end is not None and time.monotonic() > self._end

    def _seconds(self) -> float:
        """Returns the seconds of training, including those before the run was resumed."""
        return self._earlier_seconds + time.monotonic() - self._trained_from

    def _log(self, row: dict[str, Any]) -> None:
        row = {"step": self._step, "seconds": round(self._seconds(), 1)} | row
        with open(self._run / "log.jsonl", "a") as log:
            log.write(json.dumps(row) + "\n")
        self._report(row)

    def _validate(self) -> None:
        rows = validate(self._result(), self._held_back, self._device, self._terms, self._is_over)
        if rows is None:
            return
        self._history.append({"step": self._step, "rows": rows})
        self._log({"validation": rows, "objective": validation_loss(rows, self._config)})
        draw_curves(self._run / "log.jsonl", self._run / "curves.png")

    def _result(self) -> FamilyNetwork:
        """Returns the network to validate and freeze: the averaged one, if there is one."""
        if self._averaged is None:
            return self._network
        averaged: Any = self._averaged.module
        return averaged

    def _save(self) -> None:
        state = {
            "config": self._config.to_dict(),
            "network": self._result().state_dict(),
            "latest": None if self._averaged is None else self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._step,
            "seconds": self._seconds(),
            "history": self._history,
            "runs": self._runs,
            "hardware": hardware(self._processes),
            "bfloat16": self._bfloat16,
            "terms": self._terms.state(),
            "classes": list(self._sampler.labels),
        }
        save_atomically(state, self._run / CHECKPOINT)

    def _load(self) -> None:
        """Continues from the last checkpoint."""
        path = self._run / CHECKPOINT
        saved = torch.load(path, map_location=self._device, weights_only=True)
        if parse_config(stored_config(saved["config"])) != self._config:
            self._report(
                {
                    "note": "the configuration differs from the checkpoint's; "
                    "from here on, the new one is used"
                }
            )
        fill(self._network, saved.get("latest") or saved["network"], path)
        if self._averaged is not None:
            fill(self._averaged.module, saved["network"], path)
            # With zero, the next step would replace the average.
            self._averaged.n_averaged.fill_(saved["step"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._terms.load(saved.get("terms", {}))
        self._step, self._earlier_seconds = saved["step"], saved["seconds"]
        self._bfloat16 = saved.get("bfloat16", False)  # a run keeps its precision
        self._history, self._runs = saved["history"], saved["runs"]
