"""What every family's network gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

QUALITIES = 8  # whole q from 1, which networks are trained and validated for


@dataclass
class Coded:
    """What one pass gives: x_hat (B, 3, H, W), the bits of y and of z for each image (B,), and, of families whose
    latents a head can read, y_hat (B, M, h, w)."""

    x_hat: Tensor
    y_bits: Tensor
    z_bits: Tensor
    y_hat: Tensor | None = None
