"""The segmentation that a semi-supervised network makes of each image, and the map that tells the pair path of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autofuse_engine.networks.blocks import convolve


class SegmentationHead(nn.Module):
    """Class scores from the last features of the single-image path (section 3.3 of the AutoFuse paper).

    Args:
        channels: of the features.
        classes: K, background (class 0) counted.
        hard: code the most probable class instead of the expected one; no gradient passes through that map.
    """

    def __init__(self, channels: int, classes: int, *, hard: bool) -> None:
        super().__init__()
        self.scores = nn.Conv3d(channels, classes, kernel_size=1)
        self.hard = hard

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, D, H, W)`` to logits ``(B, K, D, H, W)`` and the map ``(B, 1, D, H, W)`` with values in [0, 1)."""
        logits = convolve(features, self.scores)
        code = hard_code(logits) if self.hard else expected_code(logits)
        return logits, code.to(features.dtype)


def expected_code(logits: Tensor) -> Tensor:
    """``sum_k k * p_k / K``: the expected label over the number of classes, differentiable; float32.

    Args:
        logits: ``(B, K, D, H, W)``.

    Returns:
        ``(B, 1, D, H, W)``.
    """
    classes = logits.shape[1]
    labels = torch.arange(classes, device=logits.device, dtype=torch.float32).view(1, -1, 1, 1, 1)
    return (torch.softmax(logits.float(), dim=1) * labels).sum(dim=1, keepdim=True) / classes


def hard_code(logits: Tensor) -> Tensor:
    """``argmax_k p_k / K``, as imported weights know it; float32, same shapes as :func:`expected_code`."""
    return logits.argmax(dim=1, keepdim=True).float() / logits.shape[1]
