"""Swin transformer stages for three dimensions: attention within windows that shift from block to block.

Swin: Liu et al., ICCV 2021, here as in AutoFuse-Trans (section 3.1 of the AutoFuse paper): two blocks a stage, windows
of 5x5x5 voxels, shifted by 2 in the second block. Inside of this file features are ``(B, D, H, W, C)``; modules take
and return ``(B, C, D, H, W)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autofuse_engine.networks.blocks import join
from autofuse_engine.networks.initialisation import initialise
from autofuse_engine.networks.paths import Path

LEVELS = (1, 2, 3, 4, 3, 2, 1)
HEADS = (4, 8, 16, 32, 16, 8, 4)
WINDOW = 5
SHIFT = 2
MLP_RATIO = 4
MASKED = -100.0
BiasOrder = Literal["offset", "token"]
Sides = tuple[int, int, int]


def swin_widths(base: int) -> tuple[int, ...]:
    """Channels that each stage of a Swin path hands out, for ``base`` channels at half resolution."""
    return tuple(base * factor for factor in (1, 2, 4, 8, 4, 2, 1))


def swin_path(in_channels: int, base: int, bias_order: BiasOrder) -> Path:
    """A path of :class:`SwinStage`, from half to 1/16 of the images' resolution and back; ``base`` divides by 4."""
    widths = swin_widths(base)
    changes: list[nn.Module] = [PatchShrinking(in_channels, base)]
    inputs = [base]
    for number in range(1, len(LEVELS)):
        down = LEVELS[number] > LEVELS[number - 1]
        changes.append((PatchShrinking if down else PatchExpanding)(widths[number - 1], widths[number]))
        inputs.append(widths[number] if down else 2 * widths[number])
    stages = [SwinStage(*sizes, bias_order) for sizes in zip(inputs, widths, HEADS, strict=True)]
    return Path(stages, changes, LEVELS)


class SwinStage(nn.Module):
    """Two blocks, the second with shifted windows; where two parts meet, a 1x1x1 convolution joins them first.

    Args:
        in_channels: of all parts together.
        channels: width of the stage; a multiple of ``heads``.
        heads: of the attention.
        bias_order: see :class:`WindowAttention`.
    """

    def __init__(self, in_channels: int, channels: int, heads: int, bias_order: BiasOrder = "offset") -> None:
        super().__init__()
        self.join = nn.Conv3d(in_channels, channels, kernel_size=1) if in_channels != channels else nn.Identity()
        self.blocks = nn.ModuleList(SwinBlock(channels, heads, shift, bias_order) for shift in (0, SHIFT))

    def forward(self, *parts: Tensor) -> Tensor:
        """Parts ``(B, C, D, H, W)`` whose channels add up to ``in_channels``, to ``(B, channels, D, H, W)``."""
        x = self.join(join(parts)).permute(0, 2, 3, 4, 1)
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 4, 1, 2, 3)


class PatchShrinking(nn.Module):
    """2x2x2 voxels become one, by a convolution of stride 2 and a norm over channels; also embeds images."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(in_channels, out_channels, kernel_size=2, stride=2)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, D, H, W)`` to ``(B, out_channels, D/2, H/2, W/2)``."""
        return _over_channels(self.norm, self.convolution(x))


class PatchExpanding(nn.Module):
    """One voxel becomes 2x2x2, by a transposed convolution of stride 2 and a norm over channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose3d(in_channels, out_channels, kernel_size=2, stride=2)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, D, H, W)`` to ``(B, out_channels, 2D, 2H, 2W)``."""
        return _over_channels(self.norm, self.convolution(x))


