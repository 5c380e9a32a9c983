"""Volumes: place in the patient, order of the axes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from geometry_cases import FLIPPED, OBLIQUE, SHAPE, placed, random_volume, turn

from autofuse_engine.data.volume import AxisOrder, Volume, canonical_axes, map_points

EVERY_ORDER = [
    AxisOrder(order=order, flips=flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def value_at(volume: Volume, point_ras: np.ndarray) -> float:
    """Value of the voxel whose centre is the point, by brute force over all voxel centres."""
    k, j, i = np.indices(volume.shape).reshape(3, -1)
    centres = map_points(volume.ras_from_ijk, np.stack([i, j, k], axis=1))
    distances = np.linalg.norm(centres - point_ras, axis=1)
    assert distances.min() < 1e-9
    return float(volume.array.reshape(-1)[distances.argmin()])


def test_points_are_mapped_by_the_matrix_in_ijk_order() -> None:
    matrix = placed(np.array([[0, 2, 0], [3, 0, 0], [0, 0, 5]]), (10, 20, 30))
    assert map_points(matrix, np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])).tolist() == [
        [10, 23, 30],
        [12, 20, 30],
        [10, 20, 35],
    ]


def test_spacing_directions_and_centre_are_those_of_the_matrix() -> None:
    volume = random_volume()
    assert volume.spacing_mm == pytest.approx([1.25, 2.5, 0.75])
    assert volume.directions_ras == pytest.approx(turn((1, 2, -1), 40))
    corners = map_points(OBLIQUE, np.array([[0, 0, 0], [12, 10, 8]]))
    assert volume.center_ras == pytest.approx(corners.mean(axis=0))


@pytest.mark.parametrize("axes", EVERY_ORDER)
def test_reordering_leaves_each_value_where_it_was(axes: AxisOrder) -> None:
    volume = random_volume(FLIPPED)
    moved = volume.reordered(axes)
    for ijk in ((0, 0, 0), (12, 0, 0), (0, 10, 0), (0, 0, 8), (3, 7, 5)):
        point = map_points(volume.ras_from_ijk, np.array(ijk))
        assert value_at(moved, point) == volume.array[ijk[2], ijk[1], ijk[0]]


@pytest.mark.parametrize("axes", EVERY_ORDER)
def test_the_inverse_order_brings_the_stored_array_back(axes: AxisOrder) -> None:
    volume = random_volume(OBLIQUE)
    back = volume.reordered(axes).reordered(axes.inverse)
    assert np.array_equal(back.array, volume.array)
    assert back.ras_from_ijk == pytest.approx(volume.ras_from_ijk, abs=1e-12)


def test_an_array_of_vectors_is_reordered_like_its_grid() -> None:
    axes = AxisOrder(order=(2, 0, 1), flips=(True, False, True))
    vectors = np.random.default_rng(0).normal(size=(*SHAPE, 3))
    moved = axes.reorder(vectors)
    assert np.array_equal(moved[..., 1], axes.reorder(vectors[..., 1]))


@pytest.mark.parametrize("matrix", [OBLIQUE, FLIPPED, placed(np.diag([-1.0, -1.0, 2.0]), (90, 120, -60))])
def test_canonical_axes_run_right_anterior_superior(matrix: np.ndarray) -> None:
    volume = random_volume(matrix)
    directions = volume.reordered(canonical_axes(matrix)).directions_ras
    assert (np.diag(directions) > 0).all()
    best = max(
        sum(abs(volume.directions_ras[ras, ijk]) for ras, ijk in enumerate(order))
        for order in itertools.permutations(range(3))
    )
    assert np.trace(directions) == pytest.approx(best)


def test_canonical_axes_are_a_permutation_even_when_two_axes_lean_to_the_same_side() -> None:
    axes = canonical_axes(placed(turn((1, 1, 0), 50) @ turn((0, 0, 1), 45), (0, 0, 0)))
    assert sorted(axes.order) == [0, 1, 2]


def test_the_same_grid_tolerates_rounding_and_nothing_else() -> None:
    volume = random_volume()
    nudged = volume.ras_from_ijk.copy()
    nudged[0, 3] += 5e-4
    assert volume.same_grid(Volume(array=volume.array, ras_from_ijk=nudged))
    nudged[0, 0] += 2e-3
    assert not volume.same_grid(Volume(array=volume.array, ras_from_ijk=nudged))
    assert not volume.same_grid(Volume(array=volume.array[:-1], ras_from_ijk=volume.ras_from_ijk))


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 5)])
def test_a_volume_has_three_dimensions(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(D, H, W\), received"):
        Volume(array=np.zeros(shape), ras_from_ijk=np.eye(4))


def test_a_new_array_has_the_same_shape() -> None:
    with pytest.raises(ValueError, match="received"):
        random_volume().with_array(np.zeros((9, 11, 12)))
