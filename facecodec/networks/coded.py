"""The interface of every family's network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from facecodec.errors import UsageError

if TYPE_CHECKING:
    from facecodec.networks.head import HeadNetwork
    from facecodec.networks.transforms import Uncentred

QUALITIES = 8  # whole q from 1, which networks are trained and validated for


@dataclass
class Coded:
    """The result of a pass: x_hat (B, 3, H, W), and the bits of y and of z for each image, (B,).

    Families whose latents a head can read also give y_hat (B, M, h, w).
    """

    x_hat: Tensor
    y_bits: Tensor
    z_bits: Tensor
    y_hat: Tensor | None = None


class FamilyNetwork(nn.Module):
    """The network of a codec family.

    Families whose latents a head can read have `channels`, the channels M of y, the synthesis `g_s`
    and the method `latents`. `head` exists if the configuration asks for one.
    """

    channels: int
    g_s: Uncentred
    head: HeadNetwork

    def forward(self, x: Tensor, quality: Tensor, noisy_rate: bool = False) -> Coded:
        """Codes images x (B, 3, H, W) in 0..1, sides multiples of 16, at `quality` (B,) in 1..8.

        With `noisy_rate` the rate is that of latents with uniform noise, otherwise of rounded ones.
        """
        raise NotImplementedError

    def latents(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns y_hat and the bits of y and z, as in Coded."""
        raise NotImplementedError

    def adopted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the parameters of another family that this network can start from."""
        return state

    def learn_rate_alone(self) -> None:
        """Leave to training only what changes the bits and not the pictures.

        Raises UsageError in families that have no such part.
        """
        raise UsageError("the objective 'rate' is for the family 'sliced'")

    def frozen(self) -> dict[str, np.ndarray]:
        """Returns the tensors of a frozen model by name (docs/format.md)."""
        raise NotImplementedError
