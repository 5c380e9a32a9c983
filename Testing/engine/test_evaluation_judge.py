"""The judge against closed forms, on oblique, flipped, anisotropic grids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_judge import PairJudge, determinant_on
from autofuse_engine.evaluation_methods import EvaluationPair

SHAPE = (9, 14, 11)


def oblique(shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, ...] = (1.5, 2.0, 3.0)) -> np.ndarray:
    """RAS from ijk of a turned grid that runs left, posterior, superior."""
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([-1.0, -1.0, 1.0]) @ np.diag(spacing)
    matrix[:3, 3] = [20.0, -7.0, 3.0]
    return matrix


def volume(array: np.ndarray, name: str = "image") -> Volume:
    return Volume(array=array, ras_from_ijk=oblique(array.shape), name=name)


def pair_with(**more: object) -> EvaluationPair:
    rng = np.random.default_rng(3)
    fixed, moving = (volume(rng.uniform(100, 900, SHAPE).astype(np.float32), name) for name in ("fixed", "moving"))
    return EvaluationPair(fixed=fixed, moving=moving, initial_ras=np.eye(4), **more)  # type: ignore[arg-type]


def matrix_transform(matrix: np.ndarray) -> SpatialTransform:
    return SpatialTransform(steps=(MatrixStep(matrix_ras=matrix),))


def shift_by_voxels(i: int, j: int, k: int) -> SpatialTransform:
    """Takes the centre of fixed voxel (i, j, k) = 0 to that of voxel (i, j, k) of the same grid."""
    matrix = np.eye(4)
    matrix[:3, 3] = oblique()[:3, :3] @ np.array([i, j, k])
    return matrix_transform(matrix)


def along_i(displacement_vox: np.ndarray) -> SpatialTransform:
    """A grid step that moves each voxel along i by so many voxels, ``(W,)``."""
    vectors = displacement_vox[None, None, :, None] * oblique()[:3, 0]
    field = np.broadcast_to(vectors, (*SHAPE, 3)).copy()
    return SpatialTransform(steps=(GridStep(displacement_ras=field, ras_from_ijk=oblique()),))


class TestDeterminant:
    def test_of_a_matrix_it_is_that_of_the_matrix_everywhere(self) -> None:
        matrix = np.eye(4)
        matrix[:3, :3] = [[1.2, 0.1, 0.0], [0.0, 0.9, 0.3], [0.2, 0.0, 1.1]]
        cells = determinant_on(pair_with().fixed, matrix_transform(matrix))
        assert cells.shape == (8, 13, 10)
        assert cells == pytest.approx(np.linalg.det(matrix[:3, :3]))

    def test_of_a_mirror_image_it_is_negative(self) -> None:
        cells = determinant_on(pair_with().fixed, matrix_transform(np.diag([1.0, -1.0, 1.0, 1.0])))
        assert cells == pytest.approx(-1.0)

    def test_of_a_grid_and_a_matrix_it_is_the_product(self) -> None:
        slope = 0.01 * np.arange(SHAPE[2]) ** 2
        (step,) = along_i(slope).steps
        whole = SpatialTransform(steps=(step, MatrixStep(matrix_ras=np.diag([1.1, 1.2, 0.8, 1.0]))))
        cells = determinant_on(pair_with().fixed, whole)
        expected = (1 + np.diff(slope)) * (1.1 * 1.2 * 0.8)
        assert cells == pytest.approx(np.broadcast_to(expected, cells.shape))

    def test_a_transform_that_is_not_finite_is_refused(self) -> None:
        with pytest.raises(InputError) as caught:
            determinant_on(pair_with().fixed, along_i(np.full(SHAPE[2], np.nan)))
        assert caught.value.code == "transform-not-finite"


class TestRegularity:
    def test_folds_are_counted_and_the_spread_of_the_logarithm_is_that_of_the_clipped_determinants(self) -> None:
        displacement = np.zeros(SHAPE[2])
        displacement[5:] = -1.5  # the step from 4 to 5 turns back by half a voxel
        displacement[7:] = -1.25
        figures = PairJudge(pair_with(), seed=0).regularity(along_i(displacement))
        expected = np.array([1, 1, 1, 1, -0.5, 1, 1.25, 1, 1, 1])
        assert figures["folding_count"] == 8 * 13
        assert figures["folding_percent"] == pytest.approx(10.0)
        assert figures["sd_log_jacobian"] == pytest.approx(np.log(expected.clip(1e-9, 1e9)).std())

    @pytest.mark.parametrize(("masked", "inner"), [(4, [1, 1, 1, 1]), (5, [1, 1, 1, 1, 1e-9])])
    def test_the_spread_is_that_of_cells_whose_lower_corner_is_masked_and_folds_are_those_of_all(
        self, masked: int, inner: list[float]
    ) -> None:
        displacement = np.zeros(SHAPE[2])
        displacement[5:] = -1.5
        mask = np.zeros(SHAPE, np.uint8)
        mask[:, :, :masked] = 1
        figures = PairJudge(pair_with(fixed_mask=volume(mask)), seed=0).regularity(along_i(displacement))
        assert figures["sd_log_jacobian"] == pytest.approx(np.log(inner).std(), abs=1e-9)
        assert figures["folding_count"] == 8 * 13


class TestAlignment:
    def labels(self) -> tuple[Volume, Volume]:
        """Boxes 4 and 6 that lie one voxel further along i in the moving image; 9 in the fixed image alone."""
        fixed, moving = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        fixed[2:6, 3:8, 2:6], moving[2:6, 3:8, 3:7] = 4, 4
        fixed[2:4, 10:12, 1:9], moving[2:4, 10:12, 2:10] = 6, 6
        fixed[7:8, 2:4, 2:4] = 9
        return volume(fixed), volume(moving)

    def test_dice_and_distance_of_boxes_one_voxel_apart(self) -> None:
        fixed, moving = self.labels()
        judge = PairJudge(pair_with(fixed_labels=fixed, moving_labels=moving), seed=0)
        apart = judge.alignment(matrix_transform(np.eye(4)))
        assert apart["dice_per_label"] == {"4": pytest.approx(0.75), "6": pytest.approx(7 / 8)}
        assert apart["dice"] == pytest.approx((0.75 + 7 / 8) / 2)
        assert apart["hd95_per_label_mm"] == {"4": pytest.approx(1.5), "6": pytest.approx(1.5)}
        together = judge.alignment(shift_by_voxels(1, 0, 0))
        assert together["dice"] == 1.0
        assert together["hd95_mm"] == 0.0
        assert judge.alignment(shift_by_voxels(-1, 0, 0))["dice_per_label"]["4"] == pytest.approx(0.5)

    def test_a_label_that_is_moved_out_has_dice_zero_and_no_distance(self) -> None:
        fixed, moving = self.labels()
        figures = PairJudge(pair_with(fixed_labels=fixed, moving_labels=moving), 0).alignment(shift_by_voxels(0, 0, 50))
        assert figures["dice"] == 0.0
        assert figures["hd95_mm"] is None

    def test_without_labels_and_landmarks_only_the_correlation_is_known(self) -> None:
        pair = pair_with()
        judge = PairJudge(replace(pair, moving=volume(pair.fixed.array * 2 + 5, "moving")), seed=0)
        figures = judge.alignment(matrix_transform(np.eye(4)))
        assert figures.pop("ncc") == pytest.approx(1.0)
        assert set(map(str, figures.values())) == {"None", "{}"}

    def test_landmarks_are_taken_from_the_fixed_to_the_moving_image(self) -> None:
        points = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 6.0]])
        matrix = np.eye(4)
        matrix[:3, 3] = [3.0, 0.0, 4.0]
        judge = PairJudge(pair_with(fixed_points_ras=points, moving_points_ras=map_points(matrix, points)), seed=0)
        assert judge.alignment(matrix_transform(matrix))["tre_mm"] == pytest.approx(0.0)
        assert judge.alignment(matrix_transform(np.eye(4)))["tre_mm"] == pytest.approx(5.0)

    def test_points_of_one_image_alone_are_refused(self) -> None:
        with pytest.raises(InputError, match="do not match"):
            PairJudge(pair_with(fixed_points_ras=np.zeros((2, 3))), seed=0)


def test_the_inverse_is_measured_as_the_distance_to_where_a_point_came_from() -> None:
    judge = PairJudge(pair_with(), seed=0)
    matrix = np.eye(4)
    matrix[:3, 3] = [3.0, 0.0, 4.0]
    found = judge.consistency(matrix_transform(matrix), matrix_transform(np.eye(4)))
    assert found == {"inverse_mean_mm": pytest.approx(5.0), "inverse_p99_mm": pytest.approx(5.0)}
    assert judge.consistency(matrix_transform(matrix), None) == {}
