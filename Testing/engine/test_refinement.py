"""The refinement recovers known fields, honours weights, stops when told, and repeats itself bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autofuse_engine.configs import RefinementConfig
from autofuse_engine.events import Event, Progress
from autofuse_engine.refinement import RefinementPair, refine
from autofuse_engine.spatial.integrate import integrate
from autofuse_engine.spatial.smooth import smooth
from autofuse_engine.spatial.warp import warp

SHAPE = (32, 40, 36)


def texture(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    image = smooth(torch.randn(1, 1, *SHAPE, generator=generator), 1.6)
    return (image - image.amin()) / (image.amax() - image.amin())


def true_velocity(size_vox: float = 2.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(11)
    field = smooth(torch.randn(1, 3, *SHAPE, generator=generator), 5.0)
    return size_vox * field / field.norm(dim=1).amax()


def pair_of(contrast: float = 1.0) -> RefinementPair:
    """``fixed = moving(x + u(x))`` with a known flow; with contrast -1 the fixed image is inverted."""
    moving = texture()
    fixed = warp(moving, integrate(true_velocity()))
    fixed = fixed if contrast > 0 else (1.0 - fixed) ** 2
    return RefinementPair(
        fixed=fixed, moving=moving, moving_from_fixed_vox=np.eye(4), moving_voxels_per_fixed=(1.0, 1.0, 1.0)
    )


def error_vox(velocity: torch.Tensor) -> float:
    inner = (slice(None), slice(None), *[slice(6, -6)] * 3)
    return float((integrate(velocity) - integrate(true_velocity()))[inner].norm(dim=1).mean())


@pytest.mark.parametrize(("similarity", "contrast"), [("lncc", 1.0), ("mse", 1.0), ("mind", 1.0), ("mind", -1.0)])
def test_a_known_field_is_recovered(similarity: str, contrast: float) -> None:
    start = error_vox(torch.zeros_like(true_velocity()))
    config = RefinementConfig(similarity=similarity, steps=25, smoothness=0.5)  # type: ignore[arg-type]
    result = refine(pair_of(contrast), config)
    assert start > 0.6
    assert error_vox(result.velocity_vox) < {"lncc": 0.25, "mse": 0.35, "mind": 0.5}[similarity] * start
    assert [level.factor for level in result.levels] == [2, 1]


def test_mse_cannot_do_what_mind_does_under_inverted_contrast() -> None:
    start = error_vox(torch.zeros_like(true_velocity()))
    result = refine(pair_of(-1.0), RefinementConfig(similarity="mse", steps=15))
    assert error_vox(result.velocity_vox) > 0.8 * start


def test_an_affine_initial_alignment_is_looked_through() -> None:
    pair = pair_of()
    shifted = torch.roll(pair.moving, shifts=(3, -2, 1), dims=(2, 3, 4))
    matrix = np.eye(4)
    matrix[:3, 3] = (3, -2, 1)
    result = refine(replace(pair, moving=shifted, moving_from_fixed_vox=matrix), RefinementConfig(steps=20))
    assert error_vox(result.velocity_vox) < 0.35 * error_vox(torch.zeros_like(true_velocity()))


def test_a_prediction_is_refined_and_never_made_worse_in_its_loss() -> None:
    prediction = 0.7 * true_velocity()
    result = refine(pair_of(), RefinementConfig(steps=10), start_vox=prediction)
    assert error_vox(result.velocity_vox) < error_vox(prediction)
    assert all(level.loss_best <= level.loss_first for level in result.levels)
    same = refine(pair_of(), RefinementConfig(steps=0), start_vox=prediction)
    assert torch.allclose(same.velocity_vox, prediction, atol=1e-6)


def test_only_weighted_voxels_pull() -> None:
    weight = torch.zeros(1, 1, *SHAPE)
    weight[..., :12] = 1.0
    pair = replace(pair_of(), fixed_weight=weight)
    displacement = integrate(refine(pair, RefinementConfig(steps=15)).velocity_vox).norm(dim=1)
    assert float(displacement[..., 4:10].mean()) > 2 * float(displacement[..., 26:32].mean())
    masked = replace(pair_of(), moving_weight=weight)
    displacement = integrate(refine(masked, RefinementConfig(steps=15)).velocity_vox).norm(dim=1)
    assert float(displacement[..., 4:10].mean()) > 2 * float(displacement[..., 26:32].mean())


def test_two_runs_are_equal_bit_for_bit() -> None:
    results = [refine(pair_of(), RefinementConfig(steps=6)).velocity_vox for _ in range(2)]
    assert torch.equal(*results)


def test_stopping_keeps_the_best_field_so_far() -> None:
    events: list[Event] = []
    steps_seen = 14

    def stop() -> bool:
        return sum(isinstance(event, Progress) for event in events) >= steps_seen

    result = refine(pair_of(), RefinementConfig(steps=30), report=events.append, stop=stop)
    assert result.stopped
    assert len(result.levels) == 1
    assert result.levels[0].steps == steps_seen - 1  # the last step was taken but never judged
    assert error_vox(result.velocity_vox) < 0.8 * error_vox(torch.zeros_like(true_velocity()))


def test_the_finest_level_may_take_fewer_steps_than_the_others() -> None:
    result = refine(pair_of(), RefinementConfig(steps=9, finest_steps=4))
    assert [(level.factor, level.steps) for level in result.levels] == [(2, 9), (1, 4)]
    alone = refine(pair_of(), RefinementConfig(steps=9, finest_steps=0))
    assert [level.steps for level in alone.levels] == [9, 0]
    assert error_vox(result.velocity_vox) < error_vox(alone.velocity_vox)
    with pytest.raises(ValueError, match="finest_steps is at least 0"):
        RefinementConfig(finest_steps=-1)


@pytest.mark.parametrize("finest", [None, 2])
def test_progress_rises_to_one_and_names_the_level(finest: int | None) -> None:
    events: list[Event] = []
    refine(pair_of(), RefinementConfig(steps=5, finest_steps=finest), report=events.append)
    progress = [event for event in events if isinstance(event, Progress)]
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    assert progress[0].text.startswith("level 1/2")


def test_it_stops_early_where_there_is_nothing_to_gain() -> None:
    pair = pair_of()
    same = replace(pair, fixed=pair.moving)
    result = refine(same, RefinementConfig(steps=40))
    assert all(level.steps < 40 for level in result.levels)
    assert float(result.velocity_vox.abs().max()) < 0.1


@pytest.mark.parametrize("smoothing_vox", [0.0, 1.0])
def test_steps_that_make_it_worse_leave_the_best_field_alone(smoothing_vox: float) -> None:
    config = RefinementConfig(steps=3, learning_rate=40.0, smoothing_vox=smoothing_vox, coarsest_side=64)
    result = refine(pair_of(), config)
    (level,) = result.levels
    assert level.steps == 3
    assert level.loss_best == level.loss_first, "no step of forty voxels makes it better"
    assert float(result.velocity_vox.abs().max()) == 0
