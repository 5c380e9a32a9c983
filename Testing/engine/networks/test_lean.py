"""Prediction slab by slab equals the plain way, whatever the size of a slab, and harms nobody's tensors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autofuse_engine.networks import lean, slabs

SLABS = {
    "one plane each": (1, 1),
    "one plane each, two threads": (1, 2),
    "some planes each": (40_000, 1),
    "some planes each, three threads": (40_000, 3),
    "all planes at once": (2**30, 1),
}


@pytest.fixture(autouse=True, params=SLABS.values(), ids=SLABS.keys())
def slab_bytes_and_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setattr(slabs, "SMALLEST_SLAB_BYTES", 1)
    monkeypatch.setattr(slabs, "SLAB_BYTES", request.param[0])
    torch.set_num_threads(request.param[1])
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-5)


def normalised(x: torch.Tensor) -> torch.Tensor:
    return F.instance_norm(F.leaky_relu(x, 0.2), eps=1e-5)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (5, 1, 1), (1, 5, 1), (1, 1, 5), (1, 1, 1)])
@pytest.mark.parametrize("channels", [[1], [2], [8], [3, 5], [4, 2, 2]])
def test_convolutions_of_parts_equal_the_convolution_of_the_whole(
    generator: torch.Generator, kernel: tuple[int, int, int], channels: list[int]
) -> None:
    parts = [torch.randn(1, count, 7, 10, 12, generator=generator) for count in channels]
    conv = nn.Conv3d(sum(channels), 6, kernel, padding="same")
    expected = conv(torch.cat(parts, dim=1))
    close(lean.convolve(parts, conv), expected)
    close(lean.convolve_activate_normalise(parts, conv), normalised(expected))


def test_computers_without_onednn_get_the_same(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 8, 6, 10, 12, generator=generator)
    conv = nn.Conv3d(8, 6, 3, padding=1)
    monkeypatch.setattr(lean, "_has_onednn", lambda dtype: False)
    close(lean.convolve_activate_normalise([x], conv), normalised(conv(x)))


def test_halving_equals_average_pooling(generator: torch.Generator) -> None:
    x = torch.randn(1, 5, 6, 10, 14, generator=generator)
    close(lean.halve(x), F.avg_pool3d(x, 2))


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_first_block_equals_its_layers_and_the_pooling_after_them(
    generator: torch.Generator, channels: int
) -> None:
    x = torch.rand(1, channels, 10, 6, 14, generator=generator)
    first, second = nn.Conv3d(channels, 4, 3, padding=1), nn.Conv3d(4, 6, 3, padding=1)
    expected = F.avg_pool3d(normalised(second(normalised(first(x)))), 2)
    close(lean.block_and_halve(x, first, second), expected)


def test_the_gate_equals_the_sigmoid_form(generator: torch.Generator) -> None:
    pair, matched = torch.randn(2, 1, 6, 5, 8, 10, generator=generator)
    weight, bias = torch.randn(6, 12, 1, 1, 1, generator=generator), torch.randn(6, generator=generator)
    share = torch.sigmoid(F.conv3d(torch.cat([pair, matched], dim=1), weight, bias))
    expected = share * pair + (1 - share) * matched
    fused, mean = lean.gate_(pair, matched.clone(), weight, bias)
    close(fused, expected)
    torch.testing.assert_close(mean, share.mean().reshape(1))


def test_large_kernels_equal_their_layers(generator: torch.Generator) -> None:
    x = torch.randn(1, 8, 5, 10, 12, generator=generator)
    kernels = [(3, 3, 3), (5, 1, 1), (1, 5, 1), (1, 1, 5)]
    branches = [nn.Conv3d(8, 4, kernel, padding="same") for kernel in kernels]
    merge = nn.Conv3d(16, 8, 1)
    expected = normalised(merge(torch.cat([branch(x) for branch in branches], dim=1)) + x)
    close(lean.large_kernels(x, branches, merge), expected)


def test_the_norm_keeps_its_digits_where_the_mean_is_far_larger_than_the_spread(generator: torch.Generator) -> None:
    x = torch.rand(1, 2, 12, 30, 40, generator=generator)
    conv = nn.Conv3d(2, 3, 1)
    conv.weight.copy_(torch.tensor([[0.01, 0.0], [0.0, 0.02], [0.01, 0.01]]).reshape(3, 2, 1, 1, 1))
    conv.bias.fill_(30.0)
    exact = normalised(conv.double()(x.double()))
    conv.float()
    # The input of the norm carries 2e-6 of rounding at a spread of 3e-3, which bounds what any method can give.
    torch.testing.assert_close(
        lean.convolve_activate_normalise([x], conv).double(), exact, rtol=0, atol=2e-3, check_dtype=True
    )


def test_inputs_stay_as_they_are(generator: torch.Generator) -> None:
    x = torch.randn(1, 8, 6, 10, 12, generator=generator).contiguous(memory_format=torch.channels_last_3d)
    kept = x.clone()
    first, second = nn.Conv3d(8, 8, 3, padding=1), nn.Conv3d(8, 8, 3, padding=1)
    lean.block_and_halve(x, first, second)
    lean.convolve_activate_normalise([x], first)
    lean.halve(x)
    lean.large_kernels(x, [nn.Conv3d(8, 8, 1)], nn.Conv3d(8, 8, 1))
    lean.gate_(x, x.clone(), torch.randn(8, 16, 1, 1, 1), torch.randn(8))
    assert torch.equal(x, kept)


def test_two_runs_are_equal_bit_for_bit(generator: torch.Generator) -> None:
    x = torch.randn(1, 8, 6, 10, 12, generator=generator)
    conv = nn.Conv3d(8, 6, 3, padding=1)
    assert torch.equal(lean.convolve_activate_normalise([x], conv), lean.convolve_activate_normalise([x], conv))


def test_the_result_is_in_channels_last_order_whose_convolutions_are_fast(generator: torch.Generator) -> None:
    x = torch.randn(1, 8, 6, 10, 12, generator=generator)
    result = lean.convolve_activate_normalise([x], nn.Conv3d(8, 6, 3, padding=1))
    assert result.is_contiguous(memory_format=torch.channels_last_3d)
    assert result.stride(0) == result.numel(), "else torch does not take it for channels-last, and copies"


def test_bfloat16_keeps_the_sums_of_the_norm_in_float32(generator: torch.Generator) -> None:
    x = torch.randn(1, 8, 16, 20, 24, generator=generator)
    conv = nn.Conv3d(8, 6, 3, padding=1)
    result = lean.convolve_activate_normalise([x.bfloat16()], conv.bfloat16()).float()
    torch.testing.assert_close(result, normalised(conv.float()(x)), rtol=0.02, atol=0.03)
    torch.testing.assert_close(result.mean(dim=(2, 3, 4)), torch.zeros(1, 6), rtol=0, atol=2e-3)
    torch.testing.assert_close(result.var(dim=(2, 3, 4), correction=0), torch.ones(1, 6), rtol=0, atol=4e-3)


def test_it_is_for_single_samples_on_the_cpu_that_nobody_learns_from() -> None:
    x, weight = torch.zeros(1, 2, 2, 2, 2), nn.Parameter(torch.zeros(1))
    assert lean.suits(x, weight)
    assert not lean.suits(torch.zeros(2, 2, 2, 2, 2))
    assert not lean.suits(x.to("meta"))
    with torch.enable_grad():
        assert not lean.suits(x, weight)
        assert not lean.suits(x.clone().requires_grad_())
        assert lean.suits(x, weight.detach(), None)
