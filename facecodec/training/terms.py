"""The terms of a configuration's loss, and the networks that are trained for their sake."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facecodec.faces.alignment import jitter
from facecodec.faces.teachers import load_head_teacher, load_teacher
from facecodec.networks.coded import Coded, FamilyNetwork
from facecodec.networks.head import HeadOutputs
from facecodec.training.adversary import Adversary
from facecodec.training.config import Config
from facecodec.training.data import Batch
from facecodec.training.distributed import Processes
from facecodec.training.losses import (
    HEAD_TERMS,
    HeadLoss,
    IdentityLoss,
    distortion,
    objective,
    rate_weight,
)

ADAPTED_LEARNING_RATE = 2e-5  # of a recogniser that is trained with the codec


class Terms:
    """The terms of a step's loss.

    `identity` and `head` are None if the configuration has no such term.
    """

    def __init__(self, config: Config, data: Path | None, processes: Processes) -> None:
        self._config = config
        self.identity = self.head = self.adapted = self.adversary = None
        teachers = []
        if config.keeps_identity:
            teachers = [
                (recogniser, load_teacher(recogniser.name, data).to(processes.device))
                for recogniser in config.recognisers
            ]
        if config.trains_recogniser:
            self.adapted = copy.deepcopy(teachers[0][1]).requires_grad_(True)
            self._optimizer = torch.optim.Adam(self.adapted.parameters(), lr=ADAPTED_LEARNING_RATE)
            self._looking = processes.distribute(self.adapted)
        if config.keeps_identity:
            self.identity = IdentityLoss(
                teachers,
                config.recognisers_drawn,
                config.recogniser_dropout,
                config.varied_views,
                self._looking if self.adapted else None,
            )
        if config.head:
            self.head_teacher = load_head_teacher(data).to(processes.device)
            self.head = HeadLoss(self.head_teacher)
        if config.adversarial:
            self.adversary = Adversary(processes)

    def __call__(
        self,
        coded: Coded,
        outputs: HeadOutputs | None,
        x: Tensor,
        quality: Tensor,
        batch: Batch,
        rng: np.random.Generator,
    ) -> dict[str, Tensor]:
        """Returns the terms by name, (B,), and their weighted sum as `loss`."""
        config = self._config
        bpp = (coded.y_bits + coded.z_bits) / (x.shape[2] * x.shape[3])
        weight = rate_weight(quality, config.rate_weights)
        terms = {"bpp": bpp, "distortion": torch.zeros_like(bpp)}
        if config.objective in ("rec", "ipr"):
            terms["distortion"] = distortion(
                coded.x_hat, x, config.distortion, config.averages_weight
            )
        kept = torch.zeros_like(bpp)
        if self.identity is not None:
            terms["identity"], terms["features"] = self.identity(
                coded.x_hat, x, jitter(batch.matrices, rng), rng
            )
            kept = config.identity_weight * (terms["identity"] + terms["features"])
        loss = torch.zeros_like(bpp)
        if not config.trains_head_alone:
            loss = objective(config.objective, bpp, terms["distortion"], kept, weight)
        if config.objective == "ip":  # without a face the only term would be the rate
            loss = loss * torch.from_numpy(~np.isnan(batch.matrices[:, 0, 0])).to(x.device)
        if self.adversary is not None:
            terms["adversarial"] = self.adversary.judge(coded.x_hat)
            loss = loss + config.adversarial * terms["adversarial"] / weight.sqrt()
        if self.head is not None:
            assert outputs is not None, "a network with a head gives its outputs"
            read = self.head(outputs, x, batch.matrices, batch.labels)
            terms |= read
            loss = loss + config.head_weight * sum(
                HEAD_TERMS[name] * each for name, each in read.items()
            )
        return {"loss": loss} | terms

    def step(self, x: Tensor, coded: Coded) -> None:
        """Makes a step of the networks that are trained with the codec, after the codec's own."""
        if self.adapted is not None:
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        if self.adversary is not None:
            self.adversary.learn(x, coded.x_hat)

    def state(self) -> dict[str, Any]:
        """Returns the state for the checkpoint. It is empty if only the codec is trained."""
        state = {}
        if self.adapted is not None:
            state["adapted"] = {
                "network": self.adapted.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            }
        if self.adversary is not None:
            state["adversary"] = self.adversary.state()
        return state

    def load(self, state: dict[str, Any]) -> None:
        if self.adapted is not None:
            self.adapted.load_state_dict(state["adapted"]["network"])
            self._optimizer.load_state_dict(state["adapted"]["optimizer"])
        if self.adversary is not None:
            self.adversary.load(state["adversary"])


class Pass(nn.Module):
    """One pass of a family's network and of its head, if it has one.

    If only the head or the rate is trained, it makes no pictures. It freezes what is not trained.
    """

    def __init__(self, network: FamilyNetwork, config: Config) -> None:
        super().__init__()
        self.network = network
        self._config = config
        if config.trains_head_alone:
            network.requires_grad_(False)
            finding = (network.head.find, network.head.refine)
            for part in finding if config.objective == "find" else (network.head,):
                part.requires_grad_(True)
        if config.objective == "rate":
            network.learn_rate_alone()
        if config.analysis_alone:
            network.learn_analysis_alone()

    def forward(
        self, x: Tensor, quality: Tensor, noisy_rate: bool, matrices: Tensor | None
    ) -> tuple[Coded, HeadOutputs | None]:
        if self._config.makes_pictures:
            coded = self.network(x, quality, noisy_rate)
        else:
            y_hat, y_bits, z_bits = self.network.latents(x, quality)
            coded = Coded(x, y_bits, z_bits, y_hat)
        if not self._config.head:
            return coded, None
        assert coded.y_hat is not None, "a head reads latents"
        if self._config.objective == "find":
            return coded, HeadOutputs(*self.network.head.look_twice(coded.y_hat, matrices)[:2])
        return coded, self.network.head(coded.y_hat, matrices)
