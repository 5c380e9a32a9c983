"""How well two segmentations overlap: soft Dice and focal loss, and their sum. Smaller is better."""

from __future__ import annotations

from torch import Tensor

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2
LEAST_PROBABILITY = 1e-5
"""Where a logarithm of what was interpolated is cut off."""
_EMPTY = 1e-5


def focal_loss(probability: Tensor, log_probability: Tensor) -> Tensor:
    """``-alpha (1 - b)^gamma log(b)`` for each probability b of what is there (Lin et al., ICCV 2017), any shape."""
    return -FOCAL_ALPHA * (1 - probability).pow(FOCAL_GAMMA) * log_probability


def focal_dice_of_sums(both: Tensor, first: Tensor, second: Tensor, focal: Tensor, voxels: int) -> Tensor:
    """Soft Dice loss over the foreground plus focal loss over all classes; a float32 scalar.

    ``mean_k(1 - 2 sum(a b) / sum(a + b))`` over the classes but the first, plus the mean over voxels of
    ``sum_k -alpha a (1 - b)^gamma log(b)``, with target a, probability b, alpha 0.25, gamma 2 (AutoFuse paper, section
    3.4). A class that neither of the two holds counts as perfect.

    Args:
        both: ``(K,)``, the sum of a b over the voxels for each class; class 0 is background.
        first: ``(K,)``, of a.
        second: ``(K,)``, of b.
        focal: scalar, the sum of the focal loss over voxels and classes.
        voxels: number of voxels.

    Raises:
        ValueError: if there is no foreground.
    """
    if both.ndim != 1 or len(both) < 2:
        raise ValueError(f"sums are (K,) with K of at least 2, received {tuple(both.shape)}")
    dice = (2 * both + _EMPTY) / (first + second + _EMPTY)
    return (1 - dice[1:]).mean().float() + focal.float() / voxels
