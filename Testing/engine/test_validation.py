"""Figures of a network on held-out pairs, with networks whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.distributed import Processes
from autofuse_engine.metrics import dice_per_label
from autofuse_engine.networks.build import build_network
from autofuse_engine.networks.network import NetworkOutput
from autofuse_engine.training_configs import TrainingConfig
from autofuse_engine.training_pairs import ClassTable
from autofuse_engine.validation import Validator, carried

SHAPE = (16, 32, 16)


@dataclass
class Named:
    name: str


class InMemory:
    """A ball in two images, ``shift`` voxels apart along H, with the label values 5 (ball) and 9 (its core)."""

    shape = SHAPE
    spacing_mm = (2.0, 1.5, 3.0)  # along W, H, D

    def __init__(self, shift: int, labelled: tuple[bool, bool] = (True, True)) -> None:
        self.labelled = labelled
        places = np.stack(np.indices(SHAPE), axis=-1) - np.array(SHAPE) / 2
        radius = np.linalg.norm(places / (5, 8, 5), axis=-1)
        labels = np.where(radius < 0.5, 9, np.where(radius < 1, 5, 0)).astype(np.uint8)
        self._labels = [labels, np.roll(labels, shift, axis=1)]
        self.cases: Sequence[Named] = [Named("still"), Named("moved")]

    def image(self, index: int) -> NDArray[np.float32]:
        return gaussian_filter(self._labels[index].astype(np.float32) / 9, 0.7)

    def labelmap(self, index: int) -> NDArray | None:
        return self._labels[index] if self.labelled[index] else None


class Constant(torch.nn.Module):
    """Answers each pair with one velocity along H, and with logits that name one class."""

    def __init__(self, along_h: float, winner: int | None = None) -> None:
        super().__init__()
        self.along_h, self.winner = along_h, winner

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> NetworkOutput:
        velocity = torch.zeros(1, 3, *(side // 2 for side in fixed.shape[2:]))
        velocity[:, 1] = self.along_h / 2  # voxels of half the resolution
        logits = None
        if self.winner is not None:
            logits = torch.zeros(1, 3, *fixed.shape[2:])
            logits[:, self.winner] = 1
        return NetworkOutput(
            velocity_mean=velocity, velocity_log_variance=None, fixed_logits=logits, moving_logits=logits
        )


def validator(cases: InMemory, pairs: list[tuple[int, int]] | None = None) -> Validator:
    config = TrainingConfig(dataset="none", network=NetworkConfig(align_corners=False))
    alone = Processes(rank=0, count=1, device=torch.device("cpu"))
    return Validator(config, cases, pairs or [(0, 1)], ClassTable([5, 9]), alone)


def test_the_true_move_scores_one_and_no_move_scores_the_overlap_that_was_there() -> None:
    cases = InMemory(shift=4)
    still = validator(cases).judge(Constant(0.0))  # type: ignore[arg-type]
    labels = [cases.labelmap(index) for index in (0, 1)]
    assert labels[0] is not None
    assert labels[1] is not None
    expected = np.mean(list(dice_per_label(labels[0], labels[1]).values()))
    assert still.score == still.figures["dice"] == pytest.approx(expected)
    assert still.figures["hd95_mm"] == pytest.approx(_distance_by_itk(labels[0], labels[1], cases.spacing_mm), rel=0.25)
    right = validator(cases).judge(Constant(4.0))  # type: ignore[arg-type]
    assert right.score == pytest.approx(1.0)
    assert right.figures["hd95_mm"] == 0
    assert right.figures["folding_count"] == 0
    assert (right.figures["similarity"] or 0) > (still.figures["similarity"] or 0)
    wrong = validator(cases).judge(Constant(-4.0))  # type: ignore[arg-type]
    assert wrong.score < still.score


def _distance_by_itk(first: NDArray, second: NDArray, spacing: tuple[float, float, float]) -> float:
    distances = []
    for value in (5, 9):
        images = [sitk.GetImageFromArray((labels == value).astype(np.uint8)) for labels in (first, second)]
        for image in images:
            image.SetSpacing(spacing)
        measure = sitk.HausdorffDistanceImageFilter()
        measure.Execute(*images)
        distances.append(measure.GetHausdorffDistance())
    return float(np.mean(distances))


@pytest.mark.parametrize("labelled", [(True, False), (False, True), (False, False)])
def test_without_labels_on_both_sides_the_similarity_is_the_score(labelled: tuple[bool, bool]) -> None:
    judged = validator(InMemory(4, labelled)).judge(Constant(4.0))  # type: ignore[arg-type]
    assert judged.figures["dice"] is None
    assert judged.score == judged.figures["similarity"]


def test_segmentations_are_judged_where_labels_are() -> None:
    cases = InMemory(0, (True, False))
    judged = validator(cases).judge(Constant(0.0, winner=1))  # type: ignore[arg-type]
    ball = cases.labelmap(0)
    assert ball is not None
    of_ball = 2 * (ball == 5).sum() / ((ball == 5).sum() + ball.size)
    assert judged.figures["segmentation_dice"] == pytest.approx((of_ball + 0) / 2)
    assert validator(cases).judge(Constant(0.0)).figures["segmentation_dice"] is None  # type: ignore[arg-type]


def test_figures_are_means_over_the_pairs() -> None:
    cases = InMemory(shift=4)
    both = validator(cases, [(0, 1), (1, 0)]).judge(Constant(4.0))  # type: ignore[arg-type]
    each = [validator(cases, [pair]).judge(Constant(4.0)).score for pair in ((0, 1), (1, 0))]  # type: ignore[arg-type]
    assert each[0] != each[1]
    assert both.score == pytest.approx(np.mean(each))


def test_a_fresh_network_is_judged_without_noise_and_goes_on_training() -> None:
    network = build_network(NetworkConfig(channels=2, align_corners=False))
    judge = validator(InMemory(shift=4))
    first, second = judge.judge(network), judge.judge(network)
    assert first == second
    assert network.training


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_labels_are_carried_along_each_axis(axis: int) -> None:
    labels = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    field = torch.zeros(1, 3, 5, 6, 7)
    field[0, axis] = 1.4
    expected = np.take(labels, np.minimum(np.arange(labels.shape[axis]) + 1, labels.shape[axis] - 1), axis=axis)
    np.testing.assert_array_equal(carried(labels, field), expected)
