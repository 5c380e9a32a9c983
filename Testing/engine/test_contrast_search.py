"""Pairs of two contrasts are brought to one, whichever image the model knows, and the alignment improves meanwhile."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from autofuse_engine import search
from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NetworkConfig, RefinementConfig, RegistrationConfig
from autofuse_engine.contrast_search import SHARE, CommonContrast, Side, _carried, find_common_contrast, within
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.events import Event, Metric, Progress
from autofuse_engine.image_facts import TrainingRange, intensity_names
from autofuse_engine.lent_labels import known_side, strangeness
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.networks.build import build_network
from autofuse_engine.prediction import Prediction
from autofuse_engine.refinement import RefinementPair
from autofuse_engine.registration import register
from autofuse_engine.spatial.grid import apply_matrix, voxel_grid
from autofuse_engine.spatial.integrate import integrate
from autofuse_engine.spatial.resample import resample
from autofuse_engine.spatial.smooth import smooth_image
from autofuse_engine.spatial.warp import sample
from autofuse_engine.verdict import judge
from Testing.engine.test_contrast_transfer import CLASSES, ELSEWHERE, HERE, correlation, image_of, regions
from Testing.engine.test_label_alignment import (
    LABELS,
    SeeingModels,
    balls,
    error_mm,
    frame,
    points_of,
    turned,
)

SIDES = np.array([2.0, 2.4, 1.6])
"""Spacing along i, j, k of the grid of the searches without a model."""
CONFIG = RefinementConfig(steps=25)


def grid_of(shape: tuple[int, ...]) -> Grid:
    d, h, w = shape
    return Grid(shape=(d, h, w), ras_from_ijk=np.diag([*SIDES, 1.0]))


def turn_about_the_centre(shape: tuple[int, ...], degrees: float, scale: float = 1.0) -> np.ndarray:
    """4x4, voxels, tensor order: about the first axis, in mm."""
    sides, angle = np.diag(SIDES[::-1]), np.radians(degrees)
    linear = np.eye(3) * scale
    linear[1:, 1:] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = np.linalg.inv(sides) @ linear @ sides
    centre = (np.array(shape) - 1) / 2
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, centre - linear @ centre
    return matrix


class Scene:
    """A fixed image, and the same turned, scaled and in another contrast; what is known of the one."""

    def __init__(self, side: Side, degrees: float = 7.0, scale: float = 1.05) -> None:
        probabilities, shown = regions(4)
        shape = tuple(shown.shape[2:])
        known, other = image_of(probabilities, shown, HERE, 0.3), image_of(probabilities, shown, ELSEWHERE, -0.2)
        self.truth = turn_about_the_centre(shape, degrees, scale)  # the moving image has at truth(x) what is at x
        back = np.linalg.inv(self.truth)
        fixed, still = (known, other) if side == "fixed" else (other, known)
        self.moving = resample(still, back, shape)
        self.side: Side = side
        self.grid = grid_of(shape)
        self.probabilities = probabilities if side == "fixed" else resample(probabilities, back, shape, continued=True)
        self.pair = RefinementPair(
            fixed=fixed,
            moving=self.moving,
            moving_from_fixed_vox=np.eye(4),
            moving_voxels_per_fixed=(1.0, 1.0, 1.0),
            fixed_weight=shown,
        )
        self.foreground = shown
        self.covered = shown if side == "fixed" else resample(shown, back, shape)

    def error(self, matrix: np.ndarray) -> float:
        """Mean distance in voxels from where points of the foreground belong."""
        points = voxel_grid(tuple(self.foreground.shape[2:]))
        off = apply_matrix(matrix, points) - apply_matrix(self.truth, points)
        return float(off.norm(dim=1, keepdim=True)[self.foreground > 0].mean())

    def find(self, kind: Literal["rigid", "affine"] | None = "affine", **more: Any) -> CommonContrast:
        options: dict[str, Any] = {"report": lambda event: None, "stop": lambda: False, **more}
        known = (self.pair, self.grid, self.side, self.covered, self.probabilities, CONFIG)
        return find_common_contrast(*known, kind=kind, **options)


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_contrast_and_alignment_are_found_whichever_image_is_known(side: Side) -> None:
    scene = Scene(side)
    found = scene.find()
    assert scene.error(np.eye(4)) > 1.2
    assert scene.error(found.matrix_vox) < 0.4 * scene.error(np.eye(4))
    assert found.correlation > 0.85
    pair = found.applied(scene.pair, scene.covered, scene.grid, np.eye(4))
    lies = resample(pair.moving, found.matrix_vox, scene.grid.shape)
    both = scene.foreground * (lies > 0)
    plain = resample(scene.moving, found.matrix_vox, scene.grid.shape)
    assert correlation(pair.fixed, lies, both) > correlation(scene.pair.fixed, plain, both) + 0.4
    untouched = "moving" if side == "fixed" else "fixed"
    assert getattr(pair, untouched) is getattr(scene.pair, untouched)


def test_the_unknown_image_is_carried_to_where_the_known_one_shows_the_same() -> None:
    scene = Scene("moving")
    noise = torch.randn(1, 3, *scene.grid.shape, generator=torch.Generator().manual_seed(2))
    velocity = torch.cat([smooth_image(noise[:, axis : axis + 1], 4.0) for axis in range(3)], dim=1)
    velocity = velocity * (3.0 / velocity.norm(dim=1).mean())
    matrix = turn_about_the_centre(scene.grid.shape, 5.0, 0.97)
    carried = _carried(scene.pair, "moving", matrix, velocity, lambda: None)
    points = voxel_grid(scene.grid.shape)
    places = apply_matrix(matrix, points + integrate(velocity))  # where x of the fixed image lies in the moving one
    inner = smooth_image(scene.foreground, 2.0) > 0.95
    back, plain = (sample(image, places)[inner] for image in (carried, scene.pair.fixed))
    shown = scene.pair.fixed[inner]
    assert float(torch.corrcoef(torch.stack([back, shown]))[0, 1]) > 0.97
    assert float(torch.corrcoef(torch.stack([plain, shown]))[0, 1]) < 0.8


def test_the_moving_image_may_lie_on_a_grid_of_its_own() -> None:
    scene = Scene("moving")
    own = np.diag([0.8, 0.9, 1.1, 1.0])  # takes its voxels to those of the scene
    own[:3, 3] = [2.0, -3.0, 1.0]
    shape = tuple(math.ceil(side / step) for side, step in zip(scene.grid.shape, np.diag(own), strict=False))
    before = scene.find()
    scene.covered = resample(scene.covered, own, shape)
    moving = resample(scene.moving, own, shape)
    scene.pair = replace(scene.pair, moving=moving, moving_from_fixed_vox=np.linalg.inv(own))
    found = scene.find()
    assert scene.error(found.matrix_vox) < 0.45 * scene.error(np.eye(4))
    assert found.correlation > before.correlation - 0.05
    there = found.applied(scene.pair, scene.covered, scene.grid, scene.pair.moving_from_fixed_vox).moving
    lies = resample(there, np.linalg.inv(own) @ found.matrix_vox, scene.grid.shape)
    assert correlation(scene.pair.fixed, lies, scene.foreground * (lies > 0)) > 0.8


def test_a_rigid_alignment_stays_rigid_in_millimetres() -> None:
    scene = Scene("fixed", scale=1.0)
    matrix = scene.find("rigid").matrix_vox
    sides = np.diag(SIDES[::-1])
    linear = sides @ matrix[:3, :3] @ np.linalg.inv(sides)
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-6)
    assert scene.error(matrix) < 0.5 * scene.error(np.eye(4))


def test_an_alignment_that_shall_stay_stays() -> None:
    found = Scene("moving").find(None)
    assert np.array_equal(found.matrix_vox, np.eye(4))
    assert found.correlation > 0.5


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("masked", ["fixed", "moving"])
def test_what_masks_leave_out_has_no_part_in_the_contrast(side: Side, masked: Side) -> None:
    scene = Scene(side, degrees=3, scale=1.0)
    mask = torch.ones_like(scene.foreground)
    mask[:, :, :, :14] = 0
    spoilt = getattr(scene.pair, masked) * mask + 0.95 * (1 - mask) * (getattr(scene.pair, masked) > 0)
    if side == masked:
        spoilt = getattr(scene.pair, masked)  # of the known image the labels count, which nobody spoils
    weight = scene.foreground * mask if masked == "fixed" else mask
    weights = {"moving_weight": None} | {f"{masked}_weight": weight}
    clean = scene.find(None).contrast
    scene.pair = replace(scene.pair, **{masked: spoilt}, **weights)
    masked_out = scene.find(None).contrast
    scene.pair = replace(scene.pair, fixed_weight=scene.foreground, moving_weight=None)
    counted = scene.find(None).contrast
    error = float((masked_out[0] - clean[0]).abs().mean())
    assert error < 0.07
    assert side == masked or float((counted[0] - clean[0]).abs().mean()) > 2 * error


def test_progress_is_a_part_of_the_refinement_and_the_curve_of_the_loss_is_left_to_that() -> None:
    events: list[Event] = []
    Scene("fixed").find(report=events.append)
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert len(fractions) == len(events) > 10
    assert fractions == sorted(fractions)
    assert SHARE * 0.8 < fractions[-1] <= SHARE
    told: list[Event] = []
    tell = within(told.append, SHARE, 1.0)
    tell(Progress(stage="refinement", fraction=0.5))
    metric = Metric(stage="refinement", step=1)
    tell(metric)
    assert told == [Progress(stage="refinement", fraction=SHARE + 0.5 * (1 - SHARE)), metric]


def test_a_search_that_is_ended_early_gives_what_it_has() -> None:
    found = Scene("fixed").find(stop=lambda: True)
    assert np.array_equal(found.matrix_vox, np.eye(4))
    assert torch.isfinite(found.contrast).all()


def shares(middle: np.ndarray, spread: float = 0.2) -> dict[str, tuple[float, ...]]:
    """As the card has them, of labels from 1."""
    steps = (1 - spread, 1 - 0.8 * spread, 1, 1 + 0.8 * spread, 1 + spread)
    return {str(number): tuple(float(value * step) for step in steps) for number, value in enumerate(middle, start=1)}


def range_with(label_shares: dict[str, tuple[float, ...]]) -> TrainingRange:
    five = (1.0, 1.0, 2.0, 3.0, 400.0)
    return TrainingRange(
        spacing_mm=five,
        field_of_view_mm=five,
        foreground_ml=(1.0, 10.0, 100.0, 1000.0, 9000.0),
        foreground_share=(0.01, 0.02, 0.1, 0.5, 0.9),
        intensities=dict.fromkeys(intensity_names(), (0.0, 0.1, 0.5, 0.9, 1.0)),
        label_shares=label_shares,
    )


def volumes(labels: np.ndarray, count: int) -> np.ndarray:
    counts = np.bincount(labels.ravel().astype(int), minlength=count + 1)[1:].astype(float)
    return counts / counts.sum()


MOTION = turned((5, -4, 3), (1.04, 0.97, 1.03), [4.0, -3.0, 2.0])
NEW_VALUES = np.array([0, 50, 80, 20, 60, 10, 70, 40, 30], np.float32)


def scans(strange: Literal["fixed", "moving", "both", "neither"]) -> tuple[Volume, Volume]:
    """Balls as the model knows them, each with its number as intensity; a strange image has other numbers."""
    points = points_of(frame())
    numbers = balls(points), balls(map_points(np.linalg.inv(MOTION), points))
    volumes = []
    for name, labels in zip(("fixed", "moving"), numbers, strict=True):
        values = NEW_VALUES[labels] if strange in (name, "both") else labels.astype(np.float32) * 10
        volumes.append(Volume(array=values, ras_from_ijk=frame(), name=name))
    return volumes[0], volumes[1]


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes intensities for labels, and knows how large it has seen these."""
    folder = tmp_path_factory.mktemp("Modell ß")
    card = ModelCard(
        name="seer",
        network=NetworkConfig(channels=2, classes=LABELS + 1),
        preprocessing=Preprocessing(spacing_mm=(2.0, 2.0, 2.0), intensity_percentiles=(0.0, 100.0)),
        predicts_field=False,
        label_weight=1.0,
    )
    network = build_network(card.network)
    untold = save_checkpoint(network, card, folder)
    config = RegistrationConfig(model=str(untold), initial="none", refinement_steps=0, device="cpu")
    seen = register(*scans("neither"), config, models=SeeingModels()).fixed_segmentation
    assert seen is not None
    card = replace(card, training_range=range_with(shares(volumes(seen.array, LABELS))))
    return save_checkpoint(network, card, folder)


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_registration_of_two_contrasts_goes_on_in_one(side: Side, seer: Path) -> None:
    pair = scans("moving" if side == "fixed" else "fixed")
    options: dict[str, Any] = {"model": str(seer), "initial": "none", "label_alignment": True, "device": "cpu"}
    config = RegistrationConfig(**options, refinement_steps=15)
    result = register(*pair, config, models=SeeingModels())
    plain = register(*pair, replace(config, label_weight=0.0), models=SeeingModels())
    told = result.report["contrast_transfer"]
    assert told["known"] == side
    assert told["correlation"] > 0.6
    assert plain.report["contrast_transfer"] is None
    (warning,) = result.report["warnings"]
    assert warning["code"] == "contrast-transferred"
    assert f"knows the {side} image" in warning["text"]
    assert result.report["refinement"]["labels"] == 0
    matrix = np.array(result.report["initial_matrix_ras"])
    assert error_mm(matrix, MOTION) < 0.5 * error_mm(np.eye(4), MOTION)
    assert not result.report["label_alignment"]["moved"]
    points = points_of(frame())[balls(points_of(frame())) > 0][::50]
    moved = result.transform.transform_points(points)
    error = float(np.linalg.norm(map_points(MOTION, points) - moved, axis=-1).mean())
    assert error < 0.4 * error_mm(np.eye(4), MOTION)
    seen = {"fixed": result.fixed_segmentation, "moving": result.moving_segmentation}
    assert [name for name, labels in seen.items() if labels is not None] == [side], "of the other nothing is known"
    motion = np.eye(4) if side == "fixed" else MOTION
    truth = balls(map_points(np.linalg.inv(motion), points_of(frame())), shrunk_mm=2.5)
    lies = seen[side]
    assert lies is not None
    assert (lies.array[truth > 0] == truth[truth > 0]).mean() > 0.9, "where the image shows it"
    verdict = judge(result.report)
    assert verdict.level == "check"
    assert "NCC" not in verdict.text
    assert "not trained" not in verdict.text


