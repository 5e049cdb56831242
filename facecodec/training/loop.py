"""The training loop: a run is a folder with config.json, log.jsonl and checkpoint.pt.

All randomness of a step is a function of the seed and the step, so a resumed run repeats what the
uninterrupted one would have done.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from facecodec.errors import FacecodecError, UsageError
from facecodec.faces import cache_folder
from facecodec.faces.alignment import similarity
from facecodec.networks.hyperprior import ANCHORS, Hyperprior
from facecodec.training.config import Config, parse_config
from facecodec.training.data import GRID, CropSampler, LandmarkFinder, validation_photos
from facecodec.training.losses import DISTORTION_WEIGHT, distortion, identity, objective, rate_weight
from facecodec.transforms import pad

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 180


def build_network(config: Config) -> Hyperprior:
    """A fresh network. Raises UsageError for a [network] table that does not describe one."""
    low, high = config.rate_weights
    try:
        return Hyperprior(span=low / high, **config.network)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the [network] table of the configuration is wrong: {error}") from None


def fill(network: Hyperprior, state: dict[str, Tensor], origin: Path) -> None:
    """Load parameters. Raises UsageError where they are of another network."""
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise UsageError(f"{origin} holds a network of another shape than the configuration's [network]") from None


def learning_rate(config: Config, step: int) -> float:
    """Warm-up, a constant, then a straight line to zero over the last `decay` of the steps."""
    rising = (step + 1) / config.warmup
    falling = (config.steps - step) / (config.decay * config.steps)
    return config.learning_rate * min(1.0, rising, falling)


def load_start(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict (float32) and configuration of a weights/train/NAME.safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["config"])
            return {name: file.get_tensor(name).float() for name in file.keys()}, config  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a training start (weights/train/NAME.safetensors): {error}") from None


def save_atomically(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def to_tensor(pixels: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in 0..1, channels last in memory."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True)
class Identity:
    """What the identity loss needs: a frozen recogniser, and where faces are."""

    recogniser: nn.Module
    landmarks: LandmarkFinder


def prepare_identity(config: Config, root: Path, device: torch.device) -> Identity:
    from facecodec.faces.detection import cached_landmarks
    from facecodec.faces.recognisers import load_trainable

    recogniser = load_trainable(config.recogniser, root).to(device)
    return Identity(recogniser, lambda files: cached_landmarks(files, cache_folder() / "landmarks.json"))


@dataclass(frozen=True)
class HeldBack:
    """A validation picture, uint8 (H, W, 3), and the alignment of its face, (2, 3), NaN without one."""

    pixels: np.ndarray
    matrix: np.ndarray


def load_held_back(config: Config, root: Path, faces: Identity | None) -> list[HeldBack]:
    photos = validation_photos(config.data, root, config.validation_images)
    points = faces.landmarks([photo.path for photo in photos]) if faces else [None] * len(photos)
    none = np.full((2, 3), np.nan)
    return [
        HeldBack(np.array(Image.open(photo.path).convert("RGB")), none if found is None else similarity(found))
        for photo, found in zip(photos, points, strict=True)
    ]


@torch.no_grad()
def validate(
    network: Hyperprior, images: list[HeldBack], device: torch.device, faces: Identity | None = None
) -> list[dict[str, float]]:
    """bpp and PSNR at q = 1..8, with rounded latents, on whole images padded as the codec pads them.

    With `faces` also `identity`, the mean of 1 - cosine over images with a face.
    """
    rows = []
    for q in range(1, ANCHORS + 1):
        bpp, psnr, distances = [], [], []
        for image in images:
            pixels = image.pixels
            height, width = pixels.shape[:2]
            x = to_tensor(pad(pixels, GRID)[None], device)
            coded = network(x, torch.tensor([float(q)], device=device))
            x_hat = (coded.x_hat[..., :height, :width].clamp(0, 1) * 255).round()
            error = (x_hat - x[..., :height, :width] * 255).double().square().mean().item()
            bpp.append((coded.y_bits + coded.z_bits).item() / (height * width))
            psnr.append(10 * math.log10(255**2 / max(error, 1e-10)))
            if faces is not None and not np.isnan(image.matrix).any():
                distances.append(identity(x_hat / 255, x[..., :height, :width], image.matrix[None], faces.recogniser))
        rows.append({"q": q, "bpp": float(np.mean(bpp)), "psnr": float(np.mean(psnr))})
        if distances:
            rows[-1]["identity"] = float(torch.cat(distances).mean())
    return rows


def validation_loss(rows: list[dict[str, float]], config: Config) -> float:
    """The objective over the whole range, from the mean rate and PSNR of each quality."""
    losses = []
    for row in rows:
        weight = rate_weight(torch.tensor(float(row["q"])), config.rate_weights)
        error = DISTORTION_WEIGHT["l2"] * 10 ** (-row["psnr"] / 10)
        terms = (torch.tensor(value) for value in (row["bpp"], error, row.get("identity", 0.0)))
        losses.append(objective(config.objective, *terms, weight).item())
    return float(np.mean(losses))


def uses_bfloat16(device: torch.device) -> bool:
    """On CPUs bfloat16 pays only with matrix instructions for it; without, it is 15 times slower."""
    if device.type == "cuda":
        return True
    return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()


def train(
    config: Config,
    run: Path,
    root: Path,
    start: Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> None:
    """Train until `config.steps` or for `minutes`; `report` gets each row that goes to log.jsonl.

    With `resume` the run goes on from its last checkpoint; `start` gives the parameters to begin
    with instead of random ones. Raises UsageError for a folder that already holds a run.
    """
    if config.keeps_identity and start is None and not resume:
        raise UsageError(f"the '{config.objective}' objective starts from a rec network: give one with --from")
    begun = time.monotonic()
    checkpoint_path = run / CHECKPOINT
    if checkpoint_path.exists() and not resume:
        raise UsageError(f"{run} already holds a run: continue it with --resume, or give another --run")
    if resume and not checkpoint_path.exists():
        raise UsageError(f"{run} holds no checkpoint to resume")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    network = build_network(config)
    step, seconds, history = 0, 0.0, []
    if start is not None:
        fill(network, load_start(start)[0], start)
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
    if resume:
        saved = torch.load(checkpoint_path, map_location=device, weights_only=True)
        if parse_config(saved["config"]) != config:
            report({"note": "the configuration differs from the checkpoint's; the new one holds from here"})
        fill(network, saved["network"], checkpoint_path)
        optimizer.load_state_dict(saved["optimizer"])
        step, seconds, history = saved["step"], saved["seconds"], saved["history"]

    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    faces = prepare_identity(config, root, device) if config.keeps_identity else None
    sampler = CropSampler(config.data, root, config.crop, faces.landmarks if faces else None)
    held_back = load_held_back(config, root, faces)
    report({"images": sampler.counts, "held_back": len(held_back), "device": str(device)})
    bfloat16 = uses_bfloat16(device)
    # Reading the data counts towards the limit, not towards the hours that the card will state.
    trained_from = time.monotonic()

    def save() -> None:
        elapsed = seconds + time.monotonic() - trained_from
        state = {"config": config.to_dict(), "network": network.state_dict(), "optimizer": optimizer.state_dict()}
        save_atomically(state | {"step": step, "seconds": elapsed, "history": history}, checkpoint_path)

    def out_of_time() -> bool:
        return minutes is not None and time.monotonic() - begun > minutes * 60

    with open(run / "log.jsonl", "a", buffering=1) as log:

        def emit(row: dict[str, Any]) -> None:
            row = {"step": step, "seconds": round(seconds + time.monotonic() - trained_from, 1)} | row
            log.write(json.dumps(row) + "\n")
            report(row)

        saved_at, recent = time.monotonic(), []
        while step < config.steps and not out_of_time():
            rng = np.random.default_rng([config.seed, step])
            torch.manual_seed(int(rng.integers(2**63)))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            batch = sampler.batch(config.batch, rng)
            x = to_tensor(batch.pixels, device)
            quality = torch.from_numpy(rng.uniform(1, ANCHORS, config.batch).astype(np.float32)).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                coded = network(x, quality, noisy_rate=step < config.rounded_from * config.steps)
            bpp = (coded.y_bits + coded.z_bits) / config.crop**2
            error = distortion(coded.x_hat, x, config.distortion)
            distance = identity(coded.x_hat, x, batch.matrices, faces.recogniser) if faces else torch.zeros_like(error)
            weight = rate_weight(quality, config.rate_weights)
            loss = objective(config.objective, bpp, error, distance, weight)
            if config.objective == "ip":  # without a face there is nothing but rate, and rate alone teaches nothing
                has_face = torch.from_numpy(~np.isnan(batch.matrices[:, 0, 0])).to(device)
                loss = loss * has_face
            loss = loss.mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            if not torch.isfinite(norm):
                raise FacecodecError(f"the gradient at step {step} is not finite: lower learning_rate and --resume")
            optimizer.step()
            step += 1

            recent.append((loss.item(), bpp.mean().item(), distance.mean().item(), norm.item()))
            if step % 100 == 0:
                means = dict(
                    zip(("loss", "bpp", "identity", "gradient"), np.mean(recent, axis=0).tolist(), strict=True)
                )
                emit({"steps": config.steps} | means)
                recent.clear()
            if step % config.validate_every == 0 or step == config.steps:
                history.append({"step": step, "rows": validate(network, held_back, device, faces)})
                emit({"validation": history[-1]["rows"], "objective": validation_loss(history[-1]["rows"], config)})
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                save()
                saved_at = time.monotonic()
        if not history or history[-1]["step"] != step:
            history.append({"step": step, "rows": validate(network, held_back, device, faces)})
            emit({"validation": history[-1]["rows"], "objective": validation_loss(history[-1]["rows"], config)})
        save()
