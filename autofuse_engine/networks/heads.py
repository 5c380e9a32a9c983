"""The last convolutions of a network: from features to a velocity with its spread, or to a displacement."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from autofuse_engine.networks.blocks import convolve, convolve_activate_normalise
from autofuse_engine.networks.initialisation import initialise


class FieldHead(nn.Module):
    """Mean and log-variance of the field: a shared convolution, then one each; starts near the identity.

    Args:
        channels: width of the features.
        shared: whether there is the shared convolution, with LeakyReLU and instance norm.
        displacement: whether the field is the displacement itself; it then has no variance.
    """

    def __init__(self, channels: int, *, shared: bool = True, displacement: bool = False) -> None:
        super().__init__()
        self.shared = nn.Conv3d(channels, channels, kernel_size=3, padding=1) if shared else None
        self.mean = nn.Conv3d(channels, 3, kernel_size=3, padding=1)
        self.log_variance = None if displacement else nn.Conv3d(channels, 3, kernel_size=3, padding=1)
        self.is_displacement = displacement
        for layer, deviation, bias in ((self.mean, 1e-5, 0.0), (self.log_variance, 1e-10, -10.0)):
            if layer is not None:
                initialise(partial(nn.init.normal_, std=deviation), layer.weight)
                nn.init.constant_(layer.get_parameter("bias"), bias)

    def forward(self, x: Tensor, *, log_variance: bool) -> tuple[Tensor, Tensor | None]:
        """``(B, C, D, H, W)`` to the mean and, where there is one and it is asked for, the log-variance.

        Both are ``(B, 3, D, H, W)``.
        """
        if self.shared is not None:
            x = convolve_activate_normalise([x], self.shared)
        # The last convolutions may be of higher precision than the rest, see network_for_inference.
        x = x.to(self.mean.weight.dtype)
        # Under autocast too: the field keeps its digits.
        with torch.autocast(x.device.type, enabled=False):
            spread = convolve(x, self.log_variance) if log_variance and self.log_variance is not None else None
            return convolve(x, self.mean), spread

    def keep_digits(self) -> None:
        """Bring the last convolutions to float32, whatever the precision of the others."""
        self.mean.float()
        if self.log_variance is not None:
            self.log_variance.float()
