"""The small parts that every AutoFuse network is made of: convolutions, activation with norm, change of resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NEGATIVE_SLOPE = 0.2
NORM_EPSILON = 1e-5


class ConvBlock(nn.Module):
    """Twice: 3x3x3 convolution, LeakyReLU, instance norm; ``(B, in_channels, ...)`` to ``(B, out_channels, ...)``.

    The norm stands after the activation and has no parameters (section 3.1 of the AutoFuse paper).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1)
        self.second = nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, D, H, W)`` to ``(B, out_channels, D, H, W)``."""
        return activate_and_normalise(self.second(activate_and_normalise(self.first(x))))


def activate_and_normalise(x: Tensor) -> Tensor:
    """LeakyReLU, then zero mean and unit variance per sample and channel; ``(B, C, D, H, W)``, same shape."""
    return F.instance_norm(F.leaky_relu(x, NEGATIVE_SLOPE), eps=NORM_EPSILON)


def halve(x: Tensor) -> Tensor:
    """Mean of each 2x2x2 neighbourhood; every side of ``(B, C, D, H, W)`` is even."""
    return F.avg_pool3d(x, kernel_size=2)


def double(x: Tensor, *, align_corners: bool) -> Tensor:
    """Trilinear upsampling of ``(B, C, D, H, W)`` to twice the size along each spatial axis.

    With ``align_corners`` the centres of the corner voxels stay where they are, as in the official release;
    without, voxel ``i`` covers voxels ``2i`` and ``2i + 1``, which is the geometry of :func:`halve`.
    """
    return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=align_corners)


def is_learning(x: Tensor) -> bool:
    """True where autograd may need the tensor's present values, so that it must not be overwritten."""
    return torch.is_grad_enabled() and x.requires_grad
