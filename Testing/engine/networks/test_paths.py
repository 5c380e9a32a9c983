"""The order of stages, resolutions and skips, and the widths of section 3.1 of the paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autofuse_engine.networks.blocks import Doubling, Halving, Siamese
from autofuse_engine.networks.paths import LEVELS, Path, convolutional_path, siamese_path, stage_inputs, stage_widths

# Blocks 1 to 8 of the paper for c = 16: in and out.
SINGLE = [(1, 16), (16, 32), (32, 32), (32, 64), (64, 64), (128, 64), (96, 32), (64, 32)]
PAIR = [(2, 32), (32, 64), (64, 64), (64, 128), (128, 128), (256, 128), (192, 64), (128, 64)]


class Recorder(nn.Module):
    """A stage that notes its inputs and hands out a constant of its own."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.received: list[tuple[list[float], tuple[int, ...]]] = []

    def forward(self, *parts: torch.Tensor, halved: bool = False) -> torch.Tensor:
        self.received.append(([float(part.mean()) for part in parts], tuple(parts[-1].shape[2:])))
        assert all(part.shape == parts[0].shape for part in parts)
        side = 2 if halved else 1
        return torch.full((1, 1, *(length // side for length in parts[0].shape[2:])), float(self.number))


def recorded_path(levels: tuple[int, ...] = LEVELS) -> tuple[Path, list[Recorder]]:
    stages = [Recorder(number) for number in range(1, len(levels) + 1)]
    befores = (0, *levels[:-1])
    changes = [
        Halving() if level > before else Doubling(align_corners=True)
        for before, level in zip(befores, levels, strict=True)
    ]
    return Path(stages, changes, levels), stages


@pytest.mark.parametrize(("base", "in_channels", "expected"), [(16, 1, SINGLE), (32, 2, PAIR)])
def test_widths_are_those_of_the_paper(base: int, in_channels: int, expected: list[tuple[int, int]]) -> None:
    widths = stage_widths(base)
    assert list(zip(stage_inputs(in_channels, widths), widths, strict=True)) == expected
    blocks = convolutional_path(in_channels, base, align_corners=True).stages
    shapes = [(block.first.in_channels, block.second.out_channels) for block in blocks]
    assert shapes == expected


def test_each_stage_receives_the_stage_before_and_the_skip_of_its_level() -> None:
    path, stages = recorded_path()
    outputs = [float(x.mean()) for x in path.features(torch.zeros(1, 1, 32, 16, 48))]
    assert outputs == [1, 2, 3, 4, 5, 6, 7, 8]
    means, shapes = zip(*(stage.received[0] for stage in stages), strict=True)
    assert list(means) == [[0], [1], [2], [3], [4], [5, 4], [6, 3], [7, 2]]
    scales = [1, 2, 4, 8, 16, 8, 4, 2]
    assert list(shapes) == [(32 // scale, 16 // scale, 48 // scale) for scale in scales]


def test_what_fuses_replaces_each_output_in_the_path_and_in_its_skips() -> None:
    path, stages = recorded_path()
    seen = []

    def fuse(number: int, x: torch.Tensor) -> torch.Tensor:
        seen.append(number)
        return x + 100

    outputs = [float(x.mean()) for x in path.features(torch.zeros(1, 1, 16, 32, 48), fuse)]
    assert seen == [0, 1, 2, 3, 4, 5, 6, 7]
    assert outputs == [101, 102, 103, 104, 105, 106, 107, 108]
    assert [stage.received[0][0] for stage in stages][4:] == [[104], [105, 104], [106, 103], [107, 102]]


def test_a_path_that_returns_to_full_resolution_keeps_the_first_output_whole() -> None:
    path, stages = recorded_path((0, 1, 2, 1, 0))
    outputs = list(path.features(torch.zeros(1, 1, 8, 4, 12)))
    assert outputs[0].shape[2:] == (8, 4, 12)
    assert stages[4].received[0] == ([4, 1], (8, 4, 12))


def test_stages_compute_only_when_their_output_is_asked_for() -> None:
    path, stages = recorded_path()
    features = path.features(torch.zeros(1, 1, 16, 16, 32))
    next(features)
    next(features)
    assert [len(stage.received) for stage in stages] == [1, 1, 0, 0, 0, 0, 0, 0]


def test_a_path_may_begin_below_full_resolution() -> None:
    path, stages = recorded_path((1, 2, 1))
    list(path.features(torch.zeros(1, 1, 8, 4, 12)))
    assert [stage.received[0] for stage in stages] == [([0], (4, 2, 6)), ([1], (2, 1, 3)), ([2, 1], (4, 2, 6))]


def test_a_path_needs_one_stage_and_one_change_for_each_level() -> None:
    with pytest.raises(ValueError, match="received 2 stages, 1 changes, 3 levels"):
        Path([Recorder(1), Recorder(2)], [nn.Identity()], (0, 1, 0))


@pytest.mark.parametrize("shared_decoder", [True, False])
@pytest.mark.parametrize("learning", [True, False])
def test_a_siamese_path_sees_each_image_with_the_same_weights(shared_decoder: bool, learning: bool) -> None:
    torch.manual_seed(1)
    path = siamese_path(3, shared_decoder=shared_decoder, align_corners=False)
    alone = convolutional_path(1, 3, align_corners=False)
    encoders = {f"{n}.{part}": stage.block.get_submodule(part) for n, stage in enumerate(path.stages)
                for part in ("first", "second") if isinstance(stage, Siamese)}  # fmt: skip
    assert len(encoders) == (16 if shared_decoder else 10)
    for name, layer in encoders.items():
        alone.stages.get_submodule(name).load_state_dict(layer.state_dict())
    fixed, moving = torch.rand(2, 1, 1, 32, 16, 48)
    with torch.set_grad_enabled(learning):
        outputs = list(path.features(torch.cat([fixed, moving], dim=1)))
        expected = [torch.cat(pair, dim=1) for pair in zip(alone.features(fixed), alone.features(moving), strict=True)]
    for output, wanted in list(zip(outputs, expected, strict=True))[: len(encoders) // 2]:
        torch.testing.assert_close(output, wanted, rtol=0, atol=1e-4)
    assert [output.shape for output in outputs] == [wanted.shape for wanted in expected]
