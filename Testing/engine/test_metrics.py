"""Figures on arrays small enough to count by hand."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from autofuse_engine.data.surface_distance import hd95_per_label
from autofuse_engine.metrics import correlation, dice_per_label, landmark_error_mm, mean_of


def test_dice_counts_each_label_and_skips_background() -> None:
    first = np.array([[[1, 1, 1, 2], [0, 0, 7, 0]]])
    second = np.array([[[1, 1, 2, 2], [0, 0, 0, 9]]])
    assert dice_per_label(first, second) == {1: pytest.approx(0.8), 2: pytest.approx(2 / 3), 7: 0.0, 9: 0.0}


def test_dice_knows_large_label_values() -> None:
    labels = np.array([[[0, 702, 3_000_000]]], dtype=np.int64)
    assert dice_per_label(labels, labels) == {702: 1.0, 3_000_000: 1.0}


def test_the_mean_leaves_out_nan_and_is_none_without_values() -> None:
    assert mean_of({1: 0.5, 2: float("nan"), 3: 1.0}) == 0.75
    assert mean_of({}) is None


def test_correlation_equals_numpy_and_ignores_what_lies_outside_the_mask() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((4, 5, 6)), rng.random((4, 5, 6))
    where = rng.random((4, 5, 6)) > 0.4
    assert correlation(first, second, where) == pytest.approx(np.corrcoef(first[where], second[where])[0, 1])
    assert np.isnan(correlation(first, np.ones_like(first)))


def test_landmark_error_is_the_mean_distance() -> None:
    wanted = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    moved = wanted + np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    assert landmark_error_mm(moved, wanted) == 3.0
    with pytest.raises(ValueError, match="received"):
        landmark_error_mm(wanted, wanted[:1])


def hd95_by_brute_force(first: np.ndarray, second: np.ndarray, spacing_ijk: np.ndarray) -> float:
    points = []
    for mask in (first, second):
        inner = binary_erosion(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
        points.append(np.argwhere(mask & ~inner) * spacing_ijk[::-1])
    there, back = cKDTree(points[1]).query(points[0])[0], cKDTree(points[0]).query(points[1])[0]
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def test_hd95_equals_brute_force_on_anisotropic_voxels() -> None:
    k, j, i = np.indices((18, 20, 24))
    first, second = np.zeros((18, 20, 24), np.uint8), np.zeros((18, 20, 24), np.uint8)
    first[(k - 7) ** 2 + (j - 9) ** 2 + (i - 10) ** 2 < 30] = 3
    second[(k - 9) ** 2 + (j - 10) ** 2 + 0.5 * (i - 13) ** 2 < 26] = 3
    first[0, 0, :3] = 5  # at the border, and only here
    spacing = np.array([0.8, 1.3, 2.1])
    result = hd95_per_label(first, second, spacing)
    assert result[3] == pytest.approx(hd95_by_brute_force(first == 3, second == 3, spacing), abs=1e-4)
    assert np.isnan(result[5])


def test_labelmaps_of_different_shape_are_refused() -> None:
    for function in (dice_per_label, lambda a, b: hd95_per_label(a, b, np.ones(3))):
        with pytest.raises(ValueError, match="one shape"):
            function(np.zeros((2, 3, 4), int), np.zeros((2, 3, 5), int))
