"""Transforms of a result in the scene: points, images and files agree with SimpleITK, whatever lies where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scene_parts import (
    AFFINE,
    FIXED_PLACE,
    FIXED_SHAPE,
    GRID_PLACE,
    GRID_SHAPE,
    MOVING_PLACE,
    MOVING_SHAPE,
    PARENT,
    blobs,
    chain,
    itkImage,
    itkPoints,
    judge,
    linearNode,
    mapped,
    pointsIn,
    volumeNode,
)

KINDS = ["grid", "grid then affine", "affine then grid", "rigid, grid, affine", "affine", "two matrices"]


def imported(folder: Path, kind: str, shape: tuple[int, int, int] = FIXED_SHAPE, place: Any = FIXED_PLACE) -> Any:
    """The node, and SimpleITK's transform."""
    import slicer

    from AutoFuseLib.Geometry import Grid
    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Transforms import importTransformSteps

    steps, files = chain(folder, kind)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Transform")
    assert exhaust(importTransformSteps(node, steps, files, Grid(place, shape))) is node
    return node, judge(steps, files)


@pytest.mark.parametrize("kind", KINDS)
def test_points_of_the_fixed_image_go_where_itk_sends_them(host, tmp_path: Path, kind: str) -> None:
    node, itk = imported(tmp_path, kind)
    points = pointsIn(FIXED_SHAPE, FIXED_PLACE, margin=-0.49)
    wanted = itkPoints(itk, points)
    fromParent = node.GetTransformFromParent()
    found = np.array([fromParent.TransformPoint(*point) for point in points])
    assert np.linalg.norm(wanted - points, axis=1).max() > 2
    assert np.abs(found - wanted).max() < 2e-5
    toParent = node.GetTransformToParent()
    back = np.array([toParent.TransformPoint(*point) for point in wanted])
    assert np.abs(back - points).max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_node_is_one_linear_grid_from_parent_of_double_precision(host, tmp_path: Path, kind: str) -> None:
    import vtk

    node, _ = imported(tmp_path, kind)
    grid = node.GetTransformFromParentAs("vtkOrientedGridTransform", False, True)
    assert grid is not None
    assert grid.GetInterpolationModeAsString() == "Linear"
    assert not grid.GetInverseFlag()
    assert grid.GetDisplacementGrid().GetScalarType() == vtk.VTK_DOUBLE
    assert not node.IsLinear()
    assert node.GetParentTransformNode() is None


def test_markups_of_the_moving_image_land_on_the_fixed_image_under_the_node(host, tmp_path: Path) -> None:
    import slicer

    node, itk = imported(tmp_path, "grid then affine")
    fixedPoints = pointsIn(FIXED_SHAPE, FIXED_PLACE, 25, margin=1)
    markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    for point in itkPoints(itk, fixedPoints):
        markups.AddControlPoint(*point.tolist())
    markups.SetAndObserveTransformNodeID(node.GetID())
    for number, point in enumerate(fixedPoints):
        assert np.abs(np.array(markups.GetNthControlPointPositionWorld(number)) - point).max() < 1e-3


def reference(grid: Any) -> Any:
    """A volume without parent on a grid: Slicer's resampling mistakes the input's parent for that of the reference."""
    return volumeNode("Reference", np.zeros(grid.shape, np.uint8), grid.rasFromIjk)


@pytest.mark.parametrize("parents", ["", "fixed", "moving", "fixed and moving"])
@pytest.mark.parametrize("kind", ["grid then affine", "affine then grid", "two matrices"])
def test_slicers_own_resampling_equals_itks(host, tmp_path: Path, kind: str, parents: str) -> None:
    import slicer
    import slicer.util

    from AutoFuseLib.Geometry import Grid
    from AutoFuseLib.Placement import putUnder

    values = blobs(MOVING_SHAPE, seed=3, dtype=np.float64)
    fixedWorld = PARENT if "fixed" in parents else np.eye(4)
    movingWorld = PARENT @ PARENT if "moving" in parents else np.eye(4)
    fixed = volumeNode("Fixed", blobs(FIXED_SHAPE), np.linalg.inv(fixedWorld) @ FIXED_PLACE)
    moving = volumeNode("Moving", values, np.linalg.inv(movingWorld) @ MOVING_PLACE)
    for node, matrix, name in ((fixed, fixedWorld, "fixed"), (moving, movingWorld, "moving")):
        if name in parents:
            node.SetAndObserveTransformNodeID(linearNode(matrix).GetID())
    transform, itk = imported(tmp_path, kind)
    putUnder(moving, transform)
    target = reference(Grid.ofVolume(fixed))
    warped = slicer.modules.volumes.logic().ResampleVolumeToReferenceVolume(moving, target)
    expected = sitk.Resample(
        itkImage(values, MOVING_PLACE), itkImage(blobs(FIXED_SHAPE), FIXED_PLACE), itk, sitk.sitkLinear, 0.0
    )
    inside = sitk.GetArrayFromImage(
        sitk.Resample(itkImage(np.ones(MOVING_SHAPE), MOVING_PLACE), expected, itk, sitk.sitkLinear, 0.0)
    )
    eroded = inside.copy()
    for axis in range(3):
        for shift in (-1, 1):
            eroded = np.minimum(eroded, np.roll(inside, shift, axis))
    difference = np.abs(slicer.util.arrayFromVolume(warped) - sitk.GetArrayFromImage(expected))[eroded == 1]
    assert len(difference) > 500
    assert difference.max() < 1e-5 * 1000


