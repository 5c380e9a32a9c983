"""FocalDice and the five segmentation terms with whole arrays of memberships, as the formulas are written."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LEAST = 1e-5


def plain_focal_dice(target: Tensor, probability: Tensor) -> Tensor:
    """Of ``(1, K, D, H, W)`` memberships and probabilities; logarithms are cut off at 1e-5."""
    if target.shape != probability.shape or target.shape[0] != 1:
        raise ValueError(f"both are (1, K, D, H, W), received {tuple(target.shape)} and {tuple(probability.shape)}")
    focal = -0.25 * target * (1 - probability) ** 2 * probability.clamp(min=LEAST).log()
    both, first, second = (
        part[0].flatten(1).sum(dim=1) for part in (target * probability, target, probability)
    )  # a class that nobody holds is perfect
    dice = (2 * both + 1e-5) / (first + second + 1e-5)
    return (1 - dice[1:]).mean() + focal.sum() / target[0, 0].numel()


def memberships(labels: Tensor, classes: int) -> Tensor:
    """``(1, K, D, H, W)`` of integer labels ``(1, 1, D, H, W)``, 0 or 1 as float32."""
    return torch.nn.functional.one_hot(labels[:, 0].long(), classes).movedim(-1, 1).float()


def plain_segmentation_terms(
    fixed_logits: Tensor,
    moving_logits: Tensor,
    fixed_labels: Tensor,
    moving_labels: Tensor,
    displacement_vox: Tensor,
    warp: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Arguments of ``autofuse_engine.losses.segmentation_terms``, and a plain ``warp(image, displacement)``."""
    likely_fixed, likely_moving = (logits.softmax(1) for logits in (fixed_logits, moving_logits))
    fixed, moving = (
        memberships(labels, fixed_logits.shape[1]).to(fixed_logits) for labels in (fixed_labels, moving_labels)
    )
    warped = warp(moving, displacement_vox)
    return {
        "moving_segmentation": plain_focal_dice(moving, likely_moving),
        "fixed_segmentation": plain_focal_dice(fixed, likely_fixed),
        "warped_segmentation": plain_focal_dice(fixed, warp(likely_moving, displacement_vox)),
        "segmentation_of_warped_labels": plain_focal_dice(warped, likely_fixed),
        "warped_labels": plain_focal_dice(fixed, warped),
    }
