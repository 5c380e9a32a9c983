"""Labels that guide a refinement: their channels, their loss, their place on a finer grid, and what they achieve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guided_models import save_guided_model

from autofuse_engine.configs import RefinementConfig, RegistrationConfig
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.synthetic import SyntheticPair, make_pair
from autofuse_engine.data.volume import Volume
from autofuse_engine.evaluation_configs import parse_method
from autofuse_engine.events import Event, Warning, silent
from autofuse_engine.guidance import GivenOnGrid, Guidance
from autofuse_engine.guiding_labels import guiding_labels
from autofuse_engine.networks.segmentation import GivenClasses
from autofuse_engine.prediction import Prediction
from autofuse_engine.refinement import RefinementPair, refine
from autofuse_engine.refinement_labels import MOST_CHANNELS, LabelDisagreement, memberships
from autofuse_engine.registration import register
from autofuse_engine.spatial.integrate import integrate
from autofuse_engine.spatial.smooth import shrink
from autofuse_engine.spatial.warp import warp

SHAPE = (24, 32, 20)


def ball(center: tuple[float, float, float], radius: float, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    places = torch.stack(torch.meshgrid(*(torch.arange(side) for side in shape), indexing="ij"))
    middle = torch.tensor(center).view(3, 1, 1, 1)
    return ((places - middle).square().sum(0).sqrt() <= radius)[None, None]


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


# ------------------------------------------------------------------------------------------- channels and loss


def test_only_labels_that_both_images_hold_have_a_channel() -> None:
    fixed, moving = torch.zeros(1, 1, *SHAPE, dtype=torch.int16), torch.zeros(1, 1, *SHAPE, dtype=torch.uint8)
    fixed[..., 2:5], fixed[..., 5:9], fixed[..., 12:] = 40, 7, 300
    moving[..., 3:6], moving[..., 8:9], moving[..., 10:] = 7, 200, 40
    found = memberships(fixed, moving)
    assert found is not None
    assert found.labels == 2
    for channels, labels in ((found.fixed, fixed), (found.moving, moving)):
        assert channels.dtype == torch.float32
        np.testing.assert_array_equal(channels[0].numpy(), np.stack([labels[0, 0] == value for value in (7, 40)]))
    assert memberships(fixed, torch.zeros_like(moving)) is None
    assert memberships(fixed, torch.full_like(moving, 9)) is None


def test_many_labels_share_a_few_channels_and_stay_apart() -> None:
    labels = torch.arange(60).repeat_interleave(4 * 5 * 6).reshape(1, 1, 20, 24, 15)
    found = memberships(labels, labels.flip(2))
    assert found is not None
    assert found.fixed.shape == (1, MOST_CHANNELS, 20, 24, 15)
    assert found.labels == 59
    vectors = torch.stack([found.fixed[0].flatten(1)[:, labels.flatten() == value][:, 0] for value in range(60)])
    torch.testing.assert_close(vectors.norm(dim=1), torch.tensor([0.0] + [1.0] * 59))
    assert torch.pdist(vectors[1:]).min() > 0.25
    torch.testing.assert_close(memberships(labels, labels.flip(2)).fixed, found.fixed, rtol=0, atol=0)  # type: ignore[union-attr]


@pytest.mark.parametrize("factor", [1, 2])
def test_the_loss_is_the_squared_difference_over_the_variance_where_the_images_count(factor: int) -> None:
    fixed, moving = 3 * ball((11, 15, 9), 6).int(), 3 * ball((13, 14, 10), 5).int()
    fixed, moving = fixed + 5 * ball((5, 25, 5), 4).int(), moving + 5 * ball((6, 24, 6), 4).int()
    members = memberships(fixed, moving)
    assert members is not None
    sides = tuple(side // factor for side in SHAPE)
    weight = (torch.rand(1, 1, *sides, generator=torch.Generator().manual_seed(3)) > 0.4).float()
    seen = weight * (torch.rand(1, 1, *sides, generator=torch.Generator().manual_seed(4)) > 0.2)
    here, there = (shrink(part, factor)[0].numpy().astype(float) for part in (members.fixed, members.moving))
    w, s = weight[0].numpy(), seen[0].numpy()
    variance = np.mean([np.average(one**2, weights=w[0]) - np.average(one, weights=w[0]) ** 2 for one in here])
    expected = ((here - there) ** 2 * s).sum() / (2 * s.sum()) / variance
    loss = LabelDisagreement(members, factor, weight)
    none = torch.zeros(1, 3, *sides)
    assert float(loss(none, seen)) == pytest.approx(expected, rel=1e-4)
    same = memberships(fixed, fixed)
    assert same is not None
    assert float(LabelDisagreement(same, factor, weight)(none, weight)) == 0


# ------------------------------------------------------------------------------------------- refinement


def pair_without_contrast(fixed: torch.Tensor, moving: torch.Tensor) -> RefinementPair:
    noise = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
    return RefinementPair(
        fixed=noise,
        moving=noise,
        moving_from_fixed_vox=np.eye(4),
        moving_voxels_per_fixed=(1.0, 1.0, 1.0),
        labels=(fixed, moving),
    )


@pytest.mark.parametrize("guided", [True, False])
def test_labels_move_what_the_images_do_not_show(guided: bool) -> None:
    fixed, moving = ball((12, 15, 10), 6), ball((14, 18, 9), 6)
    config = RefinementConfig(similarity="mse", steps=15, coarsest_side=8, labels=20.0 if guided else 0.0)
    result = refine(pair_without_contrast(fixed.int(), 5 * moving.int()), config)
    assert result.labels == 0  # 1 and 5 are different labels
    result = refine(pair_without_contrast(5 * fixed.int(), 5 * moving.int()), config)
    assert result.labels == (1 if guided else 0)
    warped = warp(moving.float(), integrate(result.velocity_vox, 6)) > 0.5
    before, after = overlap(fixed, moving), overlap(fixed, warped)
    assert before < 0.55
    assert (after > 0.9) if guided else (after == pytest.approx(before, abs=0.02))


# ------------------------------------------------------------------------------------------- on the refinement's grid


def prediction(fixed: torch.Tensor | None, moving: torch.Tensor | None) -> Prediction:
    return Prediction(
        velocity_vox=torch.zeros(1, 3, 4, 4, 4),
        samples_vox=(),
        gate_means=[],
        fixed_probabilities=fixed,
        moving_probabilities=moving,
    )


def grids() -> tuple[Grid, Grid]:
    """One of 12 x 16 x 10 voxels of 2 mm, and one of twice as many along each axis in the same place."""
    coarse, fine = np.diag([2.0, 2.0, 2.0, 1.0]), np.eye(4)
    coarse[:3, 3], fine[:3, 3] = (4.0, -7.0, 9.0), (3.5, -7.5, 8.5)
    return Grid(shape=(12, 16, 10), ras_from_ijk=coarse), Grid(shape=(24, 32, 20), ras_from_ijk=fine)


def test_borders_of_predicted_classes_lie_between_the_voxels_of_the_model() -> None:
    coarse, fine = grids()
    true = ball((11.5, 15.5, 9.5), 7.0)
    share = torch.nn.functional.avg_pool3d(true.float(), 2)
    probabilities = torch.cat([1 - share, share], dim=1)
    found = guiding_labels(prediction(probabilities, probabilities), None, fine, coarse)
    assert found is not None
    assert found[0].shape == (1, 1, 24, 32, 20)
    assert overlap(found[0] == 1, true) > 0.96
    nearest = (share > 0.5).repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    assert overlap(nearest, true) < overlap(found[0] == 1, true) - 0.01
    on_its_own = guiding_labels(prediction(probabilities, probabilities), None, coarse, coarse)
    assert on_its_own is not None
    np.testing.assert_array_equal(on_its_own[1].numpy(), probabilities.argmax(1, keepdim=True).numpy())


def test_given_classes_are_where_the_user_says_and_nowhere_else() -> None:
    coarse, fine = grids()
    scores = torch.randn(1, 4, 12, 16, 10, generator=torch.Generator().manual_seed(2))
    given = torch.zeros(1, 1, *fine.shape, dtype=torch.uint8)
    given[0, 0, 3:9, 4:11, 5:15] = 2
    told = GivenClasses(labels=given, classes=(2,))
    known = prediction(scores.softmax(1), scores.flip(2).softmax(1))
    found = guiding_labels(known, GivenOnGrid(fixed=told, moving=None), fine, coarse)
    assert found is not None
    np.testing.assert_array_equal((found[0] == 2).numpy(), (given == 2).numpy())
    assert set(found[0].unique().tolist()) == set(found[1].unique().tolist()) == {0, 1, 2, 3}
    beside = guiding_labels(known, GivenOnGrid(fixed=told, moving=told), fine, coarse, of_model=False)
    assert beside is not None
    for one in beside:
        np.testing.assert_array_equal((one == 6).numpy(), (given == 2).numpy())
        assert set(one.unique().tolist()) == {0, 1, 2, 3, 6}


def test_without_labels_of_both_images_nothing_guides() -> None:
    coarse, fine = grids()
    told = GivenClasses(labels=torch.ones(1, 1, *fine.shape, dtype=torch.uint8), classes=(1,))
    assert guiding_labels(None, None, fine, coarse) is None
    assert guiding_labels(None, GivenOnGrid(fixed=told, moving=None), fine, coarse) is None
    assert guiding_labels(prediction(None, None), GivenOnGrid(fixed=None, moving=told), fine, coarse) is None
    assert guiding_labels(None, GivenOnGrid(fixed=told, moving=told), fine, coarse) == (told.labels, told.labels)


# ------------------------------------------------------------------------------------------- register


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return make_pair(2, (32, 40, 28))


def hidden(image: Volume, center_ras: np.ndarray, value: int = 7) -> Volume:
    """A ball of 9 mm that the image does not show."""
    ijk = np.stack(np.meshgrid(*(np.arange(side) for side in image.shape), indexing="ij"))[::-1]
    points = image.ras_from_ijk[:3, :3] @ ijk.reshape(3, -1) + image.ras_from_ijk[:3, 3:]
    inside = np.linalg.norm(points - center_ras[:, None], axis=0) <= 9.0
    return image.with_array((value * inside).reshape(image.shape).astype(np.int16))


def run(pair: SyntheticPair, guidance: Guidance | None, told: list[Event] | None = None, **more: Any) -> Any:
    config = RegistrationConfig(**{"model": "none", "initial": "centers", "refinement_steps": 20, **more})
    labels = {"fixed_labels": guidance.fixed, "moving_labels": guidance.moving} if guidance else {}
    return register(
        pair.fixed, pair.moving, config, **labels, guidance=guidance, report=silent if told is None else told.append
    )


def balls(pair: SyntheticPair) -> Guidance:
    middles = [
        volume.ras_from_ijk @ np.append((np.array(volume.shape[::-1]) - 1) / 2, 1)
        for volume in (pair.fixed, pair.moving)
    ]
    fixed, moving = (middle[:3] for middle in middles)
    return Guidance(
        fixed=hidden(pair.fixed, fixed),
        moving=hidden(pair.moving, moving + np.array([5.0, -4.0, 3.0])),
        names={7: "Höhle"},
    )


def test_segmentations_guide_a_registration_without_a_model(pair: SyntheticPair) -> None:
    guidance = balls(pair)
    guided, plain = run(pair, guidance), run(pair, replace(guidance, names={}), label_weight=0)
    dice = [result.report["metrics"]["after"]["dice"][7] for result in (guided, plain)]
    assert dice[0] > 0.8 > dice[1] + 0.1
    assert guided.report["guidance"] == {"classes": ["Höhle"], "labels": [7], "fixed": True, "moving": True}
    assert guided.report["refinement"]["labels"] == 1
    assert guided.report["folding_count"] == 0
    assert plain.report["guidance"] is None
    assert plain.report["refinement"]["labels"] == 0


@pytest.mark.parametrize(
    ("more", "moving", "reason"),
    [
        ({"refinement_steps": 0}, 7, "no refinement heeds labels"),
        ({"label_weight": 0}, 7, "no refinement heeds labels"),
        ({}, 8, "no label is in both"),
    ],
)
def test_what_the_refinement_cannot_use_is_told(
    pair: SyntheticPair, more: dict[str, Any], moving: int, reason: str
) -> None:
    told: list[Event] = []
    guidance = Guidance(
        fixed=hidden(pair.fixed, np.zeros(3)), moving=hidden(pair.moving, np.zeros(3), moving), names={7: "Höhle"}
    )
    result = run(pair, guidance, told, **{"refinement_steps": 1, **more})
    warnings = {event.code: event.text for event in told if isinstance(event, Warning)}
    assert reason in warnings["guidance-unused"]
    assert result.report["guidance"] is None


def test_a_model_that_segments_guides_its_own_refinement(pair: SyntheticPair, tmp_path: Path) -> None:
    silent_one, telling = (
        str(save_guided_model(tmp_path / "Modelle mit Ä", name, label_weight=weight))
        for name, weight in (("silent", None), ("telling", 5.0))
    )
    runs = [(silent_one, None), (silent_one, 5.0), (telling, None), (telling, 0.0)]
    results = [run(pair, None, model=model, refinement_steps=2, label_weight=weight) for model, weight in runs]
    assert [result.report["refinement"]["labels"] > 0 for result in results] == [False, True, True, False]
    fields = [result.displacement_magnitude.array for result in results]
    assert np.abs(fields[0] - fields[1]).max() > 0.02
    np.testing.assert_array_equal(fields[1], fields[2])
    np.testing.assert_array_equal(fields[0], fields[3])


def test_an_evaluation_can_leave_the_labels_out() -> None:
    assert parse_method("brain@refine=5,labels=0").label_weight == 0
    assert parse_method("brain@refine=5").label_weight is None