def test_beyond_the_grid_itk_stops_and_slicer_goes_on_but_not_within_the_image(host, tmp_path: Path) -> None:
    node, itk = imported(tmp_path, "grid then affine")
    path = tmp_path / "t.h5"
    from AutoFuseLib.Export import exportTransform

    exportTransform(node, path)
    saved = sitk.ReadTransform(str(path))
    points = pointsIn(FIXED_SHAPE, FIXED_PLACE, margin=-1.2)
    assert np.abs(itkPoints(saved, points) - itkPoints(itk, points)).max() < 2e-5
    far = mapped(FIXED_PLACE, [[200.0, 5, 5]])
    assert np.abs(itkPoints(saved, far) - far).max() == 0
    found = np.array(node.GetTransformFromParent().TransformPoint(*far[0]))
    assert np.linalg.norm(found - far[0]) > 1


def test_the_inverse_lies_over_the_moving_image_and_undoes_the_transform(host, tmp_path: Path) -> None:
    import slicer

    from AutoFuseLib.Geometry import Grid
    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Transforms import importTransformSteps

    grid = {"displacement": "displacement", "ras_from_ijk": GRID_PLACE.tolist()}
    files = chain(tmp_path, "grid")[1]
    steps = [{"matrix_ras": np.linalg.inv(AFFINE).tolist()}, grid]
    inverse = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Inverse")
    exhaust(importTransformSteps(inverse, steps, files, Grid(MOVING_PLACE, MOVING_SHAPE)))
    points = pointsIn(MOVING_SHAPE, MOVING_PLACE, margin=-0.49)
    wanted = itkPoints(judge(steps, files), points)
    found = np.array([inverse.GetTransformFromParent().TransformPoint(*point) for point in points])
    assert np.abs(found - wanted).max() < 2e-5


def test_without_a_matrix_the_grid_grows_by_one_ring_of_zeros_only(host, tmp_path: Path) -> None:
    node, _ = imported(tmp_path, "grid")
    grid = node.GetTransformFromParent().GetDisplacementGrid()
    assert grid.GetDimensions() == (13, 12, 11)
    first = [grid.GetScalarComponentAsDouble(0, 5, 5, component) for component in range(3)]
    assert first == [0, 0, 0]


def test_a_huge_image_does_not_make_a_huge_grid(host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from AutoFuseLib import Chains

    monkeypatch.setattr(Chains, "MOST_NODES", 20_000)
    place = np.diag([10.0, 10, 10, 1])
    place[:3, 3] = -2000
    node, itk = imported(tmp_path, "grid then affine", (400, 400, 400), place)
    assert node.GetTransformFromParent().GetDisplacementGrid().GetNumberOfPoints() <= 20_000
    points = pointsIn(GRID_SHAPE, GRID_PLACE)
    found = np.array([node.GetTransformFromParent().TransformPoint(*point) for point in points])
    assert np.abs(found - itkPoints(itk, points)).max() < 2e-5


def test_two_grids_in_one_chain_are_composed_on_the_nodes_of_the_first(host, tmp_path: Path) -> None:
    from AutoFuseLib.Chains import displacementSlab, latticeOf, readChain
    from AutoFuseLib.Geometry import Grid

    grid = {"displacement": "displacement", "ras_from_ijk": GRID_PLACE.tolist()}
    files = chain(tmp_path, "grid")[1]
    steps = [grid, {"matrix_ras": AFFINE.tolist()}, grid]
    read = readChain(steps, files)
    lattice = latticeOf(read, Grid(FIXED_PLACE, FIXED_SHAPE))
    shape = lattice.grid.shape
    moved = displacementSlab(read, lattice, slice(0, shape[0])).reshape(-1, 3)
    k, j, i = np.indices(shape).reshape(3, -1)
    nodes = mapped(lattice.grid.rasFromIjk, np.stack([i, j, k], axis=1))
    ends = np.abs(mapped(np.linalg.inv(GRID_PLACE), nodes) - np.round(mapped(np.linalg.inv(GRID_PLACE), nodes))).max()
    assert ends < 1e-9
    assert np.abs(nodes + moved - itkPoints(judge(steps, files), nodes)).max() < 1e-5


def test_the_node_changes_once_and_only_at_the_end(host, tmp_path: Path) -> None:
    import slicer
    import vtk

    from AutoFuseLib.Geometry import Grid
    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Transforms import importTransformSteps

    steps, files = chain(tmp_path, "grid then affine")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Transform")
    changes: list[int] = []
    node.AddObserver(slicer.vtkMRMLTransformableNode.TransformModifiedEvent, lambda *_: changes.append(1))
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: changes.append(0))
    work = importTransformSteps(node, steps, files, Grid(FIXED_PLACE, FIXED_SHAPE))
    next(work)
    next(work)
    assert not changes
    exhaust(work)
    assert changes.count(1) == 1
