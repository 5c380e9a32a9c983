"""What counts when a registration is judged with labels."""

from __future__ import annotations

import numpy as np
import pytest

from autofuse_engine.assessment import Judge
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume

SHAPE = (9, 12, 10)
PLACE = np.array([[0.0, -2.0, 0.0, 5.0], [1.5, 0.0, 0.0, -3.0], [0.0, 0.0, 3.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
IDENTITY = SpatialTransform(steps=(MatrixStep(matrix_ras=np.eye(4)),))


def volume(array: np.ndarray) -> Volume:
    return Volume(array=array, ras_from_ijk=PLACE, name="volume")


@pytest.fixture
def labels() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[1:4, 2:9, 3:8] = 1
    array[5:8, 2:9, 3:8] = 2
    return array


def test_a_label_that_only_one_image_has_does_not_count(labels: np.ndarray) -> None:
    image = volume(np.random.default_rng(3).random(SHAPE, np.float32))
    moving_labels = np.where(labels == 2, 7, labels)
    judge = Judge(image, volume(labels), None, None, np.ones(SHAPE, bool))
    moving = volume(moving_labels)
    figures = judge.before_and_after(image, moving, IDENTITY, IDENTITY, image, moving, lambda: None)
    assert figures["after"]["dice"] == {1: 1.0}
    assert figures["after"]["dice_mean"] == 1.0
    assert set(figures["before"]["hd95_mm"]) == {1}


def test_a_label_that_was_moved_out_of_the_image_counts_as_lost(labels: np.ndarray) -> None:
    image = volume(np.random.default_rng(3).random(SHAPE, np.float32))
    lost = volume(np.where(labels == 2, 0, labels))
    judge = Judge(image, volume(labels), None, None, np.ones(SHAPE, bool))
    figures = judge.before_and_after(image, volume(labels), IDENTITY, IDENTITY, image, lost, lambda: None)
    assert figures["after"]["dice"] == {1: 1.0, 2: 0.0}
    assert figures["after"]["dice_mean"] == 0.5
