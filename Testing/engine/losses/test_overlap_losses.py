"""FocalDice against sums written out in numpy, and where it is smallest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autofuse_engine.losses.overlap import focal_dice_of_sums, focal_loss
from Testing.engine.reference.plain_overlap import plain_focal_dice

SHAPE = (4, 6, 5)


def memberships(classes: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    raw = rng.exponential(size=(1, classes, *SHAPE))
    return raw / raw.sum(axis=1, keepdims=True)


def one_hot(classes: int, seed: int) -> np.ndarray:
    labels = np.random.default_rng(seed).integers(0, classes, (1, *SHAPE))
    return (labels[:, None] == np.arange(classes)[None, :, None, None, None]).astype(float)


def by_hand(target: np.ndarray, likely: np.ndarray) -> float:
    total = 0.0
    for sample in range(len(target)):
        dices = [
            1 - 2 * (target[sample, k] * likely[sample, k]).sum() / (target[sample, k] + likely[sample, k]).sum()
            for k in range(1, target.shape[1])
        ]
        focal = 0.0
        for voxel in np.ndindex(*SHAPE):
            for k in range(target.shape[1]):
                a, b = target[(sample, k, *voxel)], likely[(sample, k, *voxel)]
                focal += -0.25 * a * (1 - b) ** 2 * np.log(max(b, 1e-5))
        total += np.mean(dices) + focal / np.prod(SHAPE)
    return total / len(target)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("soft", [True, False])
def test_it_equals_the_formula_written_out(classes: int, soft: bool) -> None:
    target = memberships(classes, 1) if soft else one_hot(classes, 1)
    likely = memberships(classes, 2)
    got = plain_focal_dice(torch.from_numpy(target), torch.from_numpy(likely))
    assert float(got) == pytest.approx(by_hand(target, likely), rel=1e-6)


def test_impossible_probabilities_are_finite_and_costly() -> None:
    target, likely = one_hot(3, 1), one_hot(3, 2)
    got = plain_focal_dice(torch.from_numpy(target), torch.from_numpy(likely))
    assert float(got) == pytest.approx(by_hand(target, likely), rel=1e-6)
    assert 1.0 < float(got) < 5.0


def test_a_perfect_segmentation_costs_nothing_even_where_a_class_is_absent() -> None:
    target = torch.from_numpy(one_hot(3, 1))
    padded = torch.cat([target, torch.zeros(1, 2, *SHAPE)], dim=1)
    assert float(plain_focal_dice(padded, padded)) == pytest.approx(0.0, abs=1e-9)


def test_swapping_two_classes_is_worse_than_blurring_them() -> None:
    target = torch.from_numpy(one_hot(3, 1))
    blurred = 0.7 * target + 0.1
    assert float(plain_focal_dice(target, blurred)) < float(plain_focal_dice(target, target[:, [0, 2, 1]]))


def test_background_alone_is_refused() -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="at least 2"):
        focal_dice_of_sums(one, one, one, one.sum(), 10)


def test_the_focal_loss_is_that_of_the_formula() -> None:
    likely = torch.tensor([0.1, 0.5, 0.9])
    expected = [-0.25 * (1 - b) ** 2 * np.log(b) for b in (0.1, 0.5, 0.9)]
    assert focal_loss(likely, likely.log()).tolist() == pytest.approx(expected, rel=1e-5)
