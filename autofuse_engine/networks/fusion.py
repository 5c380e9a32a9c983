"""Ways to fuse the pair's features with those of the single images: the gate of the paper, a sum, or not at all."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autofuse_engine.networks import lean
from autofuse_engine.networks.blocks import activate_normalise_, convolve, convolve_activate_normalise, join


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
        for parameter in (*self.pair_logit.parameters(), *self.matched_logit.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, pair: Tensor, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse.

        Args:
            pair: ``(B, C, D, H, W)``, features of the pair path.
            fixed: ``(B, C/2, D, H, W)``, features of the fixed image alone.
            moving: ``(B, C/2, D, H, W)``, features of the moving image alone.

        Returns:
            The fused features ``(B, C, D, H, W)``, and the mean weight of the pair path's features ``(B,)``.
        """
        matched = convolve_activate_normalise([fixed, moving], self.match)
        weight, bias = self.folded_logit()
        if not matched.requires_grad and lean.suits(pair, weight, bias):
            fused, mean = lean.gate_(pair, matched, weight, bias)
            return self.output(fused), mean
        pair_half, matched_half = weight.chunk(2, dim=1)
        share = torch.sigmoid(F.conv3d(pair, pair_half, bias) + F.conv3d(matched, matched_half))
        # Under autocast the three may differ in precision.
        share, pair = share.to(matched.dtype), pair.to(matched.dtype)
        return self.output(torch.lerp(matched, pair, share)), share.detach().float().mean(dim=(1, 2, 3, 4))

    def folded_logit(self) -> tuple[Tensor, Tensor]:
        """Weight ``(C, 2C, 1, 1, 1)`` and bias ``(C,)`` of the difference between the two logits."""
        (pair_weight, pair_bias), (matched_weight, matched_bias) = (
            (logit.weight, logit.bias) for logit in (self.pair_logit, self.matched_logit)
        )
        if pair_bias is None or matched_bias is None:
            raise ValueError("the logits of a fusion gate have a bias, received one without")
        return pair_weight - matched_weight, pair_bias - matched_bias


class FusionSum(nn.Module):
    """Adds the matched features to the pair's, without weights (Tables 3 and 7 of the paper); otherwise as the gate."""

    def __init__(self, channels: int, output: nn.Module) -> None:
        super().__init__()
        self.match = nn.Conv3d(channels, channels, kernel_size=3, padding=1)
        self.output = output

    def forward(self, pair: Tensor, fixed: Tensor, moving: Tensor) -> tuple[Tensor, None]:
        """Arguments as those of :class:`FusionGate`; the fused features ``(B, C, D, H, W)``, and no weight."""
        return self.output(pair + convolve_activate_normalise([fixed, moving], self.match)), None


class NoFusion(nn.Module):
    """Passes the pair's features on alone (Table 7): the single images then count through their segmentations."""

    def forward(self, pair: Tensor, fixed: Tensor, moving: Tensor) -> tuple[Tensor, None]:
        """The pair's features as they are, and no weight."""
        return pair, None


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
        branches = cast("list[nn.Conv3d]", list(self.branches))
        if lean.suits(x, *self.parameters()):
            return lean.large_kernels(x, branches, self.merge)
        return activate_normalise_(self.merge(join([convolve(x, branch) for branch in branches])) + x)