class SwinBlock(nn.Module):
    """Attention within windows, then a perceptron per voxel, each after a norm and added to its input.

    Sides that are no multiple of the window are padded with zeros after the norm. Along an axis where the map is not
    larger than a window, the window shrinks to the map and is not shifted.
    """

    def __init__(self, channels: int, heads: int, shift: int, bias_order: BiasOrder) -> None:
        super().__init__()
        self.shift = shift
        self.norm_1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, bias_order)
        self.norm_2 = nn.LayerNorm(channels)
        self.perceptron = nn.Sequential(
            nn.Linear(channels, MLP_RATIO * channels), nn.GELU(), nn.Linear(MLP_RATIO * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, H, W, C)``, same shape."""
        sides = x.shape[1:4]
        window = tuple(min(side, WINDOW) for side in sides)
        shift = tuple(self.shift if side > WINDOW else 0 for side in sides)
        missing = [-side % length for side, length in zip(sides, window, strict=True)]
        y = self.norm_1(x)
        if any(missing):
            y = F.pad(y, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))
        if any(shift):
            y = torch.roll(y, [-step for step in shift], dims=(1, 2, 3))
        y = self.attention(y, window, shift)
        if any(shift):
            y = torch.roll(y, shift, dims=(1, 2, 3))
        x = x + y[:, : sides[0], : sides[1], : sides[2]]
        return x + self.perceptron(self.norm_2(x))


class WindowAttention(nn.Module):
    """Multi-head attention among the voxels of each window, with a learned bias for each relative position.

    Args:
        channels: C, a multiple of ``heads``.
        heads: of the attention.
        bias_order: how windows that shrank to a small map use the table of biases. "offset": by the true relative
            position. "token": as if their voxels were the first of a whole window, counted along W, H, D; so did
            the networks whose weights were published.
    """

    def __init__(self, channels: int, heads: int, bias_order: BiasOrder) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels is a multiple of heads, received {channels} and {heads}")
        self.heads, self.bias_order = heads, bias_order
        self.relative_bias = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 3, heads))
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        initialise(partial(nn.init.trunc_normal_, std=0.02), self.relative_bias)

    def forward(self, x: Tensor, window: Sides, shift: Sides) -> Tensor:
        """Attend.

        Args:
            x: ``(B, D, H, W, C)``, rolled by ``-shift``; sides are multiples of those of the window.
            window: voxels a side.
            shift: by how much the map was rolled; 0 or less than the window along each axis. In the last windows
                of a rolled axis both ends of the map meet; voxels of different ends do not see each other.

        Returns:
            Same shape.
        """
        merged = self.query_key_value(x)
        index = relative_index(window, self.bias_order, x.device)
        bias = self.relative_bias[index.flatten()].view(*index.shape, self.heads).permute(2, 0, 1)
        result = merged.new_empty((*merged.shape[:-1], x.shape[-1]))
        for region, mixed in _regions(x.shape[1:4], window, shift):
            mask = bias + _mask(window, shift, mixed, x.device) if any(mixed) else bias
            result[region] = self._attend(merged[region], window, mask.to(merged.dtype))
        return self.projection(result)

    def _attend(self, merged: Tensor, window: Sides, bias: Tensor) -> Tensor:
        """Queries, keys and values ``(B, D, H, W, 3C)`` to values ``(B, D, H, W, C)``; bias ``(heads, N, N)``."""
        batch, *sides, width = merged.shape
        counts = [side // length for side, length in zip(sides, window, strict=True)]
        split = merged.view(
            batch,
            counts[0],
            window[0],
            counts[1],
            window[1],
            counts[2],
            window[2],
            3,
            self.heads,
            width // 3 // self.heads,
        )
        # To (3, B x windows, heads, voxels of a window, channels of a head).
        tokens = split.permute(7, 0, 1, 3, 5, 8, 2, 4, 6, 9).flatten(6, 8).flatten(1, 4)
        query, key, value = tokens.unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        seen = seen.view(batch, *counts, self.heads, *window, -1).permute(0, 1, 5, 2, 6, 3, 7, 4, 8)
        return seen.reshape(batch, *sides, width // 3)


Region = tuple[slice, slice, slice, slice]


def _regions(sides: Sequence[int], window: Sides, shift: Sides) -> Iterator[tuple[Region, tuple[bool, bool, bool]]]:
    """Parts of a rolled map whose windows share one mask, and along which axes both ends of the map meet in them."""
    axes = []
    for side, length, step in zip(sides, window, shift, strict=True):
        inner, last = slice(0, side - length), slice(side - length, side)
        parts = [(inner, False), (last, True)] if step else [(slice(0, side), False)]
        axes.append([part for part in parts if part[0].stop > part[0].start])
    for parts in product(*axes):
        yield (slice(None), *(part for part, _ in parts)), tuple(meets for _, meets in parts)  # type: ignore[misc]


@cache
def relative_index(window: Sides, order: BiasOrder, device: torch.device) -> Tensor:
    """Row of the table of biases for each query and key of a window, ``(N, N)``; see :class:`WindowAttention`."""
    with torch.inference_mode(False):
        places = torch.cartesian_prod(*(torch.arange(length) for length in (WINDOW,) * 3)).view(-1, 3)
        offsets = places[:, None] - places[None] + WINDOW - 1
        side = 2 * WINDOW - 1
        index = (offsets[..., 0] * side + offsets[..., 1]) * side + offsets[..., 2]
        if order == "offset":
            tokens = (places < torch.tensor(window)).all(dim=1).nonzero()[:, 0]
        else:
            tokens = torch.arange(math.prod(window))
        return index[tokens][:, tokens].contiguous().to(device)


@cache
def _mask(window: Sides, shift: Sides, mixed: tuple[bool, bool, bool], device: torch.device) -> Tensor:
    """What is added to the logits of a window in which ends of the map meet, ``(N, N)``."""
    with torch.inference_mode(False):
        ends = [
            torch.arange(length) >= length - step if meets else torch.zeros(length, dtype=torch.bool)
            for length, step, meets in zip(window, shift, mixed, strict=True)
        ]
        places = torch.cartesian_prod(*ends).view(-1, 3)
        apart = (places[:, None] != places[None]).any(dim=-1)
        return (MASKED * apart).to(device)


def _over_channels(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return norm(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
