"""Local NCC and scaling and squaring as one would write them down first: judges, and yardsticks for speed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def direct_local_ncc(fixed: Tensor, warped: Tensor, side: int = 9) -> Tensor:
    """Negative mean squared local correlation of ``(1, 1, D, H, W)`` images, with full ``side**3`` convolutions."""
    ones = torch.ones(1, 1, side, side, side, dtype=fixed.dtype, device=fixed.device)
    count = float(side**3)

    def window_sum(image: Tensor) -> Tensor:
        return F.conv3d(image, ones, padding=side // 2)

    sum_f, sum_w = window_sum(fixed), window_sum(warped)
    cross = window_sum(fixed * warped) - sum_f * sum_w / count
    variance_f = window_sum(fixed * fixed) - sum_f * sum_f / count
    variance_w = window_sum(warped * warped) - sum_w * sum_w / count
    return -(cross * cross / (variance_f * variance_w + 1e-5)).mean()


def plain_integrate(velocity_vox: Tensor, steps: int = 7) -> Tensor:
    """Displacement ``(1, 3, D, H, W)`` in voxels of the flow of a velocity field, one ``grid_sample`` a squaring."""
    sizes = velocity_vox.shape[2:]
    axes = [torch.arange(size, dtype=velocity_vox.dtype, device=velocity_vox.device) for size in sizes]
    identity = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    displacement = velocity_vox / 2**steps
    for _ in range(steps):
        places = identity + displacement
        normed = torch.stack([2 * places[:, axis] / (sizes[axis] - 1) - 1 for axis in (2, 1, 0)], dim=-1)
        moved = F.grid_sample(displacement, normed, mode="bilinear", padding_mode="border", align_corners=True)
        displacement = displacement + moved
    return displacement


def plain_warp(image: Tensor, displacement_vox: Tensor) -> Tensor:
    """``image(x + displacement(x))`` of ``(B, C, D, H, W)``, by one ``grid_sample``; the border continues."""
    sizes = image.shape[2:]
    axes = [torch.arange(size, dtype=image.dtype, device=image.device) for size in sizes]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None] + displacement_vox
    normed = torch.stack([2 * places[:, axis] / (sizes[axis] - 1) - 1 for axis in (2, 1, 0)], dim=-1)
    return F.grid_sample(image, normed, mode="bilinear", padding_mode="border", align_corners=True)
