"""A discriminator as a metric: it learns to distinguish decoded faces from originals.

After Chen and He (2018).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from facecodec.training.distributed import Processes

WIDTHS = (32, 64, 128)
LEARNING_RATE = 2e-4


class Adversary:
    """A discriminator of patches of 22 pixels, with the hinge loss.

    Its layers have spectral norm 1, so that it stays smooth.
    """

    def __init__(self, processes: Processes) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self._plain = nn.Sequential(*layers, spectral_norm(nn.Conv2d(WIDTHS[-1], 1, 1))).to(
            processes.device
        )
        self._network = processes.distribute(self._plain)
        self._optimizer = torch.optim.Adam(
            self._plain.parameters(), lr=LEARNING_RATE, betas=(0.5, 0.9)
        )

    def judge(self, x_hat: Tensor) -> Tensor:
        """Returns the loss (B,) of decoded pictures (B, 3, H, W): low if they look original."""
        self._plain.requires_grad_(False)
        judged = self._plain(x_hat.float() - 0.5).flatten(1).mean(1)
        self._plain.requires_grad_(True)
        return -judged

    def learn(self, x: Tensor, x_hat: Tensor) -> None:
        """Trains the discriminator for one step."""
        judged = self._network(torch.cat([x.float(), x_hat.detach().float()]) - 0.5)
        real, fake = judged.chunk(2)
        self._optimizer.zero_grad(set_to_none=True)
        (F.relu(1 - real).mean() + F.relu(1 + fake).mean()).backward()
        self._optimizer.step()

    def state(self) -> dict[str, Any]:
        return {"network": self._plain.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self._plain.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
