"""Convolutions on a detour, in halves or along depth: the numbers and gradients of the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autofuse_engine.networks.small_volumes import (
    convolve_along_depth,
    convolve_in_halves,
    is_slow,
    runs_along_depth,
)


@pytest.mark.parametrize("sides", [(8, 5, 7), (5, 8, 7), (5, 7, 2), (2, 4, 6)])
@pytest.mark.parametrize(
    ("kernel", "along_depth"),
    [((3, 3, 3), False), ((5, 1, 1), False), ((1, 5, 1), False), ((1, 1, 5), False), ((5, 1, 1), True)],
)
def test_numbers_and_gradients_are_those_of_the_plain_convolution(
    sides: tuple[int, int, int], kernel: tuple[int, int, int], along_depth: bool
) -> None:
    torch.manual_seed(2)
    conv = nn.Conv3d(3, 4, kernel, padding="same").double()
    detour = convolve_along_depth if along_depth else convolve_in_halves
    x = torch.randn(1, 3, *sides, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(1, 4, *sides, dtype=torch.float64)
    inputs = (x, *conv.parameters())
    expected, got = conv(x), detour(x, conv)
    torch.testing.assert_close(got, expected)
    wanted = torch.autograd.grad((expected * direction).sum(), inputs)
    found = torch.autograd.grad((got * direction).sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_it_is_for_one_small_float32_volume_with_an_even_side() -> None:
    conv = nn.Conv3d(16, 8, 3, padding=1)
    small = torch.zeros(1, 16, 32, 32, 24)
    assert is_slow(small, conv)
    assert not is_slow(torch.zeros(1, 16, 40, 40, 24), conv)
    assert not is_slow(torch.zeros(2, 16, 8, 8, 8), conv)
    assert not is_slow(torch.zeros(1, 16, 5, 7, 9), conv)
    assert not is_slow(small.double(), conv)
    assert not is_slow(small.to("meta"), conv)
    assert not is_slow(small, nn.Conv3d(16, 8, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_slow(small, conv)


def test_along_depth_run_kernels_that_reach_nowhere_else() -> None:
    x = torch.zeros(1, 16, 40, 40, 24)
    assert runs_along_depth(x, nn.Conv3d(16, 8, (5, 1, 1), padding="same"))
    assert runs_along_depth(torch.zeros(2, 16, 4, 4, 4), nn.Conv3d(16, 8, (3, 1, 1), padding="same"))
    for kernel in ((1, 5, 1), (1, 1, 5), (3, 3, 3), (1, 1, 1)):
        assert not runs_along_depth(x, nn.Conv3d(16, 8, kernel, padding="same"))
    conv = nn.Conv3d(16, 8, (5, 1, 1), padding="same")
    assert not runs_along_depth(x.double(), conv)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not runs_along_depth(x, conv)
