"""Foreground, its centre of mass and size, and how much of two images meets: closed forms on a box."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_cases import FLIPPED, OBLIQUE, placed

from autofuse_engine.data.overlap import (
    foreground,
    foreground_radius_mm,
    intensity_range,
    mass_center_ras,
    overlap_share,
)
from autofuse_engine.data.volume import Volume, map_points

SHAPE = (20, 24, 28)


def box_volume(matrix: np.ndarray = OBLIQUE, level: float = 100.0, air: float = 0.0) -> Volume:
    """A bright box of 6 x 8 x 10 voxels (k, j, i) at i 4-13, j 12-19, k 5-10."""
    array = np.full(SHAPE, air, np.float32)
    array[5:11, 12:20, 4:14] = level
    return Volume(array=array, ras_from_ijk=matrix, name="box")


@pytest.mark.parametrize(("level", "air"), [(100.0, 0.0), (40.0, -1000.0), (900.0, 7.0)])
def test_the_foreground_is_what_stands_out_of_air(level: float, air: float) -> None:
    volume = box_volume(level=level, air=air)
    assert np.array_equal(foreground(volume.array), volume.array == level)


def test_the_range_ignores_a_few_bright_voxels() -> None:
    volume = box_volume()
    volume.array[0, 0, :5] = 1e6
    assert intensity_range(volume.array) == (0.0, 100.0)


def test_the_range_of_a_nearly_empty_image_is_its_own() -> None:
    array = np.zeros(SHAPE)
    array[3, 4, 5] = 8.0
    assert intensity_range(array) == (0.0, 8.0)


@pytest.mark.parametrize("matrix", [OBLIQUE, FLIPPED])
def test_the_centre_of_mass_is_the_middle_of_the_box(matrix: np.ndarray) -> None:
    middle = map_points(matrix, np.array([8.5, 15.5, 7.5]))
    assert mass_center_ras(box_volume(matrix)) == pytest.approx(middle, abs=1e-6)
    assert mass_center_ras(box_volume(matrix, level=40, air=-1000)) == pytest.approx(middle, abs=1e-6)


def test_the_centre_of_mass_follows_the_mask_and_falls_back_to_the_middle_of_the_image() -> None:
    volume = box_volume()
    half = np.zeros(SHAPE, np.uint8)
    half[:, :, :9] = 1
    masked = mass_center_ras(volume, volume.with_array(half))
    assert masked == pytest.approx(map_points(OBLIQUE, np.array([6.0, 15.5, 7.5])), abs=1e-6)
    empty = volume.with_array(np.zeros(SHAPE, np.uint8))
    assert mass_center_ras(volume, empty) == pytest.approx(volume.center_ras)


def test_the_radius_is_that_of_a_box_in_millimetres() -> None:
    sides = (10, 8, 6)  # variance of n equally spaced points: (n^2 - 1) / 12 steps squared
    wanted = np.sqrt(sum((n**2 - 1) / 12 * step**2 for n, step in zip(sides, (1.25, 2.5, 0.75), strict=True)))
    assert foreground_radius_mm(box_volume()) == pytest.approx(wanted)
    assert foreground_radius_mm(box_volume(), box_volume().with_array(np.zeros(SHAPE, np.uint8))) == 1.0


@pytest.mark.parametrize(("shift", "share"), [(0, 1.0), (4, 0.6), (7, 0.3), (10, 0.0), (30, 0.0)])
def test_the_share_of_overlap_counts_voxels_inside_the_other_box(shift: int, share: float) -> None:
    move = OBLIQUE @ placed(np.eye(3), (shift, 0, 0)) @ np.linalg.inv(OBLIQUE)
    assert overlap_share(box_volume(), box_volume(), move) == pytest.approx(share)


def test_the_share_goes_from_fixed_to_moving() -> None:
    move = placed(np.eye(3), (200, 0, 0))
    moving = box_volume(move @ OBLIQUE)
    assert overlap_share(box_volume(), moving, move) == pytest.approx(1.0)
    assert overlap_share(box_volume(), moving, np.linalg.inv(move)) == 0.0


def test_masks_limit_what_counts() -> None:
    halves = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    halves[0][:, :, :9], halves[1][:, :, 9:] = 1, 1
    masks = [box_volume().with_array(half) for half in halves]
    assert overlap_share(box_volume(), box_volume(), np.eye(4), masks[0], masks[0]) == pytest.approx(1.0)
    assert overlap_share(box_volume(), box_volume(), np.eye(4), *masks) == 0.0
