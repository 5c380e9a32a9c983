"""The weight head and the conditioning by a code, judged by their layers one after the other and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autofuse_engine.networks.regularizer import (
    Conditioning,
    WeightHead,
    code_for_smoothness,
    modulate,
    random_code,
    term_weights,
)

SIDES = (4, 6, 5)


def plain_weight_head(head: WeightHead, features: torch.Tensor, *, align_corners: bool) -> torch.Tensor:
    norm, activation = nn.InstanceNorm3d(48), nn.LeakyReLU(0.2)
    x = activation(norm(head.first(features)))
    x = activation(norm(head.second(x)))
    x = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=align_corners)(head.last(x))
    return x.sigmoid()


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_weight_head_equals_its_layers(batch: int, align_corners: bool, learning: bool) -> None:
    torch.manual_seed(1)
    head, features = WeightHead(8, align_corners=align_corners), torch.randn(batch, 8, *SIDES)
    with torch.no_grad():
        head.last.weight.mul_(10)
        expected = plain_weight_head(head, features, align_corners=align_corners)
    assert expected.std() > 0.1
    with torch.set_grad_enabled(learning):
        weight = head(features)
    assert weight.shape == (batch, 1, 8, 12, 10)
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-5)


def test_weights_stay_above_zero_so_that_their_logarithm_exists() -> None:
    head = WeightHead(4, align_corners=False)
    nn.init.zeros_(head.last.weight)
    for bias, expected in ((-200.0, 1e-6), (200.0, 1.0)):
        nn.init.constant_(head.get_parameter("last.bias"), bias)
        weight = head(torch.randn(1, 4, *SIDES))
        assert float(weight.detach().min()) == float(weight.detach().max()) == pytest.approx(expected)


def test_a_code_scales_and_shifts_each_channel_of_each_block() -> None:
    torch.manual_seed(2)
    conditioning = Conditioning([3, 5])
    code = torch.tensor([[0.2, 0.9], [0.7, 0.1]])
    features = code
    for layer in conditioning.perceptron:
        features = layer(features)
    outcome = conditioning.modulations[1](features)
    scale, shift = conditioning(code)[1]
    x = torch.randn(2, 5, *SIDES)
    expected = x.clone()
    for sample in range(2):
        for channel in range(5):
            expected[sample, channel] = (
                x[sample, channel] * (1 + outcome[sample, channel]) + outcome[sample, channel + 5]
            )
    torch.testing.assert_close(modulate(x, (scale, shift)), expected)
    assert [tuple(pair[0].shape) for pair in conditioning(code)] == [(2, 3, 1, 1, 1), (2, 5, 1, 1, 1)]


def test_the_perceptron_has_six_layers_of_96() -> None:
    linear = [layer for layer in Conditioning([4]).perceptron if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(2, 96)] + 5 * [(96, 96)]


def test_a_fresh_conditioning_does_little_but_hears_the_code_and_learns_everywhere() -> None:
    torch.manual_seed(3)
    conditioning = Conditioning([4, 6])
    low, high = conditioning(torch.tensor([[0.0, 0.0]])), conditioning(torch.tensor([[1.0, 1.0]]))
    for (scale, shift), (other_scale, other_shift) in zip(low, high, strict=True):
        assert (scale - 1).abs().max() < 0.6
        assert shift.abs().max() < 0.6
        assert (scale - other_scale).abs().max() > 1e-3
        assert (shift - other_shift).abs().max() > 1e-3
    torch.stack([scale.sum() + shift.sum() for scale, shift in high]).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in conditioning.parameters())


def test_a_code_has_two_numbers() -> None:
    with pytest.raises(ValueError, match=r"received \(1, 3\)"):
        Conditioning([4])(torch.zeros(1, 3))


def test_random_codes_fill_the_square_and_repeat_with_their_seed() -> None:
    codes = random_code(4000, torch.Generator().manual_seed(5))
    assert codes.shape == (4000, 2)
    assert 0 <= float(codes.min()) < 0.01
    assert 0.99 < float(codes.max()) <= 1
    assert abs(float(torch.corrcoef(codes.T)[0, 1])) < 0.05
    assert torch.equal(codes, random_code(4000, torch.Generator().manual_seed(5)))


@pytest.mark.parametrize(
    ("factor", "prior", "gradient"),
    [(0.1, 0.01, 0.5), (1.0, 0.18, 3.35), (10.0, 0.2, 5.0), (10**0.5, 0.19, 4.175), (10**-0.5, 0.095, 1.925)],
)
def test_the_factor_of_smoothness_runs_through_the_papers_weights(factor: float, prior: float, gradient: float) -> None:
    weights = torch.cat(term_weights(code_for_smoothness(factor)))
    torch.testing.assert_close(weights, torch.tensor([prior, gradient]))


@pytest.mark.parametrize("factor", [0.09, 10.1, float("nan")])
def test_factors_out_of_range_are_refused(factor: float) -> None:
    with pytest.raises(ValueError, match=r"0\.1\.\.10"):
        code_for_smoothness(factor)
