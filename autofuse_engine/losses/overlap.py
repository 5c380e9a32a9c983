"""How well two segmentations overlap: soft Dice, focal loss, and their sum. Smaller is better.

A class contributes four sums to the loss, so that many classes can be taken a few at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2
LEAST_PROBABILITY = 1e-5
_EMPTY = 1e-5


def focal_dice(target: Tensor, probability: Tensor) -> Tensor:
    """Soft Dice loss over the foreground plus focal loss over all classes; a scalar.

    ``mean_k(1 - 2 sum(a b) / sum(a + b))`` over the classes but the first, plus the mean over voxels of
    ``sum_k -alpha a (1 - b)^gamma log(b)``, with target a, probability b, alpha 0.25, gamma 2 (Lin et al., ICCV 2017;
    AutoFuse paper, section 3.4). A class that neither of the two holds counts as perfect.

    Args:
        target: ``(B, K, D, H, W)``, class memberships in [0, 1]; class 0 is background.
        probability: same shape.

    Raises:
        ValueError: if shapes differ or there is no foreground.
    """
    if target.shape != probability.shape or target.ndim != 5:
        raise ValueError(f"both are (B, K, D, H, W), received {tuple(target.shape)} and {tuple(probability.shape)}")
    return focal_dice_from_sums(overlap_sums(target, probability), target[0, 0].numel())


def overlap_sums(target: Tensor, probability: Tensor, log_probability: Tensor | None = None) -> Tensor:
    """What :func:`focal_dice_from_sums` needs to know of some classes.

    Args:
        target: ``(B, K', D, H, W)``.
        probability: same shape.
        log_probability: where it is known better than as the logarithm of ``probability``, which is cut off at 1e-5.

    Returns:
        ``(B, K', 4)``: sums over the voxels of a b, a, b, and the focal loss.
    """
    if log_probability is None:
        log_probability = probability.clamp(min=LEAST_PROBABILITY).log()
    focal = -FOCAL_ALPHA * target * (1 - probability).pow(FOCAL_GAMMA) * log_probability
    return torch.stack([part.flatten(2).sum(dim=2) for part in (target * probability, target, probability, focal)], -1)


def focal_dice_from_sums(sums: Tensor, voxels: int) -> Tensor:
    """:func:`focal_dice` of ``(B, K, 4)`` sums over ``voxels`` voxels; class 0 is background."""
    if sums.ndim != 3 or sums.shape[1] < 2:
        raise ValueError(f"sums are (B, K, 4) with K of at least 2, received {tuple(sums.shape)}")
    both, first, second, focal = sums.unbind(dim=2)
    dice = (2 * both + _EMPTY) / (first + second + _EMPTY)
    return (1 - dice[:, 1:]).mean() + focal.sum(dim=1).mean() / voxels
