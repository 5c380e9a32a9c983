"""Swin stages once more, window by window and pair of voxels by pair of voxels: the judge of the engine's stages.

Written from the description alone, in loops. The names of the parameters are those of the weights that the AutoFuse
paper's authors published.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn


class PlainAttention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9**3, heads))
        places = [(i, j, k) for i in range(5) for j in range(5) for k in range(5)]
        index = [[row_of_table(query, key) for key in places] for query in places]
        self.register_buffer("relative_position_index", torch.tensor(index))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, bias_rows: Tensor, mask: Tensor) -> Tensor:
        """Tokens of one window ``(N, C)``, rows of the table ``(N, N)``, what is added to the logits ``(N, N)``."""
        count, channels = tokens.shape
        width = channels // self.heads
        query, key, value = self.qkv(tokens).split(channels, dim=1)
        outcomes = []
        for head in range(self.heads):
            own = slice(head * width, (head + 1) * width)
            logits = query[:, own] @ key[:, own].T / math.sqrt(width)
            logits = logits + self.relative_position_bias_table[:, head][bias_rows.reshape(-1)].reshape(count, count)
            weights = torch.softmax(logits + mask, dim=1)
            outcomes.append(weights @ value[:, own])
        return self.proj(torch.cat(outcomes, dim=1))


class PlainPerceptron(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, 4 * channels)
        self.linear2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(nn.functional.gelu(self.linear1(x)))


class PlainSwinBlock(nn.Module):
    def __init__(self, channels: int, heads: int, shift: int, first_rows: bool) -> None:
        super().__init__()
        self.shift, self.first_rows = shift, first_rows
        self.norm1 = nn.LayerNorm(channels)
        self.attn = PlainAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = PlainPerceptron(channels)

    def forward(self, x: Tensor) -> Tensor:
        """One sample ``(D, H, W, C)``."""
        x = x + self.attended(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def attended(self, x: Tensor) -> Tensor:
        sides = x.shape[:3]
        window = [min(5, side) for side in sides]
        shift = [self.shift if side > 5 else 0 for side in sides]
        counts = [math.ceil(side / length) for side, length in zip(sides, window, strict=True)]
        padded = [count * length for count, length in zip(counts, window, strict=True)]
        whole = x.new_zeros(*padded, x.shape[3])
        whole[: sides[0], : sides[1], : sides[2]] = x
        outcome = torch.zeros_like(whole)
        for number in range(math.prod(counts)):
            corner = [n * w for n, w in zip(divided(number, counts), window, strict=True)]
            inner = [divided(token, window) for token in range(math.prod(window))]
            # Voxel p of the rolled map is voxel p + shift of the map, round the corner.
            rolled = [[c + i for c, i in zip(corner, place, strict=True)] for place in inner]
            sources = [[(r + s) % p for r, s, p in zip(place, shift, padded, strict=True)] for place in rolled]
            k, j, i = torch.tensor(sources).T
            pieces = torch.tensor([piece_of(place, padded, shift) for place in rolled])
            mask = -100.0 * (pieces[:, None] != pieces[None]).any(dim=2).to(x.dtype)
            if self.first_rows:
                rows = self.attn.relative_position_index[: len(sources), : len(sources)]
            else:
                rows = rows_of_window(tuple(window))
            outcome[k, j, i] = self.attn(whole[k, j, i], rows, mask)
        return outcome[: sides[0], : sides[1], : sides[2]]


class PlainSwinStage(nn.Module):
    def __init__(self, channels: int, heads: int, first_rows: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(PlainSwinBlock(channels, heads, shift, first_rows) for shift in (0, 2))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, D, H, W)``, same shape."""
        samples = []
        for sample in x:
            tokens = sample.permute(1, 2, 3, 0)
            for block in self.blocks:
                tokens = block(tokens)
            samples.append(tokens.permute(3, 0, 1, 2))
        return torch.stack(samples)


def row_of_table(query: tuple[int, ...], key: tuple[int, ...]) -> int:
    offsets = [q - k + 4 for q, k in zip(query, key, strict=True)]
    return offsets[0] * 81 + offsets[1] * 9 + offsets[2]


@cache
def rows_of_window(window: tuple[int, int, int]) -> Tensor:
    places = [divided(token, list(window)) for token in range(math.prod(window))]
    return torch.tensor([[row_of_table(query, key) for key in places] for query in places])


def divided(number: int, lengths: list[int]) -> tuple[int, int, int]:
    """Place of a number in an array of these sides, last axis fastest."""
    return number // (lengths[1] * lengths[2]), number // lengths[2] % lengths[1], number % lengths[2]


def piece_of(place: list[int], padded: list[int], shift: list[int]) -> tuple[bool, ...]:
    """Which axes' far ends, brought round by the roll, a place of the rolled map belongs to."""
    return tuple(s > 0 and p >= side - s for p, side, s in zip(place, padded, shift, strict=True))
