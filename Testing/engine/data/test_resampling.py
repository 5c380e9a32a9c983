"""Images and labelmaps through transforms on the CPU (``data/resample.py``), judged by SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from geometry_cases import (
    AFFINE,
    FLIPPED,
    OBLIQUE,
    itk_affine,
    itk_field,
    itk_image,
    placed,
    random_volume,
    smooth_grid,
)

from autofuse_engine.data.resample import background_value, resample_image, resample_labels
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume

GRID = smooth_grid(size_mm=2.0)
TRANSFORM = SpatialTransform(steps=(GRID, AFFINE))
ITK_TRANSFORM = sitk.CompositeTransform([itk_affine(AFFINE), itk_field(GRID)])
MOVING_PLACE = AFFINE.matrix_ras @ OBLIQUE @ placed(np.diag([0.9, 1.1, 0.8]), (0.3, -0.4, 1.2))
REFERENCE = random_volume(OBLIQUE)


def judged(volume: Volume, interpolator: int, background: float) -> np.ndarray:
    """SimpleITK's answer on the reference's grid."""
    reference = itk_image(REFERENCE.array, OBLIQUE)
    moving = itk_image(volume.array, volume.ras_from_ijk)
    return sitk.GetArrayFromImage(sitk.Resample(moving, reference, ITK_TRANSFORM, interpolator, background))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8"])
def test_images_agree_with_simpleitk_to_a_hundred_thousandth_of_their_range(dtype: str) -> None:
    moving = random_volume(MOVING_PLACE, (10, 12, 14), dtype)
    warped = resample_image(moving, TRANSFORM, REFERENCE, background=-7.0)
    wanted = judged(moving.with_array(moving.array.astype(np.float64)), sitk.sitkLinear, -7.0)
    assert 0.02 < (wanted == -7.0).mean() < 0.9
    assert np.abs(warped.array - wanted).max() <= 1e-5 * np.ptp(moving.array.astype(float))
    assert warped.array.dtype == (np.float64 if dtype == "float64" else np.float32)
    assert warped.same_grid(REFERENCE)
    assert warped.name == moving.name


def test_the_background_is_zero_or_the_lowest_border_value_below_zero() -> None:
    moving = random_volume(dtype="int16")
    assert background_value(moving) == 0.0
    moving.array[4, 5, 6] = -3000  # deep inside: no air
    assert background_value(moving) == 0.0
    moving.array[0, 3, 3] = -1000
    assert background_value(moving) == -1000.0
    away = SpatialTransform(steps=(MatrixStep(matrix_ras=placed(np.eye(3), (500, 0, 0))),))
    assert (resample_image(moving, away, REFERENCE).array == -1000).all()


def test_nearest_labels_agree_with_simpleitk() -> None:
    labels = random_volume(MOVING_PLACE, (10, 12, 14), "uint16")
    warped = resample_labels(labels, TRANSFORM, REFERENCE, nearest=True)
    assert np.array_equal(warped.array, judged(labels, sitk.sitkNearestNeighbor, 0))
    assert warped.array.dtype == np.uint16


@pytest.mark.parametrize("most", [3, 40])
def test_labels_are_the_argmax_over_linearly_resampled_masks(most: int) -> None:
    labels = random_volume(MOVING_PLACE, (10, 12, 14), "int32")
    labels = labels.with_array(labels.array % most * 1000 - 1000)  # among them negative ones and zero
    warped = resample_labels(labels, TRANSFORM, REFERENCE)
    values = np.unique(labels.array)
    votes = np.stack(
        [judged(labels.with_array((labels.array == value).astype(float)), sitk.sitkLinear, 0.0) for value in values]
    )
    inside = votes.sum(axis=0) > 0.5
    ordered = np.sort(votes, axis=0)
    clear = inside & (ordered[-1] - ordered[-2] > 1e-6)
    assert clear.sum() > 300
    assert np.array_equal(warped.array[clear], values[votes.argmax(axis=0)][clear])
    assert (warped.array[~inside] == 0).all()
    assert warped.array.dtype == np.int32


def test_of_equal_weights_the_smallest_label_wins() -> None:
    array = np.zeros((8, 9, 10), np.uint8)
    array[..., 5:] = 7
    array[..., :5] = 9
    labels = Volume(array=array, ras_from_ijk=np.eye(4))
    half = SpatialTransform(steps=(MatrixStep(matrix_ras=placed(np.eye(3), (0.5, 0, 0))),))
    warped = resample_labels(labels, half, labels)
    assert warped.array[3, 4].tolist() == [9, 9, 9, 9, 7, 7, 7, 7, 7, 0]


def test_labels_of_64_bits_keep_every_digit() -> None:
    array = np.zeros((8, 9, 10), np.int64)
    array[2:6, 2:6, 2:6] = 2**60 + 1
    labels = Volume(array=array, ras_from_ijk=OBLIQUE)
    warped = resample_labels(labels, SpatialTransform(steps=()), labels)
    assert np.array_equal(warped.array, array)


def test_a_volume_larger_than_one_slab_is_whole() -> None:
    shape = (40, 130, 140)  # 728 000 voxels, more than are worked on at once
    labels = Volume(array=np.arange(np.prod(shape), dtype=np.int32).reshape(shape), ras_from_ijk=FLIPPED)
    shift = FLIPPED @ placed(np.eye(3), (1, -2, 3)) @ np.linalg.inv(FLIPPED)
    warped = resample_labels(labels, SpatialTransform(steps=(MatrixStep(matrix_ras=shift),)), labels).array
    assert np.array_equal(warped[:-3, 2:, :-1], labels.array[3:, :-2, 1:])
    assert not warped[-3:].any()
    assert not warped[:, :2].any()


def test_a_field_of_single_precision_resamples_like_one_of_double() -> None:
    moving = random_volume(OBLIQUE)
    single = GridStep(displacement_ras=GRID.displacement_ras.astype(np.float32), ras_from_ijk=GRID.ras_from_ijk)
    chains = [SpatialTransform(steps=(grid,)) for grid in (GRID, single)]
    first, second = (resample_image(moving, chain, REFERENCE, background=0).array for chain in chains)
    assert np.abs(first - second).max() < 1e-5
