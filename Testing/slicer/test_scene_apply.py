"""A result applied to volumes, segmentations, markups, models and transforms: under its transform, or as copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scene_parts import (
    FIXED_PLACE,
    FIXED_SHAPE,
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
    segmentationNode,
    volumeNode,
)

from autofuse_engine.errors import InputError


@pytest.fixture
def result(host, tmp_path: Path) -> Any:
    """Fixed and moving volume, both under a linear parent, the transform and an inverse that is exact enough."""
    import slicer

    from AutoFuseLib.Geometry import Grid
    from AutoFuseLib.Provenance import setProvenance
    from AutoFuseLib.ResultNodes import ResultNodes
    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Transforms import importTransformSteps

    values = blobs(MOVING_SHAPE, seed=3, dtype=np.float64)
    fixed = volumeNode("CT", blobs(FIXED_SHAPE), np.linalg.inv(PARENT) @ FIXED_PLACE)
    moving = volumeNode("MR", values, np.linalg.inv(PARENT @ PARENT) @ MOVING_PLACE)
    for node, matrix, name in ((fixed, PARENT, "P"), (moving, PARENT @ PARENT, "Q")):
        node.SetAndObserveTransformNodeID(linearNode(matrix, name).GetID())
    steps, files = chain(tmp_path, "grid then affine")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Transform")
    exhaust(importTransformSteps(transform, steps, files, Grid(FIXED_PLACE, FIXED_SHAPE)))
    inverse = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Inverse")
    back = [{"matrix_ras": np.linalg.inv(steps[1]["matrix_ras"]).tolist()}]
    exhaust(importTransformSteps(inverse, back, files, Grid(MOVING_PLACE, MOVING_SHAPE)))
    setProvenance(transform, {"provenance": {"engine": "0.1.0"}}, "2026-01-02")
    setProvenance(inverse, {"provenance": {"engine": "0.1.0"}}, "2026-01-02")
    return ResultNodes(transform=transform, inverse=inverse, fixed=fixed, moving=moving)


def itk(tmp_path: Path, direction: str = "toFixed") -> sitk.Transform:
    steps, files = chain(tmp_path, "grid then affine")
    if direction == "toMoving":
        steps = [{"matrix_ras": np.linalg.inv(steps[1]["matrix_ras"]).tolist()}]
    return judge(steps, files)


def apply(result: Any, nodes: list[Any], harden: bool, direction: str = "toFixed") -> list[Any]:
    from AutoFuseLib.ApplyTo import applySteps
    from AutoFuseLib.Steps import exhaust

    return exhaust(applySteps(result, nodes, harden, direction))


def matrixOf(node: Any) -> np.ndarray:
    import slicer.util
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def expected(array: np.ndarray, transform: sitk.Transform, how: Any) -> np.ndarray:
    reference = itkImage(np.zeros(FIXED_SHAPE, np.uint8), FIXED_PLACE)
    return sitk.GetArrayFromImage(sitk.Resample(itkImage(array, MOVING_PLACE), reference, transform, how, 0.0))


def well_inside(transform: sitk.Transform) -> np.ndarray:
    inside = expected(np.ones(MOVING_SHAPE), transform, sitk.sitkLinear)
    eroded = inside.copy()
    for axis in range(3):
        for shift in (-1, 1):
            eroded = np.minimum(eroded, np.roll(inside, shift, axis))
    return eroded == 1


@pytest.mark.parametrize("placed", [False, True])
def test_a_hardened_volume_lies_on_the_fixed_grid_and_equals_itks(result, tmp_path: Path, placed: bool) -> None:
    import slicer.util

    before = result.moving.GetParentTransformNode()
    if placed:
        apply(result, [result.moving], harden=False)
    (copy,) = apply(result, [result.moving], harden=True)
    assert copy.GetName() == "MR (on CT)"
    assert copy.GetParentTransformNode() is None
    assert np.abs(matrixOf(copy) - FIXED_PLACE).max() < 1e-9
    wanted = expected(blobs(MOVING_SHAPE, 3, np.float64), itk(tmp_path), sitk.sitkLinear)
    inside = well_inside(itk(tmp_path))
    assert inside.sum() > 500
    assert np.abs(slicer.util.arrayFromVolume(copy) - wanted)[inside].max() < 1e-5 * 1000
    assert copy.GetAttribute("AutoFuse.engine") == "0.1.0"
    assert copy.GetDisplayNode() is not None
    if placed:
        assert result.moving.GetParentTransformNode().GetName() == "Q (MR)"
    else:
        assert result.moving.GetParentTransformNode() is before
    assert np.array_equal(slicer.util.arrayFromVolume(result.moving), blobs(MOVING_SHAPE, 3, np.float64))


def test_what_the_user_put_under_the_transform_is_not_warped_twice(result, tmp_path: Path) -> None:
    import slicer.util

    labels = (blobs(MOVING_SHAPE, 4) / 150).astype(np.int16)
    node = volumeNode("Labels", labels, MOVING_PLACE, "vtkMRMLLabelMapVolumeNode")
    node.SetAndObserveTransformNodeID(result.transform.GetID())
    (copy,) = apply(result, [node], harden=True)
    wanted = expected(labels, itk(tmp_path), sitk.sitkNearestNeighbor)
    assert np.mean(slicer.util.arrayFromVolume(copy) != wanted) < 0.004  # ties


def test_labelmaps_are_hardened_by_the_nearest_voxel_and_keep_type_and_colours(result, tmp_path: Path) -> None:
    import slicer
    import slicer.util

    labels = (blobs(MOVING_SHAPE, 4) / 150).astype(np.int16)
    node = volumeNode("Labels", labels, MOVING_PLACE, "vtkMRMLLabelMapVolumeNode")
    colours = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", "Mine")
    colours.SetTypeToUser()
    colours.SetNumberOfColors(8)
    node.GetDisplayNode().SetAndObserveColorNodeID(colours.GetID())
    (copy,) = apply(result, [node], harden=True)
    assert copy.IsA("vtkMRMLLabelMapVolumeNode")
    assert copy.GetDisplayNode().GetColorNode() is colours
    assert copy.GetDisplayNode() is not node.GetDisplayNode()
    array = slicer.util.arrayFromVolume(copy)
    assert array.dtype == np.int16
    assert len(np.unique(array)) > 4
    assert np.mean(array != expected(labels, itk(tmp_path), sitk.sitkNearestNeighbor)) < 0.004  # ties


def test_colour_volumes_are_hardened_component_by_component(result, tmp_path: Path) -> None:
    import slicer
    import slicer.util

    channels = np.stack([blobs(MOVING_SHAPE, seed) / 4 for seed in (1, 2, 3)], axis=-1).astype(np.uint8)
    node = volumeNode("Photo", channels, MOVING_PLACE, "vtkMRMLVectorVolumeNode")
    (copy,) = apply(result, [node], harden=True)
    array = slicer.util.arrayFromVolume(copy)
    assert array.shape == (*FIXED_SHAPE, 3)
    for channel in range(3):
        wanted = expected(channels[..., channel].astype(float), itk(tmp_path), sitk.sitkLinear)
        assert np.abs(array[..., channel] - wanted)[well_inside(itk(tmp_path))].max() < 0.51


@pytest.mark.parametrize("separate", [False, True])
def test_a_hardened_segmentation_keeps_overlaps_names_and_grid(result, tmp_path: Path, separate: bool) -> None:
    import slicer.util

    labels = np.zeros(MOVING_SHAPE, np.uint8)
    labels[4:11, 4:12, 5:12] = 1
    labels[11:15, 4:12, 9:18] = 2
    node = segmentationNode("Organs", labels, MOVING_PLACE, ["Leber", "Milz"], separate)
    if separate:
        whole = volumeNode("temporary", labels, MOVING_PLACE, "vtkMRMLLabelMapVolumeNode")
        second = np.zeros_like(labels)
        second[4:15, 6:12, 9:14] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(second, node, "id Milz 2", whole)
    else:
        second = (labels == 2).astype(np.uint8)
    node.GetDisplayNode().SetOpacity(0.4)
    (copy,) = apply(result, [node], harden=True)
    assert copy.GetName() == "Organs (on CT)"
    reference = volumeNode("reference", np.zeros(FIXED_SHAPE, np.uint8), FIXED_PLACE)
    segmentation = copy.GetSegmentation()
    assert segmentation.GetNumberOfLayers() == (2 if separate else 1)
    for identifier, source in (("id Leber 1", labels == 1), ("id Milz 2", second == 1)):
        found = slicer.util.arrayFromSegmentBinaryLabelmap(copy, identifier, reference)
        wanted = expected(source.astype(np.uint8), itk(tmp_path), sitk.sitkNearestNeighbor)
        assert wanted.sum() > 100
        assert np.mean(found != wanted) < 0.004  # ties
    assert segmentation.GetSegment("id Milz 2").GetName() == "Milz"
    assert copy.GetDisplayNode().GetOpacity() == pytest.approx(0.4)
    assert node.GetParentTransformNode() is None


@pytest.mark.parametrize("placed", [False, True])
def test_markups_models_and_surfaces_land_on_the_fixed_image(result, tmp_path: Path, placed: bool) -> None:
    import slicer
    import slicer.util
    import vtk

    fixedPoints = pointsIn(FIXED_SHAPE, FIXED_PLACE, 20, margin=2)
    movingPoints = itkPoints(itk(tmp_path), fixedPoints)
    markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsCurveNode", "Curve")
    points = vtk.vtkPoints()
    for point in movingPoints:
        markups.AddControlPoint(*point.tolist())
        points.InsertNextPoint(*point)
    surface = vtk.vtkPolyData()
    surface.SetPoints(points)
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "Model")
    model.SetAndObservePolyData(surface)
    model.CreateDefaultDisplayNodes()
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Surfaces")
    segmentation.SetSourceRepresentationToClosedSurface()
    segment = slicer.vtkSegment()
    segment.SetName("Liver")
    segment.AddRepresentation("Closed surface", surface)
    segmentation.GetSegmentation().AddSegment(segment, "liver")
    nodes = [markups, model, segmentation]
    if placed:
        assert apply(result, nodes, harden=False) == nodes
        for number, point in enumerate(fixedPoints):
            assert np.abs(np.array(markups.GetNthControlPointPositionWorld(number)) - point).max() < 1e-3
    copies = apply(result, nodes, harden=True)
    assert [copy.GetName() for copy in copies] == ["Curve (on CT)", "Model (on CT)", "Surfaces (on CT)"]
    assert [copy.GetParentTransformNode() for copy in copies] == [None] * 3
    moved = [np.array(copies[0].GetNthControlPointPosition(number)) for number in range(20)]
    assert np.abs(np.array(moved) - fixedPoints).max() < 1e-3
    assert np.abs(slicer.util.arrayFromModelPoints(copies[1]) - fixedPoints).max() < 1e-3
    own = copies[2].GetSegmentation().GetSegment("liver").GetRepresentation("Closed surface")
    assert np.abs(np.array([own.GetPoint(number) for number in range(20)]) - fixedPoints).max() < 1e-3
    assert np.abs(slicer.util.arrayFromModelPoints(model) - movingPoints).max() < 1e-4
    assert np.abs(np.array(markups.GetNthControlPointPosition(0)) - movingPoints[0]).max() < 1e-6


def test_a_linear_transform_becomes_one_with_the_deformation(result, tmp_path: Path) -> None:
    node = linearNode(PARENT, "Plan")
    (copy,) = apply(result, [node], harden=True)
    point = pointsIn(FIXED_SHAPE, FIXED_PLACE, 1, margin=3)
    local = mapped(np.linalg.inv(PARENT), itkPoints(itk(tmp_path), point))[0]
    assert np.abs(np.array(copy.GetTransformToParent().TransformPoint(*local)) - point[0]).max() < 1e-3
    assert node.IsLinear()
    apply(result, [node], harden=False)
    assert node.GetParentTransformNode() is result.transform


def test_things_of_the_fixed_image_go_to_the_moving_one_by_the_inverse(result, tmp_path: Path) -> None:
    import slicer
    import slicer.util

    apply(result, [result.moving], harden=False)  # where it lies then must not matter
    (copy,) = apply(result, [result.fixed], harden=True, direction="toMoving")
    assert copy.GetName() == "CT (on MR)"
    assert np.abs(matrixOf(copy) - MOVING_PLACE).max() < 1e-9
    back = itk(tmp_path, "toMoving")
    reference = itkImage(np.zeros(MOVING_SHAPE, np.uint8), MOVING_PLACE)
    wanted = sitk.Resample(itkImage(blobs(FIXED_SHAPE), FIXED_PLACE), reference, back, sitk.sitkLinear, 0.0)
    inside = sitk.Resample(itkImage(np.ones(FIXED_SHAPE), FIXED_PLACE), reference, back, sitk.sitkLinear, 0.0)
    where = sitk.GetArrayFromImage(sitk.BinaryErode(inside == 1, (1, 1, 1)))
    assert where.sum() > 300
    difference = slicer.util.arrayFromVolume(copy) - sitk.GetArrayFromImage(wanted)
    assert np.abs(difference)[where == 1].max() < 1e-5 * 1000
    markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Points")
    markups.AddControlPoint(1.0, 2.0, 3.0)
    apply(result, [markups], harden=False, direction="toMoving")
    assert markups.GetParentTransformNode() is result.inverse


def test_air_around_a_ct_stays_air(result) -> None:
    import slicer.util

    values = (blobs(MOVING_SHAPE) - 1024).astype(np.int16)
    far = MOVING_PLACE.copy()
    far[:3, 3] += 15
    (copy,) = apply(result, [volumeNode("Hounsfield", values, far)], harden=True)
    array = slicer.util.arrayFromVolume(copy)
    assert array.dtype == np.int16
    assert array.min() == -1024


def test_what_cannot_be_deformed_is_refused_before_anything_changes(result) -> None:
    import slicer

    camera = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode", "Camera")
    for harden in (False, True):
        parent, count = result.moving.GetParentTransformNode(), slicer.mrmlScene.GetNumberOfNodes()
        with pytest.raises(InputError) as raised:
            apply(result, [result.moving, camera], harden)
        assert raised.value.code == "not-transformable"
        assert result.moving.GetParentTransformNode() is parent
        assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_a_result_that_lost_a_node_says_which(result) -> None:
    result.inverse = None
    with pytest.raises(InputError) as raised:
        apply(result, [result.fixed], harden=False, direction="toMoving")
    assert raised.value.code == "result-node-deleted"
    assert "inverse" in raised.value.text
    with pytest.raises(ValueError, match="sideways"):
        apply(result, [], harden=False, direction="sideways")
