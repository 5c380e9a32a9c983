"""How smooth and how far from folding a field is. Smaller is more regular.

Gradients are in closed form: those of slices, which autograd would take, fill and add a whole field for each.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from autofuse_engine.spatial.jacobian import jacobian_determinant


def squared_gradient(field_vox: Tensor) -> Tensor:
    """Sum over the three axes of the mean squared forward difference of ``(B, 3, D, H, W)``; diffusion energy."""
    return _SquaredGradient.apply(field_vox)  # pyright: ignore[reportReturnType]


class _SquaredGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, field: Tensor) -> Tensor:
        gradient = torch.zeros_like(field) if ctx.needs_input_grad[0] else None
        means = []
        for axis in (2, 3, 4):
            step = field.diff(dim=axis)
            means.append(step.square().mean())
            if gradient is not None:
                share, steps = 2.0 / step.numel(), step.shape[axis]
                gradient.narrow(axis, 1, steps).add_(step, alpha=share)
                gradient.narrow(axis, 0, steps).sub_(step, alpha=share)
        ctx.save_for_backward(gradient)
        return torch.stack(means).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> Tensor:  # pyright: ignore
        (gradient,) = ctx.saved_tensors
        return gradient * output_gradient


def folding_penalty(displacement_vox: Tensor, margin: float = 0.0) -> Tensor:
    """Mean of ``max(0, margin - J)`` over all cells of ``(B, 3, D, H, W)``, J the true Jacobian determinant.

    The AutoFuse paper (eq. 6) sums instead; its weight 1e-5 equals a weight of 44.2 on this mean at 144 x 192 x 160.
    """
    if displacement_vox.device.type != "cpu":  # to know which cells are about to fold means to wait for a GPU
        return F.relu(margin - jacobian_determinant(displacement_vox)).mean()
    return _FoldingPenalty.apply(displacement_vox, margin)  # pyright: ignore[reportReturnType]


class _FoldingPenalty(torch.autograd.Function):
    """Its gradient is that of the few cells whose determinant is below the margin."""

    @staticmethod
    def forward(ctx: Any, field: Tensor, margin: float) -> Tensor:
        missing = F.relu(margin - jacobian_determinant(field))
        ctx.save_for_backward(field, torch.nonzero(missing) if ctx.needs_input_grad[0] else None)
        ctx.cells = missing.numel()
        return missing.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        field, cells = ctx.saved_tensors
        _, _, _, height, width = field.shape
        batch, depth, row, column = cells.unbind(1)
        corner = (depth * height + row) * width + column
        ends = [corner + step for step in (height * width, width, 1)]
        values = field.flatten(2)
        at_corner = values[batch, :, corner]
        unit = torch.eye(3, dtype=field.dtype, device=field.device)
        columns = [values[batch, :, end] - at_corner + unit[axis] for axis, end in enumerate(ends)]
        gradient = torch.zeros_like(values)
        for axis, end in enumerate(ends):
            # d determinant / d column: the cross product of the other two
            by_end = torch.linalg.cross(columns[axis - 2], columns[axis - 1]) * (-output_gradient / ctx.cells)
            for channel, by_channel in enumerate(by_end.unbind(1)):
                place = torch.full_like(batch, channel)
                gradient.index_put_((batch, place, end), by_channel, accumulate=True)
                gradient.index_put_((batch, place, corner), -by_channel, accumulate=True)
        return gradient.view_as(field), None


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
