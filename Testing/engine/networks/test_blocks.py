"""Convolution blocks and changes of resolution, judged by hand-computed cases and by torch's own layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autofuse_engine.networks.blocks import ConvBlock, activate_normalise_, convolve, double, halve
from Testing.engine.reference.plain_autofuse import PlainBlock


def test_the_activation_stands_before_the_norm() -> None:
    x = torch.tensor([-5.0, 1.0, 2.0, 4.0]).reshape(1, 1, 1, 2, 2)
    # By hand: the activation gives -1, 1, 2, 4, of mean 1.5 and variance 3.25.
    expected = torch.tensor([-2.5, -0.5, 0.5, 2.5]).reshape(1, 1, 1, 2, 2) / 3.25**0.5
    torch.testing.assert_close(activate_normalise_(x), expected, rtol=1e-5, atol=1e-5)


def test_the_norm_treats_each_sample_and_channel_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2, 3, 4, 6, 8, generator=generator) * 7 + torch.arange(3).reshape(3, 1, 1, 1)
    y = activate_normalise_(x)
    torch.testing.assert_close(y.mean(dim=(2, 3, 4)), torch.zeros(2, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(dim=(2, 3, 4), correction=0), torch.ones(2, 3), rtol=0, atol=1e-4)


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_block_equals_its_layers_one_after_the_other(learning: bool, batch: int) -> None:
    torch.manual_seed(2)
    plain, block = PlainBlock(5, 6), ConvBlock(5, 6)
    block.load_state_dict(
        {name.replace("Conv_1", "first").replace("Conv_2", "second"): w for name, w in plain.state_dict().items()}
    )
    left, right = torch.randn(batch, 2, 4, 6, 10), torch.randn(batch, 3, 4, 6, 10)
    with torch.set_grad_enabled(learning):
        expected = plain(torch.cat([left, right], dim=1))
        torch.testing.assert_close(block(left, right), expected, rtol=1e-4, atol=1e-5)
        whole = torch.cat([left, right], dim=1)
        halved = nn.functional.avg_pool3d(expected, 2)
        torch.testing.assert_close(block(whole, halved=True), halved, rtol=1e-4, atol=1e-5)


def test_halving_averages_eight_neighbours() -> None:
    x = torch.arange(2 * 4 * 6, dtype=torch.float32).reshape(1, 1, 2, 4, 6)
    # By hand: the first cell holds 0, 1, 6, 7 and the same plus 24.
    expected = torch.tensor([[15.5, 17.5, 19.5], [27.5, 29.5, 31.5]]).reshape(1, 1, 1, 2, 3)
    torch.testing.assert_close(halve(x), expected)
    torch.testing.assert_close(halve(x.requires_grad_()), expected)


def ramp(sides: tuple[int, int, int], axis: int) -> torch.Tensor:
    shape = [1, 1, 1, 1, 1]
    shape[axis + 2] = sides[axis]
    return torch.arange(sides[axis], dtype=torch.float32).reshape(shape).expand(1, 1, *sides).clone()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_corner_alignment_keeps_the_corners_and_stretches_evenly_between(axis: int) -> None:
    sides = (3, 4, 5)
    line = double(ramp(sides, axis), align_corners=True).movedim(axis + 2, -1)[0, 0, 0, 0]
    small = sides[axis]
    torch.testing.assert_close(line, torch.arange(2 * small) * (small - 1) / (2 * small - 1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_centre_alignment_undoes_the_geometry_of_halving(axis: int) -> None:
    sides = (3, 4, 5)
    line = double(ramp(sides, axis), align_corners=False).movedim(axis + 2, -1)[0, 0, 0, 0]
    # Voxel i lies at (i + 1/2) / 2 - 1/2 of the small grid; the border repeats.
    expected = ((torch.arange(2 * sides[axis]) + 0.5) / 2 - 0.5).clamp(0, sides[axis] - 1)
    torch.testing.assert_close(line, expected)
    fine = ramp((6, 8, 10), axis)
    inner = (slice(None), slice(None), *[slice(1, -1)] * 3)
    torch.testing.assert_close(double(halve(fine), align_corners=False)[inner], fine[inner])


def test_a_convolution_alone_is_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(4)
    conv = nn.Conv3d(3, 2, 3, padding=1)
    x = torch.randn(1, 3, 4, 6, 10)
    with torch.no_grad():
        lean = convolve(x, conv)
    assert lean.is_contiguous()
    torch.testing.assert_close(lean, convolve(x, conv), rtol=1e-5, atol=1e-6)
