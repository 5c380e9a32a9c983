"""Swin stages against stages in plain loops, for every way in which windows fit or do not fit into a map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autofuse_engine.networks.swin import BiasOrder, PatchExpanding, PatchShrinking, SwinStage, WindowAttention
from Testing.engine.reference.plain_swin import PlainSwinStage

NAMES = {
    "norm_1": "norm1",
    "norm_2": "norm2",
    "attention.relative_bias": "attn.relative_position_bias_table",
    "attention.query_key_value": "attn.qkv",
    "attention.projection": "attn.proj",
    "perceptron.0": "mlp.linear1",
    "perceptron.2": "mlp.linear2",
}
SIDES = {
    "windows fit": (10, 5, 15),
    "no side is a multiple": (6, 11, 7),
    "smaller than a window along two axes": (3, 12, 4),
    "one axis is exactly a window": (5, 8, 6),
    "smaller than a window along all axes": (2, 3, 4),
    "one voxel along an axis": (1, 6, 2),
}


def twins(bias_order: BiasOrder) -> tuple[SwinStage, PlainSwinStage]:
    torch.manual_seed(3)
    stage, plain = SwinStage(8, 8, 4, bias_order), PlainSwinStage(8, 4, first_rows=bias_order == "token")
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.4)
    theirs = plain.state_dict()
    for name, parameter in stage.named_parameters():
        for ours, other in NAMES.items():
            name = name.replace(ours, other)
        parameter.data.copy_(theirs[name])
    return stage, plain


@pytest.mark.parametrize("bias_order", ["offset", "token"])
@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES.keys())
def test_a_stage_equals_its_loops(sides: tuple[int, int, int], bias_order: BiasOrder) -> None:
    stage, plain = twins(bias_order)
    x = torch.randn(2, 8, *sides, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = plain(x)
        assert (expected - x).std() > 0.3, "the comparison needs a stage that does something"
        torch.testing.assert_close(stage(x), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("sides", [(6, 11, 7), (2, 3, 4)])
def test_gradients_equal_those_of_the_loops_and_reach_every_parameter(sides: tuple[int, int, int]) -> None:
    stage, plain = twins("offset")
    x = torch.randn(1, 8, *sides, generator=torch.Generator().manual_seed(5), requires_grad=True)
    direction = torch.randn(1, 8, *sides, generator=torch.Generator().manual_seed(6))
    ours = torch.autograd.grad((stage(x) * direction).sum(), [x, *stage.parameters()])
    expected = torch.autograd.grad((plain(x) * direction).sum(), [x, *plain.parameters()])
    names = ["x", *(name for name, _ in stage.named_parameters())]
    for name, actual, wanted in zip(names, ours, expected, strict=True):
        scale = float(wanted.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-4 * scale, msg=name)


def test_where_a_window_shrank_the_two_orders_of_the_bias_differ_and_elsewhere_they_do_not() -> None:
    for sides, differ in (((6, 11, 7), False), ((3, 12, 4), True)):
        x = torch.randn(1, 8, *sides, generator=torch.Generator().manual_seed(4))
        with torch.no_grad():
            change = (twins("offset")[0](x) - twins("token")[0](x)).abs().max()
        assert bool(change > 0.01) is differ


def reach(stage: SwinStage, place: tuple[int, int, int], sides: tuple[int, int, int]) -> Tensor:
    """Which voxels of the output change when one voxel of the input does, in the second block alone."""
    x = torch.zeros(1, 8, *sides)
    x[0, :, place[0], place[1], place[2]] = torch.linspace(-1, 1, 8)
    block = stage.blocks[1]
    with torch.no_grad():
        change = block(x.permute(0, 2, 3, 4, 1)) - block(torch.zeros(1, *sides, 8))
    return (change.abs().amax(dim=(0, 4)) > 1e-6).nonzero()


@pytest.mark.parametrize(
    ("place", "first", "last"),
    [((0, 6, 0), (0, 2, 0), (1, 6, 1)), ((7, 1, 4), (7, 0, 2), (9, 1, 6)), ((2, 7, 8), (2, 7, 7), (6, 11, 10))],
)
def test_shifted_windows_reach_their_neighbours_and_not_round_the_corner(
    place: tuple[int, int, int], first: tuple[int, int, int], last: tuple[int, int, int]
) -> None:
    # Windows shifted by 2 begin at -3, 2, 7, ...; by hand for sides of 10, 12 and 11.
    stage, _ = twins("offset")
    touched = reach(stage, place, (10, 12, 11))
    assert touched.amin(dim=0).tolist() == list(first)
    assert touched.amax(dim=0).tolist() == list(last)


def test_two_runs_are_equal_bit_for_bit() -> None:
    stage, _ = twins("offset")
    x = torch.randn(1, 8, 6, 11, 7)
    with torch.no_grad():
        assert torch.equal(stage(x), stage(x))


def test_learning_works_after_the_tables_were_made_in_inference_mode() -> None:
    stage, _ = twins("offset")
    x = torch.randn(1, 8, 7, 9, 6)
    with torch.inference_mode():
        stage(x)
    stage(x).sum().backward()


def test_two_parts_are_joined_by_a_convolution_and_one_of_the_right_width_by_none() -> None:
    assert sum(parameter.numel() for parameter in SwinStage(8, 8, 4).join.parameters()) == 0
    stage = SwinStage(12, 8, 4)
    left, right = torch.randn(1, 8, 5, 6, 7), torch.randn(1, 4, 5, 6, 7)
    joined = nn.functional.conv3d(torch.cat([left, right], dim=1), stage.join.weight, stage.join.bias)
    stage_alone = SwinStage(8, 8, 4)
    stage_alone.blocks.load_state_dict(stage.blocks.state_dict())
    torch.testing.assert_close(stage(left, right), stage_alone(joined))


def test_fresh_biases_follow_a_narrow_truncated_normal() -> None:
    table = WindowAttention(16, 32 // 4, "offset").relative_bias.detach()
    assert float(table.std()) == pytest.approx(0.02, rel=0.1)
    assert table.shape == (729, 8)


def test_heads_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="received 6 and 4"):
        WindowAttention(6, 4, "offset")


def test_patches_shrink_and_expand_by_hand() -> None:
    torch.manual_seed(7)
    shrink, expand = PatchShrinking(1, 2), PatchExpanding(2, 2)
    x = torch.randn(1, 1, 2, 4, 6)
    corner = x[0, 0, :2, 2:4, 4:6]
    raw = (shrink.convolution.weight[:, 0] * corner).sum(dim=(1, 2, 3)) + shrink.convolution.bias
    expected = (raw - raw.mean()) / (raw.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(shrink(x)[0, :, 0, 1, 2], expected)
    small = torch.randn(1, 2, 1, 2, 3)
    raw = small[0, :, 0, 1, 2] @ expand.convolution.weight[:, :, 1, 0, 1] + expand.convolution.bias
    expected = (raw - raw.mean()) / (raw.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(expand(small)[0, :, 1, 2, 5], expected)
