"""Prepared arrays show the patient where they should, as bright as they should, with labels that no one invented."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from dataset_folder import KERNELS, egg

from autofuse_engine.data.case_arrays import prepared_image, prepared_labels
from autofuse_engine.data.files import to_sitk
from autofuse_engine.data.label_groups import make_groups
from autofuse_engine.data.preprocessing import Grid, normalised
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.model_card import Preprocessing

GROUPS = make_groups([2, 5, 9], {})


def target(spacing: tuple[float, float, float] = (2.0, 2.2, 1.8)) -> Grid:
    """A tilted left-handed grid of 32 x 48 x 16 voxels (D, H, W) about the origin."""
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([-1.0, 1.0, 1.0]) @ np.diag(spacing)
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array([16, 48, 32]) - 1) / 2)
    return Grid(shape=(32, 48, 16), ras_from_ijk=matrix)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_labels_lie_where_the_anatomy_is(number: int) -> None:
    grid = target()
    labels = prepared_labels(egg(number)[1], np.eye(4), grid, GROUPS)
    assert labels.shape == grid.shape
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    for new, old in ((2, 5), (3, 9)):
        center = np.argwhere(labels == new).mean(axis=0)[::-1]
        np.testing.assert_allclose(map_points(grid.ras_from_ijk, center), KERNELS[old], atol=0.6)


def test_the_matrix_takes_points_of_the_grid_to_the_image() -> None:
    grid, matrix = target(), np.eye(4)
    matrix[:3, :3] = np.diag([1.1, 0.95, 1.0])
    matrix[:3, 3] = [4.0, -3.0, 2.0]
    labels = prepared_labels(egg(0)[1], matrix, grid, GROUPS)
    center = np.argwhere(labels == 3).mean(axis=0)[::-1]
    found = map_points(matrix, map_points(grid.ras_from_ijk, center))
    np.testing.assert_allclose(found, KERNELS[9], atol=0.6)


def test_the_image_is_what_simpleitk_finds_in_the_normalised_one() -> None:
    volume, grid = egg(1)[0], target()
    found = prepared_image(volume, np.eye(4), grid, Preprocessing(intensity_percentiles=(0.0, 99.5)))
    moving = to_sitk(volume.with_array(normalised(volume.array, (0.0, 99.5))))
    reference = to_sitk(Volume(array=np.zeros(grid.shape, np.uint8), ras_from_ijk=grid.ras_from_ijk))
    wanted = sitk.GetArrayFromImage(sitk.Resample(moving, reference, sitk.Transform(), sitk.sitkLinear, 0.0))
    assert found.dtype == np.uint8
    assert np.abs(found / 255.0 - wanted).max() <= 0.5 / 255 + 1e-5
    assert found.max() > 200


def test_a_coarser_grid_is_smoothed_first() -> None:
    volume = egg(0)[0]
    noisy = volume.with_array(np.random.default_rng(3).normal(500, 200, volume.shape).clip(0).astype(np.float32))
    same, coarse = (
        prepared_image(noisy, np.eye(4), target((s, s, s)), Preprocessing(intensity_window=(0.0, 1000.0)))
        for s in (2.0, 6.0)
    )
    inside = tuple(slice(side // 2 - 2, side // 2 + 2) for side in same.shape)
    assert coarse[inside].std() < 0.6 * same[inside].std()


def test_a_window_is_in_units_of_the_image() -> None:
    volume = egg(0)[0]
    ct = volume.with_array(volume.array.astype(np.int16) - 1000)
    found = prepared_image(ct, np.eye(4), target(), Preprocessing(intensity_window=(-1000.0, 0.0)))
    points = map_points(target().ras_from_ijk, np.argwhere(found >= 0)[:, ::-1])
    inner = np.linalg.norm(points - KERNELS[9], axis=1) < 3
    assert found.reshape(-1)[inner].mean() == pytest.approx(0.9 * 255, abs=2)
    assert found[0, 0, 0] == 0


def test_how_the_file_stores_its_axes_has_no_influence() -> None:
    from autofuse_engine.data.volume import AxisOrder

    image, labels = egg(2)
    other = AxisOrder(order=(2, 0, 1), flips=(True, False, True))
    for orientation in ("RAS", "LIA"):
        preprocessing = Preprocessing(orientation=orientation)
        one, two = (
            prepared_image(volume, np.eye(4), target(), preprocessing) for volume in (image, image.reordered(other))
        )
        assert np.abs(one.astype(int) - two).max() <= 1
    pair = (prepared_labels(volume, np.eye(4), target(), GROUPS) for volume in (labels, labels.reordered(other)))
    assert np.mean(np.not_equal(*pair)) < 1e-3


def test_merged_labels_vote_together() -> None:
    """Left and right halves of one structure: at their seam neither has a majority against background alone."""
    array = np.zeros((9, 10, 11), np.uint8)
    array[4, :, 4] = 1
    array[4, :, 5] = 2
    volume = Volume(array=array, ras_from_ijk=np.eye(4))
    shifted = np.eye(4)
    shifted[:3, 3] = [4.5, 2.0, 4.4]
    grid = Grid(shape=(1, 1, 1), ras_from_ijk=shifted)
    from autofuse_engine.dataset_configs import LabelRule

    merged = make_groups([1, 2], {}, (LabelRule(old=1, new=1), LabelRule(old=2, new=1)))
    assert prepared_labels(volume, np.eye(4), grid, merged).item() == 1, "0.3 + 0.3 against 0.4"
    apart = make_groups([1, 2], {})
    assert prepared_labels(volume, np.eye(4), grid, apart).item() == 0, "0.3 and 0.3 against 0.4"
