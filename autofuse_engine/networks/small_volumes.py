"""Convolution of a small volume on the CPU, while learning: as two halves, for which PyTorch takes the fast way.

``conv3d`` decides by sizes whether oneDNN computes it, forward and backward (torch 2.13: more than one sample, or
channels x D x H above 20480). Below, its own loops are up to eight times slower on one core. Two overlapping halves
are two samples. Measured in docs/decisions/0066.
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
