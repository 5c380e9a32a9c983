"""Smoothness weighed voxel by voxel, and the prior that keeps the weights from vanishing. Smaller is more regular.

Chen et al. 2024 (arXiv 2412.17982). The weights come from the network; without a prior it would choose zero.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

WeightPrior = Literal["beta", "normal"]


def weighted_squared_gradient(displacement_vox: Tensor, weight: Tensor) -> Tensor:
    """Mean over the three axes of the mean of ``weight * (forward difference)**2``.

    A difference between two voxels takes the weight of the one farther along the axis.

    Args:
        displacement_vox: ``(B, 3, D, H, W)``, the final displacement.
        weight: ``(B, 1, D, H, W)``, in (0, 1].

    Returns:
        ``(B,)``.

    Raises:
        ValueError: if shapes do not match.
    """
    if weight.shape != (displacement_vox.shape[0], 1, *displacement_vox.shape[2:]):
        raise ValueError(
            f"weight is (B, 1, D, H, W) of the field, received {tuple(weight.shape)}, {tuple(displacement_vox.shape)}"
        )
    means = [
        (weight.narrow(axis, 1, weight.shape[axis] - 1) * displacement_vox.diff(dim=axis).square()).mean((1, 2, 3, 4))
        for axis in (2, 3, 4)
    ]
    return torch.stack(means).mean(dim=0)


def beta_prior(weight: Tensor) -> Tensor:
    """Mean of ``-log(weight)``, ``(B,)``: a Beta prior whose mode is 1; weights lie in (0, 1]."""
    return -weight.log().mean(dim=(1, 2, 3, 4))


def normal_prior(weight: Tensor) -> Tensor:
    """Mean of ``(weight - 1)**2``, ``(B,)``: a normal prior around 1; its weight is the inverse variance."""
    return (weight - 1).square().mean(dim=(1, 2, 3, 4))


def spatially_varying_regularity(
    displacement_vox: Tensor,
    weight: Tensor,
    *,
    gradient_weight: float | Tensor = 3.35,
    prior_weight: float | Tensor = 0.18,
    prior: WeightPrior = "beta",
) -> Tensor:
    """Weighted smoothness plus prior, mean over the batch; the default weights are the paper's best.

    Args:
        displacement_vox: ``(B, 3, D, H, W)``, the final displacement.
        weight: ``(B, 1, D, H, W)``, in (0, 1], from the network.
        gradient_weight: of the smoothness, g of the paper; one, or ``(B,)``.
        prior_weight: of the prior, b of the paper for "beta", 1 / sd**2 for "normal"; one, or ``(B,)``.
        prior: which one.

    Raises:
        ValueError: if the prior is unknown or shapes do not match.
    """
    if prior not in ("beta", "normal"):
        raise ValueError(f"prior is 'beta' or 'normal', received {prior!r}")
    term = beta_prior(weight) if prior == "beta" else normal_prior(weight)
    return (gradient_weight * weighted_squared_gradient(displacement_vox, weight) + prior_weight * term).mean()
