"""Freezes untrained networks of a family, and compares their files with the networks' results."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from facecodec import frozen
from facecodec.codec import Codec
from facecodec.networks.coded import Coded
from facecodec.sessions import pad


def card(family: str) -> dict:
    return {
        "family": family,
        "objective": "rec",
        "distortion": "l2",
        "data": "none",
        "steps": 0,
        "rates": [],
    }


def model_of(network: nn.Module, family: str, folder: Path) -> Path:
    path = folder / "fresh.safetensors"
    frozen.save(path, card(family), network.frozen())
    return path


def beside_network(
    network: nn.Module, codec: Codec, picture: np.ndarray, quality: float
) -> tuple[bytes, Coded, float]:
    """Returns a file, the network's result, and the mean difference of their pixels."""
    data = codec.encode(picture, quality)
    codec.check(data, picture)
    x = torch.from_numpy(pad(picture, 16).copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        coded = network(x, torch.tensor([float(quality)]))
    height, width = picture.shape[:2]
    shown = 255 * coded.x_hat[0, :, :height, :width].clamp(0, 1).permute(1, 2, 0).numpy()
    return data, coded, float(np.abs(np.asarray(codec.decode(data)) - shown).mean())
