"""VoxelMorph (Balakrishnan et al., CVPR 2018; Dalca et al., MICCAI 2018) as a path: a baseline to compare with.

A small U-Net on both images: strided convolutions down, nearest neighbours up, no norm. Widths for a base of 16 are
the paper's; other bases scale them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from autofuse_engine.networks import lean
from autofuse_engine.networks.blocks import join
from autofuse_engine.networks.paths import Path


@dataclass(frozen=True)
class VoxelMorphSize:
    """Widths at the end of the decoder, in eighths of the width 2 * base that all other stages but the first have."""

    last_half_resolution: int
    full_resolution: tuple[int, ...]


SIZES = {
    "voxelmorph-1": VoxelMorphSize(2, (2,)),
    "voxelmorph-2": VoxelMorphSize(8, (4, 4)),
    "voxelmorph-diff": VoxelMorphSize(8, ()),
}


def voxelmorph_path(size: VoxelMorphSize, base: int) -> Path:
    """The U-Net of one size; its input is the concatenation of both images.

    Args:
        size: one of :data:`SIZES`.
        base: channels of the first stage; a multiple of 4.
    """
    wide = 2 * base
    half, full = wide * size.last_half_resolution // 8, [wide * share // 8 for share in size.full_resolution]
    up = nn.Upsample(scale_factor=2, mode="nearest")
    encoders = [2, base, wide, wide, wide]
    strided = [Convolutions([pair], stride=2) for pair in pairwise(encoders)]
    decoders = [
        Convolutions([(wide, wide)]),
        Convolutions([(2 * wide, wide)]),
        Convolutions([(2 * wide, wide)]),
        Convolutions([(wide + base, wide), (wide, half)]),
    ]
    levels = [1, 2, 3, 4, 3, 2, 1]
    stages: list[nn.Module] = [*(nn.Identity() for _ in range(3)), *decoders]
    changes: list[nn.Module] = [*strided, up, up, up]
    if full:  # the images themselves are the skip of the finest level
        widths = [half + 2, *full]
        levels = [0, *levels, 0]
        stages = [nn.Identity(), *stages, Convolutions(list(pairwise(widths)))]
        changes = [nn.Identity(), *changes, up]
    return Path(stages, changes, levels)


def voxelmorph_width(size: VoxelMorphSize, base: int) -> int:
    """Channels that the path hands out at its end."""
    return 2 * base * (size.last_half_resolution, *size.full_resolution)[-1] // 8


class Convolutions(nn.Module):
    """3x3x3 convolutions, each followed by LeakyReLU; ``(B, in, D, H, W)`` to ``(B, out, D, H, W)``."""

    def __init__(self, widths: list[tuple[int, int]], stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv3d(*pair, kernel_size=3, padding=1, stride=stride) for pair in widths)

    def forward(self, *parts: Tensor) -> Tensor:
        """Features of the parts' concatenation."""
        x = join(parts)
        for layer in self.layers:
            x = F.leaky_relu_(layer(x), lean.NEGATIVE_SLOPE)
        return x
