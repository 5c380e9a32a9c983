"""Chains of matrices and grids, judged by ITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from geometry_cases import (
    AFFINE,
    FLIPPED,
    OBLIQUE,
    SHAPE,
    itk_affine,
    itk_field,
    itk_points,
    placed,
    points_in,
    random_grid,
    smooth_grid,
)

from autofuse_engine.data.transform import (
    GridStep,
    MatrixStep,
    SpatialTransform,
    compose,
    invert_points,
)


@pytest.mark.parametrize("matrix", [OBLIQUE, FLIPPED])
def test_a_grid_moves_points_as_itk_does_inside_and_outside(matrix: np.ndarray) -> None:
    grid = random_grid(matrix)
    points = points_in(matrix, SHAPE, 1000, beyond=1.5)
    moved = SpatialTransform(steps=(grid,)).transform_points(points)
    assert moved == pytest.approx(itk_points(itk_field(grid), points), abs=1e-9)
    outside = (moved == points).all(axis=1)
    assert 0.3 < outside.mean() < 0.8


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_grid_ends_half_a_voxel_beyond_its_outermost_points(axis: int) -> None:
    grid = random_grid(np.diag([2.0, 4.0, 8.0, 1.0]))  # exact in binary, so that the border is exact
    last = SHAPE[::-1][axis] - 1
    middle = np.array([3.0, 4.0, 5.0])
    for index, inside in ((-0.5, True), (-0.501, False), (last + 0.499, True), (last + 0.5, False)):
        ijk = middle.copy()
        ijk[axis] = index
        point = ijk * (2.0, 4.0, 8.0)
        moved = grid.transform_points(point[None])[0]
        judge = itk_points(itk_field(grid), point[None])[0]
        assert moved == pytest.approx(judge, abs=1e-12)
        assert (not np.array_equal(moved, point)) is inside


def test_a_single_slice_is_a_grid_too() -> None:
    grid = random_grid(OBLIQUE, (1, 6, 5))
    points = points_in(OBLIQUE, (1, 6, 5), 200, beyond=0.7)
    assert grid.transform_points(points) == pytest.approx(itk_points(itk_field(grid), points), abs=1e-9)


def test_steps_are_applied_first_to_last() -> None:
    grid = random_grid()
    points = points_in(OBLIQUE, SHAPE, beyond=1.0)
    chain = SpatialTransform(steps=(AFFINE, grid, MatrixStep(matrix_ras=placed(np.diag([2.0, 1, 1]), (0, 0, 9)))))
    judge = itk_points(itk_field(grid), itk_points(itk_affine(AFFINE), points)) * (2, 1, 1) + (0, 0, 9)
    assert chain.transform_points(points) == pytest.approx(judge, abs=1e-9)


def test_no_step_is_the_identity() -> None:
    points = points_in(OBLIQUE, SHAPE)
    assert np.array_equal(SpatialTransform(steps=()).transform_points(points), points)


def test_the_points_received_stay_as_they_are() -> None:
    points = points_in(OBLIQUE, SHAPE)
    before = points.copy()
    SpatialTransform(steps=(AFFINE, random_grid())).transform_points(points)
    assert np.array_equal(points, before)


def test_more_points_than_fit_at_once_come_back_in_order() -> None:
    points = np.random.default_rng(0).normal(scale=30, size=((1 << 18) + 1000, 3))
    moved = SpatialTransform(steps=(AFFINE,)).transform_points(points)
    wanted = points @ AFFINE.matrix_ras[:3, :3].T + AFFINE.matrix_ras[:3, 3]
    assert np.abs(moved - wanted).max() < 1e-12


def test_composing_applies_the_first_transform_first_and_merges_matrices() -> None:
    grid = random_grid()
    other = MatrixStep(matrix_ras=placed(np.diag([1.0, 2, 3]), (1, 0, 0)))
    first, then = SpatialTransform(steps=(grid, AFFINE)), SpatialTransform(steps=(other, grid))
    points = points_in(OBLIQUE, SHAPE)
    both = compose(first, then)
    assert both.transform_points(points) == pytest.approx(then.transform_points(first.transform_points(points)))
    assert [type(step) for step in both.steps] == [GridStep, MatrixStep, GridStep]


def test_the_matrix_of_a_chain_multiplies_from_the_left() -> None:
    second = MatrixStep(matrix_ras=placed(np.diag([1.0, 2, 3]), (1, 0, 0)))
    chain = SpatialTransform(steps=(AFFINE, second))
    points = points_in(OBLIQUE, SHAPE)
    matrix = chain.matrix_ras
    assert matrix is not None
    assert points @ matrix[:3, :3].T + matrix[:3, 3] == pytest.approx(chain.transform_points(points))
    assert SpatialTransform(steps=(AFFINE, random_grid())).matrix_ras is None


def test_flattening_agrees_with_itks_own_sampling() -> None:
    grid = smooth_grid(FLIPPED)
    chain = SpatialTransform(steps=(AFFINE, grid))
    flat = chain.flattened(OBLIQUE, (5, 7, 6))
    judge = sitk.CompositeTransform([itk_field(grid), itk_affine(AFFINE)])
    for k, j, i in ((0, 0, 0), (4, 6, 5), (2, 3, 1), (0, 6, 0)):
        point = OBLIQUE[:3, :3] @ (i, j, k) + OBLIQUE[:3, 3]
        assert flat.displacement_ras[k, j, i] == pytest.approx(itk_points(judge, point[None])[0] - point, abs=1e-9)
    assert flat.displacement_ras.dtype == np.float64


def test_flattening_onto_its_own_grid_keeps_a_field() -> None:
    grid = random_grid()
    again = SpatialTransform(steps=(grid,)).flattened(grid.ras_from_ijk, grid.shape)
    assert again.displacement_ras == pytest.approx(grid.displacement_ras, abs=1e-9)


@pytest.mark.parametrize("matrix", [OBLIQUE, FLIPPED])
def test_the_gradient_is_the_derivative_of_the_displacement(matrix: np.ndarray) -> None:
    grid = random_grid(matrix)
    points = points_in(matrix, SHAPE, 100)
    _, gradient = grid.displacement_and_gradient_at(points)
    step = 1e-6
    for axis in range(3):
        shift = np.eye(3)[axis] * step
        difference = (grid.displacement_at(points + shift) - grid.displacement_at(points - shift)) / (2 * step)
        close = np.isclose(gradient[:, :, axis], difference, atol=1e-4).all(axis=1)
        assert close.mean() > 0.98  # a point within a step of a cell's border sees two slopes


def test_the_margin_of_half_a_voxel_is_flat() -> None:
    grid = random_grid(np.eye(4))
    _, gradient = grid.displacement_and_gradient_at(np.array([[-0.3, 4.2, 5.1]]))
    assert np.array_equal(gradient[0, :, 0], np.zeros(3))
    assert np.abs(gradient[0, :, 1]).max() > 0


def test_inverted_points_come_back_within_a_ten_thousandth_of_a_millimetre() -> None:
    chain = SpatialTransform(steps=(AFFINE, smooth_grid(), MatrixStep(matrix_ras=placed(np.eye(3) * 0.9, (1, 2, 3)))))
    origins = points_in(np.linalg.inv(AFFINE.matrix_ras) @ OBLIQUE, SHAPE, beyond=-1.5)
    found = invert_points(chain, chain.transform_points(origins))
    assert found.converged.all()
    assert np.abs(found.points_ras - origins).max() <= 1e-4
    assert found.error_mm.max() <= 1e-4


def test_newton_masters_a_field_on_which_fixed_point_iteration_diverges() -> None:
    stretch = np.zeros((*SHAPE, 3))
    stretch[..., 0] = 1.6 * np.indices(SHAPE)[2]  # x -> 2.6 x: the fixed point x = p - d(x) runs away
    grid = GridStep(displacement_ras=stretch, ras_from_ijk=np.eye(4))
    wanted = np.array([[10.4, 5.0, 4.0], [7.8, 3.0, 2.0]])
    found = invert_points(SpatialTransform(steps=(grid,)), wanted)
    assert found.converged.all()
    assert found.points_ras == pytest.approx(np.array([[4.0, 5, 4], [3.0, 3, 2]]), abs=1e-5)


def test_a_point_that_nothing_maps_to_is_reported() -> None:
    jump = np.zeros((*SHAPE, 3))
    jump[..., 0] = 40.0  # the whole grid leaves its place: nothing arrives there
    found = invert_points(
        SpatialTransform(steps=(GridStep(displacement_ras=jump, ras_from_ijk=np.eye(4)),)),
        np.array([[6.0, 5.0, 4.0], [90.0, 5.0, 4.0]]),
    )
    assert found.converged.tolist() == [False, True]
    assert found.error_mm[0] > 1.0


def test_points_outside_of_the_grid_are_their_own_inverse() -> None:
    wanted = np.array([[500.0, -400.0, 300.0]])
    assert invert_points(SpatialTransform(steps=(smooth_grid(),)), wanted).points_ras == pytest.approx(wanted)


def test_wrong_shapes_are_refused_with_the_shape_received() -> None:
    with pytest.raises(ValueError, match=r"\(N, 3\), received \(4, 2\)"):
        SpatialTransform(steps=()).transform_points(np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"\(D, H, W, 3\), received \(3, 4, 5, 6\)"):
        GridStep(displacement_ras=np.zeros((3, 4, 5, 6)), ras_from_ijk=np.eye(4))
    with pytest.raises(ValueError, match="floating-point numbers, received int64"):
        GridStep(displacement_ras=np.zeros((3, 4, 5, 3), np.int64), ras_from_ijk=np.eye(4))
    with pytest.raises(ValueError, match="last row 0 0 0 1, received"):
        MatrixStep(matrix_ras=np.ones((4, 4)))
