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

QUALITIES = 8  # networks are trained for q from 1 to this, and validated at each whole q


@dataclass
class Coded:
    """The result of a pass: x_hat (B, 3, H, W), and the bits of y and z of each image, (B,).

    If a head can read the family's latents, there is also y_hat (B, M, h, w).
    """

    x_hat: Tensor
    y_bits: Tensor
    z_bits: Tensor
    y_hat: Tensor | None = None


class FamilyNetwork(nn.Module):
    """The network of a codec family.

    If a head can read the family's latents, it has `channels`, the number M of channels of y, the
    synthesis `g_s` and the method `latents`. `head` exists if the configuration has a [head].
    """

    channels: int
    g_s: Uncentred
    head: HeadNetwork

    def forward(self, x: Tensor, quality: Tensor, noisy_rate: bool = False) -> Coded:
        """Codes images x (B, 3, H, W) in 0..1, sides multiples of 16, at `quality` (B,) in 1..8.

        The bits are those of rounded latents, or with `noisy_rate` of latents with uniform noise.
        """
        raise NotImplementedError

    def latents(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns y_hat and the bits of y and z, as in Coded."""
        raise NotImplementedError

    def adopted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Converts the parameters of another family into those from which this network starts."""
        return state

    def learn_rate_alone(self) -> None:
        """Freezes all parameters except those that change the bits but not the pictures.

        Raises UsageError for families that have no such parameters.
        """
        raise UsageError("the objective 'rate' is for the family 'sliced'")

    def learn_analysis_alone(self) -> None:
        """Freezes all parameters except those that only encoders need.

        Raises UsageError for families without a hyperprior.
        """
        raise UsageError("analysis_alone is for the families 'hyperprior' and 'sliced'")

    def frozen(self) -> dict[str, np.ndarray]:
        """Returns the tensors of a frozen model by name (docs/format.md)."""
        raise NotImplementedError
