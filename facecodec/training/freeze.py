"""Turns a training run into a frozen model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facecodec import frozen
from facecodec.errors import UsageError
from facecodec.faces.teachers import HEAD_SPACE, export_teacher, load_teacher
from facecodec.training.config import HEAD_OBJECTIVES, parse_config, stored_config
from facecodec.training.gradients import is_searched, write_model
from facecodec.training.starts import CHECKPOINT, build_network, data_of, past_runs


def freeze(run: Path, out: Path, force: bool = False) -> str:
    """Writes the frozen model `out`, from which later runs can start. Returns the fingerprint.

    A recogniser that was trained with the codec becomes RUN/recogniser.onnx, a head heads/NAME, and
    a search file search/NAME, if the search supports the model. If the run trained only a head,
    only the head is written, for the model `out`. If it trained only the analysis, that of the
    model `out` is replaced, and files coded with it can still be decoded. Raises UsageError if the
    run has no checkpoint, and, without `force`, if the model or head exists: if a whole model is
    overwritten, files coded with it can no longer be decoded.
    """
    path = run / CHECKPOINT
    if not path.exists():
        raise UsageError(f"{run} has no checkpoint to freeze")
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: a model file ends in .safetensors")
    saved = torch.load(path, map_location="cpu", weights_only=True)
    config = parse_config(stored_config(saved["config"]))
    written = frozen.head_path(out) if config.trains_head_alone else out
    if written.exists() and not force:
        raise UsageError(f"{written} exists", "{force} overwrites it")
    network = build_network(config)
    network.load_state_dict(saved["network"])
    network.eval()
    if "adapted" in saved.get("terms", {}):
        adapted = load_teacher(config.recognisers[0].name, None)
        adapted.load_state_dict(saved["terms"]["adapted"]["network"])
        export_teacher(adapted, run / "recogniser.onnx")
    classes = saved["classes"] if config.head.get("classes") else []
    runs = past_runs(saved)
    own = [run for run in runs if run["objective"] not in HEAD_OBJECTIVES]
    if config.objective == "rate":  # pictures are those of the run before
        objectives = [run["objective"] for run in own if run["objective"] != "rate"]
        config = replace(config, objective=(objectives or ["rec"])[-1])
    card = {
        "family": config.family,
        "objective": config.objective,
        "distortion": config.distortion,
        "data": data_of(config),
        "steps": sum(run["steps"] for run in own),
        "runs": own,
        "rates": saved["history"][-1]["rows"] if saved["history"] else [],
    }
    if config.analysis_alone:
        return _replace_analysis(out, card, network.frozen())
    head = {"space": HEAD_SPACE, "classes": classes, "runs": runs}
    if config.trains_head_alone:
        known = frozen.read_card(out)
        if known.runs != own:
            raise UsageError(f"{out}: the head was trained for another model")
        frozen.save_head(frozen.head_path(out), known.fingerprint, head, network.head.frozen())
        return known.fingerprint
    mark = frozen.save(out, card, network.frozen())
    if config.head:
        frozen.save_head(frozen.head_path(out), mark, head, network.head.frozen())
    if is_searched(config):
        write_model(out, config)
    return mark


def _replace_analysis(out: Path, card: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """Gives a model another analysis and hyper-analysis. Returns its fingerprint, which stays.

    Raises UsageError unless the run that made them started from this model.
    """
    known, kept = frozen.load(out)
    if known.runs != card["runs"][:-1]:
        raise UsageError(f"{out}: the analysis was trained for another model")
    kept |= {name: each for name, each in tensors.items() if name.startswith(frozen.ENCODER_ONLY)}
    trained = {name: card[name] for name in ("steps", "runs", "rates")}
    return frozen.save(out, known.stored() | trained, kept)
