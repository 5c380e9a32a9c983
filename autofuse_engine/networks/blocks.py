"""The small parts that every AutoFuse network is made of: convolutions, activation with norm, change of resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autofuse_engine.networks import lean
from autofuse_engine.networks.small_volumes import convolve_along_depth, convolve_in_halves, is_slow, runs_along_depth


class ConvBlock(nn.Module):
    """Twice: 3x3x3 convolution, LeakyReLU, instance norm; ``(B, in_channels, ...)`` to ``(B, out_channels, ...)``.

    The norm stands after the activation and has no parameters (section 3.1 of the AutoFuse paper).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1)
        self.second = nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, *parts: Tensor, halved: bool = False) -> Tensor:
        """Features of the parts' concatenation.

        Args:
            parts: ``(B, C, D, H, W)`` each; their channels add up to ``in_channels``.
            halved: whether to return the features at half the resolution, averaged.

        Returns:
            ``(B, out_channels, D, H, W)``, or half of each side.
        """
        if halved and len(parts) == 1 and lean.suits(parts[0], self.first.weight, self.second.weight):
            return lean.block_and_halve(parts[0], self.first, self.second)
        x = convolve_activate_normalise(parts, self.first)
        x = convolve_activate_normalise([x], self.second)
        return halve(x) if halved else x


class Siamese(nn.Module):
    """One block for two images: their features lie side by side in the channels, and each half passes through alone.

    ``(B, 2 * in_channels, ...)`` to ``(B, 2 * out_channels, ...)``.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *parts: Tensor, halved: bool = False) -> Tensor:
        """Features of both images; arguments as those of :class:`ConvBlock`, twice as wide."""
        halves = zip(*(part.chunk(2, dim=1) for part in parts), strict=True)
        return join([self.block(*half, halved=halved) for half in halves])


class Halving(nn.Module):
    """:func:`halve` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` to half of each side."""
        return halve(x)


class Doubling(nn.Module):
    """:func:`double` as a module."""

    def __init__(self, *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` to twice each side."""
        return double(x, align_corners=self.align_corners)


def convolve_activate_normalise(parts: Sequence[Tensor], conv: nn.Conv3d) -> Tensor:
    """Convolution of the parts' concatenation, LeakyReLU, instance norm; ``(B, C, D, H, W)``."""
    if all(lean.suits(part, conv.weight, conv.bias) for part in parts):
        return lean.convolve_activate_normalise(parts, conv)
    return activate_normalise_(convolve(join(parts), conv))


def convolve(x: Tensor, conv: nn.Conv3d) -> Tensor:
    """The convolution alone, ``(B, C, D, H, W)``; contiguous where nobody learns."""
    if lean.suits(x, conv.weight, conv.bias):
        return lean.convolve([x], conv).contiguous()
    if x.device.type == "cpu" and any(side < reach for side, reach in zip(x.shape[2:], conv.kernel_size, strict=True)):
        # Thinner than the kernel: in bfloat16, oneDNN's gradient of the weights is garbage there (torch 2.13).
        with torch.autocast("cpu", enabled=False):
            dtype = torch.promote_types(x.dtype, torch.float32)
            bias = None if conv.bias is None else conv.bias.to(dtype)
            return F.conv3d(x.to(dtype), conv.weight.to(dtype), bias, padding=conv.padding)
    if runs_along_depth(x, conv):
        return convolve_along_depth(x, conv)
    return convolve_in_halves(x, conv) if is_slow(x, conv) else conv(x)


def activate_normalise_(x: Tensor) -> Tensor:
    """LeakyReLU, then zero mean and unit variance per sample and channel; ``(B, C, D, H, W)``; overwrites ``x``."""
    # In place is safe for autograd here: what precedes, a convolution or a sum, does not need its own result.
    return F.instance_norm(F.leaky_relu_(x, lean.NEGATIVE_SLOPE), eps=lean.NORM_EPSILON)


def join(parts: Sequence[Tensor]) -> Tensor:
    """Concatenation along the channels; no copy of a single part."""
    return torch.cat(list(parts), dim=1) if len(parts) > 1 else parts[0]


def halve(x: Tensor) -> Tensor:
    """Mean of each 2x2x2 neighbourhood; every side of ``(B, C, D, H, W)`` is even."""
    return lean.halve(x) if lean.suits(x) else F.avg_pool3d(x, kernel_size=2)


def double(x: Tensor, *, align_corners: bool) -> Tensor:
    """Trilinear upsampling of ``(B, C, D, H, W)`` to twice the size along each spatial axis.

    With ``align_corners`` the centres of the corner voxels stay where they are, as in the official release;
    without, voxel ``i`` covers voxels ``2i`` and ``2i + 1``, which is the geometry of :func:`halve`.
    """
    return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=align_corners)
