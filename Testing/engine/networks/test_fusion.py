"""The fusion gate and its large kernels, judged by the paper's formulas written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autofuse_engine.networks.fusion import FusionGate, LargeKernels
from Testing.engine.reference.plain_autofuse import PlainGate, PlainLargeKernels

SIDES = (4, 6, 10)


def randomised_gate(channels: int) -> FusionGate:
    gate = FusionGate(channels, nn.Identity())
    for parameter in gate.parameters():
        nn.init.normal_(parameter, std=0.5)
    return gate


def features(batch: int, channels: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.randn(batch, channels, *SIDES),
        torch.randn(batch, channels // 2, *SIDES),
        torch.randn(batch, channels // 2, *SIDES),
    )


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_gate_is_the_softmax_of_two_logits(learning: bool, batch: int) -> None:
    torch.manual_seed(1)
    gate, plain = randomised_gate(6), PlainGate(6, large_kernels=False)
    names = {"Conv_in": "pair_logit", "Conv_con": "matched_logit", "Conv": "match"}
    with torch.no_grad():
        for theirs, ours in names.items():
            plain.get_submodule(theirs).load_state_dict(gate.get_submodule(ours).state_dict())
    pair, fixed, moving = features(batch, 6)
    expected, weight = plain(pair, fixed, moving)
    with torch.set_grad_enabled(learning):
        fused, mean = gate(pair, fixed, moving)
    torch.testing.assert_close(fused, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean, weight.mean(dim=(1, 2, 3, 4)))
    assert not mean.requires_grad


def test_fixed_and_moving_are_not_alike_to_the_gate() -> None:
    torch.manual_seed(2)
    gate = randomised_gate(6)
    pair, fixed, moving = features(1, 6)
    assert (gate(pair, fixed, moving)[0] - gate(pair, moving, fixed)[0]).abs().max() > 0.1


def test_a_fresh_gate_trusts_both_sources_alike() -> None:
    torch.manual_seed(3)
    gate = FusionGate(6, nn.Identity())
    pair, fixed, moving = features(2, 6)
    matched = nn.functional.instance_norm(
        nn.functional.leaky_relu(gate.match(torch.cat([fixed, moving], dim=1)), 0.2), eps=1e-5
    )
    fused, mean = gate(pair, fixed, moving)
    torch.testing.assert_close(fused, (pair + matched) / 2)
    torch.testing.assert_close(mean, torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(("bias", "expected"), [(200.0, 1.0), (-200.0, 0.0)])
def test_extreme_logits_select_one_source_without_overflow(bias: float, expected: float) -> None:
    # exp(200) is infinite in float32, and infinite / infinite undefined.
    torch.manual_seed(4)
    gate = FusionGate(6, nn.Identity())
    nn.init.constant_(gate.get_parameter("pair_logit.bias"), bias)
    fused, mean = gate(*features(1, 6))
    assert torch.isfinite(fused).all()
    assert mean.item() == expected


def test_both_logits_learn_and_with_opposite_gradients() -> None:
    torch.manual_seed(5)
    gate = randomised_gate(6)
    gate(*features(1, 6))[0].square().sum().backward()
    pair, matched = gate.pair_logit.weight.grad, gate.matched_logit.weight.grad
    assert pair is not None
    assert matched is not None
    assert pair.abs().max() > 0
    torch.testing.assert_close(pair, -matched)


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_large_kernels_equal_their_layers_one_after_the_other(learning: bool, batch: int) -> None:
    torch.manual_seed(6)
    plain, ours = PlainLargeKernels(6), LargeKernels(6)
    with torch.no_grad():
        ours.merge.load_state_dict(plain.Conv.state_dict())
        for number, branch in enumerate(ours.branches):
            branch.load_state_dict(plain.get_submodule(f"Conv_{number + 1}").state_dict())
    x = torch.randn(batch, 6, *SIDES)
    with torch.set_grad_enabled(learning):
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("branch", "axis"), [(1, 0), (2, 1), (3, 2)])
def test_each_long_kernel_reaches_two_voxels_along_its_own_axis_only(branch: int, axis: int) -> None:
    conv = LargeKernels(2).branches[branch]
    for parameter in conv.parameters():
        nn.init.ones_(parameter) if parameter.ndim > 1 else nn.init.zeros_(parameter)
    x = torch.zeros(1, 2, 7, 9, 11)
    x[0, 0, 3, 4, 5] = 1.0
    touched = conv(x)[0, 0].nonzero() - torch.tensor([3, 4, 5])
    expected = torch.zeros(5, 3, dtype=torch.long)
    expected[:, axis] = torch.arange(-2, 3)
    assert torch.equal(touched, expected)
