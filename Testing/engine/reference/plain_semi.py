"""Semi-supervised AutoFuse once more, layer by layer: the judge of the engine's network, see ``plain_autofuse``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from Testing.engine.reference.plain_autofuse import PlainBlock, PlainFusionPath, PlainSinglePath


class PlainSegmentationHead(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.seg_head = nn.Conv3d(channels, classes, 1)


class PlainSegmentingPath(PlainSinglePath):
    def __init__(self, c: int, classes: int, align_corners: bool) -> None:
        super().__init__(c, align_corners)
        self.conv_9 = PlainBlock(2 * c + c, c)
        self.seghead = PlainSegmentationHead(c, classes)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = super().forward(image)
        x_9 = self.conv_9(torch.cat([self.up(features[-1]), self.conv_1(image)], dim=1))
        return [*features, self.seghead.seg_head(x_9)]


class PlainSemiAutoFuse(nn.Module):
    """``(B, 1, D, H, W)`` twice to mean, log-variance and the logits of both images."""

    def __init__(self, channels: int = 16, classes: int = 4, align_corners: bool = True) -> None:
        super().__init__()
        self.SinglePath = PlainSegmentingPath(channels, classes, align_corners)
        self.FusionPath = PlainFusionPath(channels, align_corners, True)
        self.FusionPath.conv_1 = PlainBlock(4, 2 * channels)

    def forward(self, fixed: Tensor, moving: Tensor, *, hard: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        *f, fixed_logits = self.SinglePath(fixed)
        *m, moving_logits = self.SinglePath(moving)
        maps = []
        for logits in (fixed_logits, moving_logits):
            classes = logits.shape[1]
            if hard:
                maps.append(logits.argmax(dim=1, keepdim=True) / classes)
            else:
                likely = torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)
                maps.append(sum(k * likely[:, k : k + 1] for k in range(classes)) / classes)
        # The plain fusion path joins two inputs; the maps come along with the moving image.
        mean, log_variance, _ = self.FusionPath(fixed, torch.cat([moving, *maps], dim=1), f, m)
        return mean, log_variance, fixed_logits, moving_logits
