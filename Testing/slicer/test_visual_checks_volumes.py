"""Images that the visual checks compute: resampled as by SimpleITK, squares and differences by their formulas."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import SimpleITK as sitk
from scene_parts import AFFINE, LPS, PARENT, itkImage, linearNode, mapped, put
from synthetic_result import (
    FIXED_PLACE,
    FIXED_SHAPE,
    GRID_PLACE,
    GRID_SHAPE,
    MOVING_PLACE,
    MOVING_SHAPE,
    addVolume,
    bump,
    gridTransform,
    makeResult,
    movingValues,
    points,
)


def resampled(values, matrix, transform=None):
    """An image on the fixed grid by SimpleITK, -1 outside."""
    reference, moving = (
        itkImage(np.zeros(FIXED_SHAPE, np.float32), FIXED_PLACE),
        itkImage(values.astype(np.float32), matrix),
    )
    found = sitk.Resample(moving, reference, transform or sitk.Transform(), sitk.sitkLinear, -1.0)
    return sitk.GetArrayFromImage(found)


def itkResult():
    """The synthetic result as a transform of ITK."""
    composite = sitk.CompositeTransform(3)
    matrix = LPS @ AFFINE @ LPS
    composite.AddTransform(sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist()))
    field = bump(points(GRID_SHAPE, GRID_PLACE)) * [-1, -1, 1]
    image = put(sitk.GetImageFromArray(field, isVector=True), GRID_PLACE)
    composite.AddTransform(sitk.DisplacementFieldTransform(image))
    return composite


def fixedGrid():
    from AutoFuseLib.Geometry import Grid

    return Grid(FIXED_PLACE, FIXED_SHAPE)


@pytest.mark.parametrize("moved", [False, True], ids=["in the world", "under a linear transform"])
def test_an_image_is_looked_up_where_its_parent_transforms_put_it(host, moved):
    from AutoFuseLib.CheckVolumes import onGridSteps
    from AutoFuseLib.Steps import exhaust

    values = movingValues(points(MOVING_SHAPE, MOVING_PLACE)).astype(np.int16)
    volume = addVolume("CT", values, MOVING_PLACE)
    world = MOVING_PLACE
    if moved:
        volume.SetAndObserveTransformNodeID(linearNode(PARENT).GetID())
        world = PARENT @ MOVING_PLACE
    found = exhaust(onGridSteps(volume, fixedGrid()))
    judge = resampled(values, world)
    assert (judge >= 0).sum() > 1000
    inside = (judge >= 0) & np.isfinite(found)
    assert inside.sum() > 0.95 * (judge >= 0).sum(), "only the half voxel of the border may differ"
    assert np.abs(found - judge)[inside].max() < 0.02
    assert np.isnan(found[judge < 0]).mean() > 0.9
    if moved:
        ignored = exhaust(onGridSteps(volume, fixedGrid(), ignoreParent=True))
        own = resampled(values, MOVING_PLACE)
        assert np.abs(ignored - own)[(own >= 0) & np.isfinite(ignored)].max() < 0.02
        assert np.nanmax(np.abs(ignored - found)) > 100


def test_an_image_is_looked_up_through_a_transform_that_is_not_linear_and_under_one(host):
    import slicer

    from AutoFuseLib.CheckVolumes import onGridSteps
    from AutoFuseLib.Steps import exhaust

    values = movingValues(points(MOVING_SHAPE, MOVING_PLACE)).astype(np.float32)
    volume = addVolume("CT", values, MOVING_PLACE)
    judge = resampled(values, MOVING_PLACE, itkResult())
    through = exhaust(onGridSteps(volume, fixedGrid(), through=gridTransform()))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformFromParent(gridTransform())
    volume.SetAndObserveTransformNodeID(node.GetID())
    under = exhaust(onGridSteps(volume, fixedGrid()))
    assert (judge >= 0).sum() > 1000
    for found in (through, under):
        assert np.abs(found - judge)[(judge >= 0) & np.isfinite(found)].max() < 0.1


def test_the_result_comes_before_the_moving_volumes_own_parent_transforms(host):
    from AutoFuseLib.CheckVolumes import onGridSteps
    from AutoFuseLib.Steps import exhaust

    values = movingValues(points(MOVING_SHAPE, MOVING_PLACE)).astype(np.float32)
    volume = addVolume("CT", values, np.linalg.inv(PARENT) @ MOVING_PLACE)
    volume.SetAndObserveTransformNodeID(linearNode(PARENT).GetID())
    found = exhaust(onGridSteps(volume, fixedGrid(), through=gridTransform()))
    judge = resampled(values, MOVING_PLACE, itkResult())
    assert np.abs(found - judge)[(judge >= 0) & np.isfinite(found)].max() < 0.1


def test_an_image_that_lies_on_the_grid_is_not_resampled_and_comes_in_several_pieces_when_it_does_not(host):
    from AutoFuseLib import CheckVolumes
    from AutoFuseLib.Steps import exhaust

    values = np.arange(np.prod(FIXED_SHAPE), dtype=np.float32).reshape(FIXED_SHAPE)
    values[0, 0, 0] = np.nan
    node = addVolume("CT", values, FIXED_PLACE)
    assert np.array_equal(exhaust(CheckVolumes.onGridSteps(node, fixedGrid())), values, equal_nan=True)
    from AutoFuseLib.Geometry import Grid

    big = Grid(FIXED_PLACE @ np.diag([0.2, 0.2, 0.2, 1.0]), (100, 130, 120))
    assert len(list(CheckVolumes.onGridSteps(node, big))) >= 8


def test_squares_are_cubes_of_equal_size_in_the_patient_with_a_corner_in_the_middle(host):
    from AutoFuseLib.CheckVolumes import checkerboardSteps
    from AutoFuseLib.Steps import exhaust

    fixed, other = np.full(FIXED_SHAPE, 70.0), np.full(FIXED_SHAPE, 0.25)
    board = exhaust(checkerboardSteps(fixed, other, (0.0, 100.0), (0.0, 1.0), fixedGrid(), 7.5))
    ras = points(FIXED_SHAPE, FIXED_PLACE)
    middle = mapped(FIXED_PLACE, (np.array(FIXED_SHAPE[::-1]) - 1) / 2)
    for ijk in np.ndindex(*FIXED_SHAPE):
        cells = [int((ras[ijk][axis] - middle[axis]) // 7.5) for axis in range(3)]
        assert board[ijk] == pytest.approx(70.0 if sum(cells) % 2 == 0 else 25.0), ijk
    other[:] = np.nan
    empty = exhaust(checkerboardSteps(fixed, other, (10.0, 100.0), (0.0, 1.0), fixedGrid(), 7.5))
    assert sorted(np.unique(empty)) == [10.0, 70.0], "outside of the other image is black"


def test_the_difference_is_other_minus_fixed_in_shares_of_both_ranges_and_zero_outside(host):
    from AutoFuseLib.CheckVolumes import differenceSteps
    from AutoFuseLib.Steps import exhaust

    fixed = np.array([[[0, 50, 100, 200, 30]]], np.int16)
    other = np.array([[[5.0, 10.0, 5.0, 10.0, np.nan]]], np.float32)
    found = exhaust(differenceSteps(fixed, other, (0.0, 100.0), (0.0, 10.0)))
    assert found[0, 0].tolist() == pytest.approx([0.5, 0.5, -0.5, 0.0, 0.0])


def test_black_and_white_ignore_outliers_and_values_that_are_not_finite(host):
    from AutoFuseLib.CheckVolumes import intensityRange

    rng = np.random.default_rng(3)
    values = np.where(rng.random((30, 31, 32)) < 0.7, 0.0, rng.uniform(400, 600, (30, 31, 32)))
    values[3, 4, 5], values[5, 4, 3] = 1e9, np.nan
    black, white = intensityRange(values)
    assert black == 0.0
    assert 590 < white < 601
    assert intensityRange(np.full((3, 4, 5), 7.0)) == (7.0, 8.0)
    assert intensityRange(np.full((3, 4, 5), np.nan)) == (0.0, 1.0)


def test_a_hidden_volume_keeps_its_values_when_the_array_is_forgotten(host):
    import slicer.util

    from AutoFuseLib.CheckVolumes import fillVolume, newHiddenVolume

    node = newHiddenVolume("check")
    values = np.random.default_rng(1).random(FIXED_SHAPE).astype(np.float32)
    copy = values.copy()
    fillVolume(node, values, fixedGrid())
    del values
    gc.collect()
    rubbish = [np.full(FIXED_SHAPE, 9.0, np.float32) for _ in range(50)]
    assert len(rubbish) == 50
    assert np.array_equal(slicer.util.arrayFromVolume(node), copy)
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    assert bounds[0::2] == pytest.approx(fixedGrid().corners().min(axis=0), abs=1e-4)


def test_without_a_warped_volume_the_moving_one_is_taken_through_the_transform(host):
    from AutoFuseLib.CheckImages import CheckImages
    from AutoFuseLib.Steps import exhaust

    result = makeResult(warped=False)
    images = CheckImages(result)
    found = exhaust(images.warpedSteps())
    judge = resampled(movingValues(points(MOVING_SHAPE, MOVING_PLACE)).astype(np.int16), MOVING_PLACE, itkResult())
    assert np.abs(found - judge)[(judge >= 0) & np.isfinite(found)].max() < 0.1
    difference = exhaust(images.differenceSteps(True))
    assert np.abs(difference[4:-4, 4:-4, 4:-4]).mean() < 0.02
    assert np.abs(exhaust(images.differenceSteps(False))[4:-4, 4:-4, 4:-4]).mean() > 0.05
    images.forget()
