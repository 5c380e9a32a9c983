"""An initial alignment that labels improve: known motions come back, and only where labels count and nobody objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autofuse_engine import lent_labels, search
from autofuse_engine.checkpoint import load_checkpoint, save_checkpoint
from autofuse_engine.configs import NetworkConfig, RegistrationConfig
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.errors import CancelledError
from autofuse_engine.label_alignment import LEAST_LABELS, LabelAlignment, align_labels
from autofuse_engine.lent_labels import disagreement_limit
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.networks.build import build_network
from autofuse_engine.prediction import ModelCache, ReadyModel
from autofuse_engine.registration import RegistrationResult, register
from autofuse_engine.search_records import PairImages
from autofuse_engine.verdict import judge

LABELS = 8
SPACING = np.array([2.0, 2.5, 1.6])
SHAPE = (48, 32, 40)
CENTRES = np.random.default_rng(3).uniform(-22, 22, (LABELS, 3))
RADII = np.random.default_rng(4).uniform(6, 10, LABELS)


def turned(degrees: tuple[float, float, float], scales: tuple[float, float, float], shift: list[float]) -> np.ndarray:
    """4x4, mm: scaled, turned about the three axes, shifted."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(scales)
    for axis, angle in enumerate(np.radians(degrees)):
        one = np.eye(3)
        rest = [other for other in range(3) if other != axis]
        one[np.ix_(rest, rest)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix[:3, :3] = one @ matrix[:3, :3]
    matrix[:3, 3] = shift
    return matrix


MOTION = turned((6, -5, 4), (1.06, 0.95, 1.04), [5.0, -4.0, 3.0])


def balls(points: np.ndarray, shrunk_mm: float = 0.0) -> np.ndarray:
    """The label of each point ``(..., 3)`` in mm; 0 where none is."""
    labels = np.zeros(points.shape[:-1], np.int64)
    for number, (centre, radius) in enumerate(zip(CENTRES, RADII, strict=True), start=1):
        labels[np.linalg.norm(points - centre, axis=-1) < radius - shrunk_mm] = number
    return labels


def frame(shape: tuple[int, ...] = SHAPE, spacing: np.ndarray = SPACING) -> np.ndarray:
    """4x4 from voxels i, j, k to mm, centred, with axes in an order of their own."""
    matrix = np.zeros((4, 4))
    matrix[1, 0], matrix[0, 1], matrix[2, 2], matrix[3, 3] = -spacing[0], spacing[1], spacing[2], 1
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return matrix


def points_of(ras_from_ijk: np.ndarray, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    k, j, i = np.indices(shape)
    return map_points(ras_from_ijk, np.stack([i, j, k], axis=-1))


def tensor(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels)[None, None]


def as_ras(found: LabelAlignment) -> np.ndarray:
    order = np.eye(4)[[2, 1, 0, 3]]
    ijk = order @ found.matrix_vox @ order
    return frame() @ ijk @ np.linalg.inv(frame())


def error_mm(matrix_ras: np.ndarray, motion: np.ndarray) -> float:
    """Mean distance within the labels of where two matrices take points."""
    points = points_of(frame())[balls(points_of(frame())) > 0]
    return float(np.linalg.norm(map_points(matrix_ras, points) - map_points(motion, points), axis=-1).mean())


@pytest.mark.parametrize("kind", ["affine", "rigid"])
def test_a_known_motion_comes_back(kind: Literal["affine", "rigid"]) -> None:
    motion = MOTION if kind == "affine" else turned((6, -5, 4), (1, 1, 1), [5.0, -4.0, 3.0])
    points = points_of(frame())
    # a point x of the fixed image lies at motion(x) in the moving one
    fixed, moving = balls(points), balls(map_points(np.linalg.inv(motion), points))
    found = align_labels(tensor(fixed), tensor(moving), SPACING, kind)
    assert found is not None
    assert found.labels == LABELS
    assert error_mm(np.eye(4), motion) > 5
    assert error_mm(as_ras(found), motion) < 0.5
    assert found.after < 0.4 * found.before
    if kind == "rigid":
        linear = as_ras(found)[:3, :3]
        np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-5)


def test_a_rigid_motion_leaves_sizes_as_they_are() -> None:
    points = points_of(frame())
    moving = balls(map_points(np.linalg.inv(MOTION), points))
    found = align_labels(tensor(balls(points)), tensor(moving), SPACING, "rigid")
    assert found is not None
    assert np.linalg.det(as_ras(found)[:3, :3]) == pytest.approx(1, abs=1e-5)


def test_labels_that_lie_on_each_other_or_are_few_say_nothing() -> None:
    labels = balls(points_of(frame()))
    same = align_labels(tensor(labels), tensor(labels), SPACING, "affine")
    assert same is not None
    assert not same.gained
    assert same.after == pytest.approx(0, abs=0.01)
    few = np.where(labels < LEAST_LABELS, labels, 0)
    assert align_labels(tensor(labels), tensor(np.roll(few, 2, axis=1)), SPACING, "affine") is None


def test_labels_that_the_border_of_the_moving_image_cuts_do_not_pull() -> None:
    points = points_of(frame())
    motion = turned((0, 0, 0), (1, 1, 1), [3.0, 0.0, 0.0])
    fixed, moving = balls(points), balls(map_points(np.linalg.inv(motion), points))
    shown = torch.ones(1, 1, *SHAPE)
    shown[:, :, SHAPE[0] // 2 + 4 :] = 0  # cuts some of the balls
    moving[SHAPE[0] // 2 + 4 :] = 0
    whole = align_labels(tensor(fixed), tensor(moving), SPACING, "affine")
    aware = align_labels(tensor(fixed), tensor(moving), SPACING, "affine", moving_inside=shown)
    assert whole is not None
    assert aware is not None
    points = points[: SHAPE[0] // 2 + 4][fixed[: SHAPE[0] // 2 + 4] > 0]
    errors = [
        np.linalg.norm(map_points(as_ras(found), points) - map_points(motion, points), axis=-1).mean()
        for found in (aware, whole)
    ]
    assert errors[0] < 0.5
    assert errors[0] < 0.5 * errors[1]


def test_it_can_be_stopped_between_steps() -> None:
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise CancelledError

    labels = balls(points_of(frame()))
    with pytest.raises(CancelledError):
        align_labels(tensor(labels), tensor(np.roll(labels, 2, axis=1)), SPACING, "affine", between=between)


class Seeing(nn.Module):
    """Tells the labels by their intensities."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def segment(self, image: Tensor) -> Tensor:
        self.asked += 1
        levels = (torch.arange(LABELS + 1) / LABELS).view(1, -1, 1, 1, 1)
        return -((image - levels) * 40).square()


class SeeingModels(ModelCache):
    """Gives the model that was asked for, with a network that sees."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Seeing()

    def get(self, *which: Any) -> ReadyModel:
        return replace(super().get(*which), network=self.network)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = NetworkConfig(channels=2, classes=LABELS + 1)
    prepared = Preprocessing(spacing_mm=(2.0, 2.0, 2.0), intensity_percentiles=(0.0, 100.0))
    card = ModelCard(name="seer", network=config, preprocessing=prepared, predicts_field=False, label_weight=1.0)
    return save_checkpoint(build_network(config), card, tmp_path_factory.mktemp("Modell ö"))


@pytest.fixture(scope="module")
def images() -> tuple[Volume, Volume]:
    points = points_of(frame())
    shown = (balls(points), balls(map_points(np.linalg.inv(MOTION), points)))
    fixed, moving = (Volume(array=labels.astype(np.float32) * 10, ras_from_ijk=frame(), name="x") for labels in shown)
    return fixed, moving


def run(
    images: tuple[Volume, Volume], model: Path, models: ModelCache | None = None, **more: Any
) -> RegistrationResult:
    masks = {name: more.pop(name) for name in ("fixed_mask", "moving_mask") if name in more}
    config = RegistrationConfig(model=str(model), device="cpu", **{"refinement_steps": 2, **more})
    return register(*images, config, models=models or SeeingModels(), **masks)


IDENTITY = tuple(tuple(float(value) for value in row) for row in np.eye(4))


def test_a_registration_starts_from_what_the_labels_say(images: tuple[Volume, Volume], model: Path) -> None:
    as_given = {"initial": "matrix", "initial_matrix_ras": IDENTITY}
    models = SeeingModels()
    better, plain = run(images, model, models, **as_given, label_alignment=True), run(images, model, **as_given)
    assert models.network.asked == 3, "the moving image once more, where it lies now"
    told = better.report["label_alignment"]
    assert told["labels"] == LABELS
    assert told["disagreement_after"] < 0.5 * told["disagreement_before"]
    matrix = np.array(better.report["initial_matrix_ras"])
    assert error_mm(matrix, MOTION) < 1.0
    assert not plain.report["label_alignment"]["moved"], "asked only whether the labels go together"
    assert plain.report["label_alignment"]["disagreement_after"] == pytest.approx(told["disagreement_after"])
    assert plain.report["initial_matrix_ras"] == np.eye(4).tolist()
    points = points_of(frame())[balls(points_of(frame())) > 0][::50]
    errors = []
    for result in (better, plain):
        moved = result.transform.transform_points(points)
        errors.append(float(np.linalg.norm(map_points(MOTION, points) - moved, axis=-1).mean()))
        np.testing.assert_allclose(result.inverse.transform_points(moved), points, atol=0.2)
    assert errors[0] < 0.5 * errors[1]
    beyond = np.array([[0.0, 0.0, 400.0]])
    np.testing.assert_allclose(better.transform.transform_points(beyond), map_points(matrix, beyond), atol=0.5)
    assert better.moving_segmentation is not None
    truth = balls(map_points(np.linalg.inv(MOTION), points_of(frame())), shrunk_mm=2.5)
    seen = better.moving_segmentation.array
    assert (seen[truth > 0] == truth[truth > 0]).mean() > 0.9, "on the moving image's own grid, as it lies there"


def test_what_the_labels_say_comes_before_the_matrix_that_was_given(images: tuple[Volume, Volume], model: Path) -> None:
    given = turned((14, 0, -9), (1.05, 1, 0.95), [8.0, -6.0, 4.0])
    fixed, moving = images
    elsewhere = replace(moving, ras_from_ijk=given @ moving.ras_from_ijk)
    matrix = tuple(tuple(float(value) for value in row) for row in given)
    result = run((fixed, elsewhere), model, initial="matrix", initial_matrix_ras=matrix, label_alignment=True)
    assert result.report["label_alignment"]["moved"]
    assert error_mm(np.array(result.report["initial_matrix_ras"]), given @ MOTION) < 1.0


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"initial": "affine"}, "affine"),
        ({"initial": "rigid"}, "rigid"),
        ({"initial": "moments"}, None),
        ({"initial": "affine", "label_alignment": False}, None),
        ({"initial": "affine", "label_weight": 0.0}, None),
        ({"initial": "affine", "refinement_steps": 0}, None),
        ({"initial": "none", "label_alignment": True}, "affine"),
        ({"initial": "affine", "fixed_mask": "whole"}, None),
        ({"initial": "affine", "moving_mask": "whole"}, None),
    ],
)
def test_labels_are_asked_where_they_count_and_the_alignment_was_searched_for(
    images: tuple[Volume, Volume], model: Path, more: dict, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []

    def better(images: PairImages, grid: Grid, found: LabelAlignment) -> PairImages:
        kinds.append("moved")
        return images

    def align(fixed: Tensor, moving: Tensor, spacing: np.ndarray, kind: str, **more: Any) -> LabelAlignment:
        kinds.append(kind)
        return LabelAlignment(matrix_vox=np.eye(4), labels=LABELS, gained=True, before=0.6, after=0.4)

    monkeypatch.setattr(search, "with_better_start", better)
    monkeypatch.setattr(lent_labels, "align_labels", align)
    whole = images[0].with_array(np.ones(SHAPE, np.uint8))
    more = {key: whole if value == "whole" else value for key, value in more.items()}
    models = SeeingModels()
    result = run(images, model, models, **more)
    counts = more.get("label_weight") != 0 and more.get("refinement_steps") != 0
    moves = [] if kind is None else ["moved"]
    assert kinds == [kind or "affine", *moves] * counts
    assert models.network.asked == 2 + len(moves), "where nothing moved, nothing is asked twice"
    assert (result.report["label_alignment"] is not None) == counts
    assert not counts or result.report["label_alignment"]["moved"] == bool(moves)


def test_a_transform_to_start_from_stays_as_it_is(images: tuple[Volume, Volume], model: Path) -> None:
    bend = run(images, model, label_weight=0.0, refinement_steps=3).transform
    config = RegistrationConfig(
        model=str(model), device="cpu", initial="transform", refinement_steps=1, label_alignment=True
    )
    bent = SpatialTransform(steps=bend.steps)
    result = register(*images, config, start_from=bent, models=SeeingModels())
    assert not result.report["label_alignment"]["moved"]
    assert result.report["initial_deformation"]


def strange(images: tuple[Volume, Volume]) -> tuple[Volume, Volume]:
    """The moving image in another contrast: its labels are taken for others."""
    values = np.array([0, 50, 80, 20, 60, 10, 70, 40, 30], np.float32)
    moving = images[1]
    return images[0], moving.with_array(values[(moving.array / 10).astype(int)])


def test_labels_that_do_not_go_together_are_left_out_with_a_warning(images: tuple[Volume, Volume], model: Path) -> None:
    pair = strange(images)
    lent, plain = run(pair, model, initial="none"), run(pair, model, initial="none", label_weight=0.0)
    (warning,) = lent.report["warnings"]
    assert warning["code"] == "labels-disagree"
    assert "labels are left out" in warning["text"]
    assert lent.report["label_alignment"]["disagreement_after"] > 0.7
    assert lent.report["refinement"]["labels"] == 0
    assert np.array_equal(lent.warped.array, plain.warped.array)
    assert "not trained on such images" in judge(lent.report).text


def test_labels_that_somebody_asked_for_guide_all_the_same(images: tuple[Volume, Volume], model: Path) -> None:
    lent = run(strange(images), model, initial="none", label_weight=1.0, label_alignment=True)
    assert "guide all the same" in lent.report["warnings"][0]["text"]
    assert lent.report["refinement"]["labels"] == LABELS
    assert lent.report["initial_matrix_ras"] == np.eye(4).tolist(), "but move nothing as a whole"


@pytest.mark.parametrize(
    ("trial", "limit"), [(None, 0.7), ({"disagreement": 0.4}, 0.7), ({"disagreement": 0.9}, 1.35), ({"pairs": 2}, 0.7)]
)
def test_small_structures_may_lie_farther_apart(model: Path, trial: dict | None, limit: float) -> None:
    card = load_checkpoint(model).card
    assert disagreement_limit(replace(card, training={"label_trial": trial})) == pytest.approx(limit)
