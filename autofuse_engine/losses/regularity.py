"""How smooth and how far from folding a field is. Smaller is more regular."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from autofuse_engine.spatial.jacobian import jacobian_determinant


def squared_gradient(field_vox: Tensor) -> Tensor:
    """Sum over the three axes of the mean squared forward difference of ``(B, 3, D, H, W)``; diffusion energy."""
    return torch.stack([field_vox.diff(dim=axis).square().mean() for axis in (2, 3, 4)]).sum()


def folding_penalty(displacement_vox: Tensor, margin: float = 0.0) -> Tensor:
    """Mean of ``max(0, margin - J)`` over all cells of ``(B, 3, D, H, W)``, J the true Jacobian determinant.

    The AutoFuse paper (eq. 6) sums instead; its weight 1e-5 equals a weight of 44.2 on this mean at 144 x 192 x 160.
    """
    return F.relu(margin - jacobian_determinant(displacement_vox)).mean()


def kl_divergence(velocity_mean: Tensor, velocity_log_variance: Tensor, smoothness: float = 50.0) -> Tensor:
    """Divergence of the predicted velocity from a smooth prior, per voxel and up to a constant (VoxelMorph-diff).

    ``0.5 * 3 * (mean(smoothness * degree * exp(s) - s) + smoothness * P)`` with s the log-variance, degree the number
    of neighbours through a face that lie inside of the volume, and ``P = 0.5 / 3 *`` :func:`squared_gradient` of the
    mean (Dalca et al. 2019, eq. 4; AutoFuse paper, section 3.4). Its gradient with respect to s vanishes at
    ``s = -log(smoothness * degree)``.

    Args:
        velocity_mean: ``(B, 3, D, H, W)``, voxels.
        velocity_log_variance: same shape.
        smoothness: precision of the prior, lambda of the paper.
    """
    if velocity_mean.shape != velocity_log_variance.shape or velocity_mean.shape[1:2] != (3,):
        shapes = f"{tuple(velocity_mean.shape)} and {tuple(velocity_log_variance.shape)}"
        raise ValueError(f"mean and log-variance are (B, 3, D, H, W) both, received {shapes}")
    degree = smoothness * _neighbours(velocity_mean)
    spread = (degree * velocity_log_variance.exp() - velocity_log_variance).mean()
    return 1.5 * spread + 0.25 * smoothness * squared_gradient(velocity_mean)


def _neighbours(like: Tensor) -> Tensor:
    """``(D, H, W)``: how many of the six neighbours of a voxel lie inside of the volume."""
    total = like.new_zeros(like.shape[2:])
    for axis, size in enumerate(like.shape[2:]):
        inside = like.new_full((size,), 2.0)
        inside[0] -= 1
        inside[-1] -= 1
        total += inside.view([-1 if other == axis else 1 for other in range(3)])
    return total
