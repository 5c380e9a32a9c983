"""Regularity that the network itself decides: a smoothness weight for each voxel, and a code that sets how smooth.

Chen et al. 2024 (arXiv 2412.17982): a weight head predicts where the field may bend; a network that was trained with
many weights of its terms takes them as a code, so that they can be chosen when it predicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autofuse_engine.networks import lean
from autofuse_engine.networks.blocks import convolve, double
from autofuse_engine.networks.initialisation import initialise

LEAST_WEIGHT = 1e-6
LARGEST_PRIOR_WEIGHT = 0.2
LARGEST_GRADIENT_WEIGHT = 5.0
_SOFTEST = (0.01 / LARGEST_PRIOR_WEIGHT, 0.5 / LARGEST_GRADIENT_WEIGHT)  # lower ends of the search of the paper
_USUAL = (0.18 / LARGEST_PRIOR_WEIGHT, 3.35 / LARGEST_GRADIENT_WEIGHT)  # its best values
_STIFFEST = (1.0, 1.0)
Modulation = tuple[Tensor, Tensor]


class WeightHead(nn.Module):
    """Predicts how much smoothness counts at each voxel, from the features that also give the field.

    Three 3x3x3 convolutions, the first two followed by instance norm and LeakyReLU, trilinear doubling, sigmoid.

    Args:
        channels: width of the features.
        align_corners: geometry of the doubling, see :func:`~autofuse_engine.networks.blocks.double`.
    """

    WIDTH = 48

    def __init__(self, channels: int, *, align_corners: bool) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, self.WIDTH, kernel_size=3, padding=1)
        self.second = nn.Conv3d(self.WIDTH, self.WIDTH, kernel_size=3, padding=1)
        self.last = nn.Conv3d(self.WIDTH, 1, kernel_size=3, padding=1)
        self.align_corners = align_corners

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` to weights ``(B, 1, 2D, 2H, 2W)``, float32, in [1e-6, 1]."""
        x = _normalise_activate(convolve(features, self.first))
        x = _normalise_activate(convolve(x, self.second))
        # In float32: the logarithm of the weight is part of the loss.
        logit = double(convolve(x, self.last).float(), align_corners=self.align_corners)
        return torch.sigmoid(logit).clamp(LEAST_WEIGHT, 1.0)


def _normalise_activate(x: Tensor) -> Tensor:
    return F.leaky_relu(F.instance_norm(x, eps=lean.NORM_EPSILON), lean.NEGATIVE_SLOPE)


class Conditioning(nn.Module):
    """From a code to a scale and a shift for each channel of each block: conditional instance norm.

    The blocks' norms have no parameters of their own, so scaling and shifting a block's output is what remains of a
    conditional norm. A perceptron of six layers, 96 wide, is shared; each block has one linear map of its outcome.

    Args:
        widths: channels of each block.
    """

    WIDTH = 96
    LAYERS = 6

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(self.LAYERS):
            linear = nn.Linear(self.WIDTH if number else 2, self.WIDTH)
            initialise(partial(nn.init.kaiming_normal_, nonlinearity="relu"), linear.weight)
            layers += [linear, nn.ReLU()]
        self.perceptron = nn.Sequential(*layers)
        self.modulations = nn.ModuleList(nn.Linear(self.WIDTH, 2 * width) for width in widths)
        for modulation in self.modulations:
            # Not zero: the perceptron learns from the first step on.
            initialise(partial(nn.init.normal_, std=0.01), modulation.get_parameter("weight"))
            nn.init.zeros_(modulation.get_parameter("bias"))

    def forward(self, code: Tensor) -> list[Modulation]:
        """Code ``(B, 2)`` in [0, 1] to scale and shift ``(B, C, 1, 1, 1)`` of each block."""
        if code.ndim != 2 or code.shape[1] != 2:
            raise ValueError(f"a code is (B, 2), received {tuple(code.shape)}")
        features = self.perceptron(code)
        pairs = [modulation(features)[:, :, None, None, None].chunk(2, dim=1) for modulation in self.modulations]
        return [(1 + scale, shift) for scale, shift in pairs]


def modulate(x: Tensor, modulation: Modulation) -> Tensor:
    """``x * scale + shift``, ``(B, C, D, H, W)``."""
    scale, shift = modulation
    return torch.addcmul(shift, x, scale)


def random_code(batch: int, generator: torch.Generator | None = None) -> Tensor:
    """Codes for one step of training, uniform in [0, 1], ``(B, 2)``, on the CPU."""
    return torch.rand(batch, 2, generator=generator)


def code_for_smoothness(factor: float) -> Tensor:
    """The code ``(1, 2)`` for a factor of smoothness, 0.1 to 10.

    At 0.1 it asks for the lowest weights that the paper tried, at 1 for its best ones, at 10 for the largest that are
    trained; linear in the logarithm of the factor between these.

    Raises:
        ValueError: if the factor lies outside of 0.1 to 10.
    """
    if not 0.1 <= factor <= 10:
        raise ValueError(f"factor is 0.1..10, received {factor}")
    share = math.log10(factor)
    end = _STIFFEST if share > 0 else _SOFTEST
    return torch.tensor([[usual + abs(share) * (last - usual) for usual, last in zip(_USUAL, end, strict=True)]])


def term_weights(code: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the prior and of the gradient term that a code ``(B, 2)`` stands for, ``(B,)`` each."""
    prior, gradient = code.unbind(dim=1)
    return LARGEST_PRIOR_WEIGHT * prior, LARGEST_GRADIENT_WEIGHT * gradient
