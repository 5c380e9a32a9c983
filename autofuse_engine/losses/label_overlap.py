"""Soft Dice of carried labels, a few labels at a time: a loss for networks that need not segment."""

from __future__ import annotations

from torch import Tensor

from autofuse_engine.spatial.warp import warp

_EMPTY = 1e-5


def label_overlap(fixed_labels: Tensor, moving_labels: Tensor, displacement_vox: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``1 - 2 sum(a b) / sum(a + b)`` over the labels that both images have; 0 where they share none.

    ``a`` is the membership of the fixed image, ``b`` the warped membership of the moving image: labels are warped as
    memberships, trilinearly, so that each has a gradient (SynthMorph, arXiv 2004.10282, eq. 4).

    Args:
        fixed_labels: ``(1, 1, D, H, W)``, integer classes.
        moving_labels: same shape.
        displacement_vox: ``(1, 3, D, H, W)``, voxels.
        labels: ``(N,)``, the classes that count; memory grows with their number.

    Returns:
        A scalar in [0, 1].
    """
    if fixed_labels.shape != moving_labels.shape or fixed_labels.shape[:2] != (1, 1):
        shapes = tuple(fixed_labels.shape), tuple(moving_labels.shape)
        raise ValueError(f"both labelmaps are (1, 1, D, H, W), received {shapes[0]} and {shapes[1]}")
    values = labels.to(fixed_labels.device).view(1, -1, 1, 1, 1)
    fixed, moving = ((one == values).to(displacement_vox.dtype) for one in (fixed_labels, moving_labels))
    warped = warp(moving, displacement_vox)
    both, first, second = (one.flatten(2).sum(dim=2) for one in (fixed * warped, fixed, warped))
    shared = ((first > 0) & (moving.flatten(2).sum(dim=2) > 0)).to(warped.dtype)
    missed = 1 - 2 * both / (first + second + _EMPTY)
    return (missed * shared).sum() / shared.sum().clamp(min=1)