def test_mind_gives_way_where_both_images_have_one_contrast(seer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    def refine(pair: RefinementPair, config: RefinementConfig, **more: Any) -> Any:
        used.append(config.similarity)
        return original(pair, config, **more)

    original = search.refine
    monkeypatch.setattr(search, "refine", refine)
    config = RegistrationConfig(model=str(seer), initial="none", refinement_steps=1, device="cpu", similarity="mind")
    register(*scans("moving"), config, models=SeeingModels())
    register(*scans("neither"), config, models=SeeingModels())
    assert used == ["lncc", "mind"]


def test_an_alignment_that_was_given_stays_but_the_contrast_is_found(seer: Path) -> None:
    given: dict[str, Any] = {"initial": "matrix", "initial_matrix_ras": tuple(map(tuple, np.eye(4).tolist()))}
    config = RegistrationConfig(model=str(seer), **given, refinement_steps=2, device="cpu")
    report = register(*scans("moving"), config, models=SeeingModels()).report
    assert report["contrast_transfer"]["known"] == "fixed"
    assert report["initial_matrix_ras"] == np.eye(4).tolist()


@pytest.mark.parametrize("more", [{"label_weight": 1.0}, {"strange": "both"}])
def test_it_is_left_alone_where_labels_were_asked_for_or_no_image_is_known(seer: Path, more: dict[str, Any]) -> None:
    pair = scans(more.pop("strange", "moving"))
    if more == {}:
        other = balls(points_of(frame(), pair[1].array.shape))
        pair = pair[0], pair[1].with_array(np.roll(NEW_VALUES[1:], 3)[other - 1] * (other > 0))
    config = RegistrationConfig(model=str(seer), initial="none", refinement_steps=1, device="cpu", **more)
    report = register(*pair, config, models=SeeingModels()).report
    assert report["contrast_transfer"] is None
    assert [warning["code"] for warning in report["warnings"]] == ["labels-disagree"]


def card_with(label_shares: dict[str, tuple[float, ...]] | None) -> ModelCard:
    known = None if label_shares is None else range_with(label_shares)
    network = NetworkConfig(channels=2, classes=CLASSES)
    return ModelCard(name="x", network=network, training_range=known, predicts_field=False, label_weight=1.0)


def sized(counts: list[int]) -> Tensor:
    values = np.repeat(np.arange(CLASSES), [1000, *counts])
    return torch.from_numpy(values.astype(np.uint8))[None, None]


USUAL, UNUSUAL = [100, 200, 300, 150, 50, 200], [300, 80, 100, 10, 160, 350]


def test_strange_sizes_of_labels_tell_what_a_model_does_not_know() -> None:
    card = card_with(shares(np.array(USUAL) / 1000))
    usual, unusual = strangeness(card, sized(USUAL)), strangeness(card, sized(UNUSUAL))
    assert usual == pytest.approx(0, abs=0.01)
    assert unusual is not None
    assert unusual > 5
    empty = strangeness(card, sized([0] * 6))
    assert empty is not None
    assert empty > 5
    assert strangeness(card_with(None), sized(USUAL)) is None
    assert strangeness(card_with({}), sized(USUAL)) is None


@pytest.mark.parametrize(
    ("fixed", "moving", "side"),
    [(USUAL, UNUSUAL, "fixed"), (UNUSUAL, USUAL, "moving"), (USUAL, USUAL, None), (UNUSUAL, UNUSUAL, None)],
)
def test_the_known_side_is_the_only_usual_one(fixed: list[int], moving: list[int], side: Side | None) -> None:
    zero = torch.zeros(1, 3, 1, 1, 1)
    seen = Prediction(
        velocity_vox=zero, samples_vox=(), gate_means=[], fixed_classes=sized(fixed)[0],
        moving_classes=sized(moving)[0],
    )  # fmt: skip
    assert known_side(card_with(shares(np.array(USUAL) / 1000)), seen) == side
    assert known_side(card_with(None), seen) is None


@pytest.mark.parametrize("number", ["0", str(CLASSES)])
def test_shares_of_classes_that_the_network_does_not_have_are_refused(number: str) -> None:
    five = (0.1, 0.1, 0.2, 0.3, 0.3)
    with pytest.raises(ValueError, match="label_shares"):
        card_with({number: five})
    assert card_with({str(CLASSES - 1): five}).training_range is not None


def test_only_models_that_lend_enough_labels_show_contrasts() -> None:
    full = card_with(shares(np.array(USUAL) / 1000))
    full = replace(full, network=NetworkConfig(channels=2, classes=LABELS + 1))
    assert full.shows_contrasts
    few = range_with(shares(np.array(USUAL[:5]) / 800))
    assert not replace(full, network=NetworkConfig(channels=2, classes=6), training_range=few).shows_contrasts
    assert not replace(full, predicts_field=True).shows_contrasts
    assert not replace(full, label_weight=0.0).shows_contrasts
    assert not replace(full, training_range=None).shows_contrasts
    assert not replace(full, training_range=range_with({})).shows_contrasts
