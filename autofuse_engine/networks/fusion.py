"""Fusion gate: per voxel and channel, how far to trust the pair's features against the single images' features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autofuse_engine.networks.blocks import activate_and_normalise


class FusionGate(nn.Module):
    """Weighs the pair path's features against features that are matched from both images alone.

    ``matched = norm(lrelu(conv3([fixed, moving])))``; two 1x1x1 convolutions of ``[pair, matched]`` give one logit
    each per channel and voxel, and a softmax of the two gives the weights. Softmax of two logits is the sigmoid of
    their difference, so the two convolutions are folded into one before they run: equal, cheaper, and free of the
    overflow of the exponentials in half precision. Both stay parameters, so that training and imported weights are
    those of the paper. They start at zero: both sources weigh one half.

    Args:
        channels: width C of the pair path at this stage; even.
        output: what follows the weighted sum, ``(B, C, ...)`` to ``(B, C, ...)``.
    """

    def __init__(self, channels: int, output: nn.Module) -> None:
        super().__init__()
        self.match = nn.Conv3d(channels, channels, kernel_size=3, padding=1)
        self.pair_logit = nn.Conv3d(2 * channels, channels, kernel_size=1)
        self.matched_logit = nn.Conv3d(2 * channels, channels, kernel_size=1)
        self.output = output
        for logit in (self.pair_logit, self.matched_logit):
            nn.init.zeros_(logit.weight)
            if logit.bias is not None:
                nn.init.zeros_(logit.bias)

    def forward(self, pair: Tensor, singles: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse.

        Args:
            pair: ``(B, C, D, H, W)``, features of the pair path.
            singles: ``(B, C, D, H, W)``, features of the fixed image, then of the moving image, C/2 each.

        Returns:
            The fused features ``(B, C, D, H, W)``, and the mean weight of the pair path's features ``(B,)``.
        """
        matched = activate_and_normalise(self.match(singles))
        weight, bias = self.folded_logit()
        logit = nn.functional.conv3d(torch.cat([pair, matched], dim=1), weight, bias)
        pair_weight = torch.sigmoid(logit)
        return self.output(torch.lerp(matched, pair, pair_weight)), pair_weight.detach().mean(dim=(1, 2, 3, 4))

    def folded_logit(self) -> tuple[Tensor, Tensor]:
        """Weight ``(C, 2C, 1, 1, 1)`` and bias ``(C,)`` of the difference between the two logits."""
        weight = self.pair_logit.weight - self.matched_logit.weight
        if self.pair_logit.bias is None or self.matched_logit.bias is None:
            raise ValueError("both logits of a fusion gate have a bias, received one without")
        return weight, self.pair_logit.bias - self.matched_logit.bias


class LargeKernels(nn.Module):
    """Four parallel convolutions with large and long kernels, merged and added to their input (ELK of the paper).

    ``norm(lrelu(conv1([conv 3x3x3, conv 5x1x1, conv 1x5x1, conv 1x1x5]) + x))``; 5x1x1 is long along the first
    spatial axis. ``(B, C, ...)`` to ``(B, C, ...)``, C even.
    """

    KERNELS = ((3, 3, 3), (5, 1, 1), (1, 5, 1), (1, 1, 5))

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv3d(channels, channels // 2, kernel_size=kernel, padding="same") for kernel in self.KERNELS
        )
        self.merge = nn.Conv3d(2 * channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, D, H, W)``, same shape."""
        merged = self.merge(torch.cat([branch(x) for branch in self.branches], dim=1))
        return activate_and_normalise(merged + x)
