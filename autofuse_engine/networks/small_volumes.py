"""Convolutions on the CPU, while learning, for which PyTorch takes a slow way: small volumes, and kernels along depth.

``conv3d`` decides by sizes whether oneDNN computes it, forward and backward (torch 2.13: more than one sample, or
channels x D x H above 20480). Below, its own loops are up to eight times slower on one core. Two overlapping halves
are two samples. A kernel k x 1 x 1 goes to those loops at any size (it passes for one of 1 x 1): as a kernel k x 1 over
the planes, each unrolled to a row, it takes a tenth of the time. Measured in docs/decisions/0066.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOW_UP_TO = 20480


def is_slow(x: Tensor, conv: nn.Conv3d) -> bool:
    """Whether ``conv`` of ``x`` is worth the detour: one small float32 volume on the CPU, an axis of even length."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[0] == 1
        and x.shape[1:4].numel() <= _SLOW_UP_TO
        and max(conv.kernel_size) > 1
        and any(side % 2 == 0 for side in x.shape[2:])
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )


def runs_along_depth(x: Tensor, conv: nn.Conv3d) -> bool:
    """Whether :func:`convolve_along_depth` is worth the detour: a kernel k x 1 x 1 on the CPU, in float32."""
    depth, *plane = conv.kernel_size
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and depth > 1
        and plane == [1, 1]
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )


def convolve_along_depth(x: Tensor, conv: nn.Conv3d) -> Tensor:
    """``conv`` of ``(B, C, D, H, W)``, kernel k x 1 x 1, k odd, zero padding that keeps the size; differentiable."""
    rows = F.conv2d(x.flatten(3), conv.weight.flatten(3), conv.bias, padding=(conv.kernel_size[0] // 2, 0))
    return rows.unflatten(3, x.shape[3:])


def convolve_in_halves(x: Tensor, conv: nn.Conv3d) -> Tensor:
    """``conv`` of ``(1, C, D, H, W)``, any odd kernel, zero padding that keeps the size; differentiable."""
    axis = next(axis for axis in (2, 3, 4) if x.shape[axis] % 2 == 0)
    reaches = [side // 2 for side in conv.kernel_size]
    reach, half = reaches[axis - 2], x.shape[axis] // 2
    padding = [0] * (2 * (4 - axis)) + [reach, reach]
    padded = F.pad(x, padding)
    halves = torch.cat([padded.narrow(axis, start, half + 2 * reach) for start in (0, half)])
    reaches[axis - 2] = 0
    result = F.conv3d(halves, conv.weight, conv.bias, padding=reaches)
    return torch.cat(result.split(1), dim=axis)
