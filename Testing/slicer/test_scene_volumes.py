"""Volumes between the scene and the worker: types, places, parents, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene_parts import (
    FIXED_PLACE,
    FIXED_SHAPE,
    MOVING_PLACE,
    PARENT,
    SHEAR,
    bendingNode,
    blobs,
    linearNode,
    mapped,
    place,
    turn,
    volumeNode,
)

from autofuse_engine.errors import FileError, InputError


def exported(node: Any, path: Path) -> tuple[np.ndarray, np.ndarray]:
    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Volumes import exportVolumeSteps

    spec = exhaust(exportVolumeSteps(node, path))
    assert spec["array"] == path.name
    assert spec["name"] == node.GetName()
    return np.load(path, allow_pickle=False), np.array(spec["ras_from_ijk"])


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int8, np.uint16, np.int32, np.float32, np.float64])
def test_voxels_keep_their_type_and_values(host, tmp_path: Path, dtype: Any) -> None:
    values = (blobs(FIXED_SHAPE) / 10).astype(dtype)
    array, matrix = exported(volumeNode("CT", values, FIXED_PLACE), tmp_path / "Bild ö.npy")
    assert array.dtype == np.dtype(dtype)
    assert array.dtype.isnative
    assert np.array_equal(array, values)
    assert np.abs(matrix - FIXED_PLACE).max() < 1e-9


def test_linear_parents_move_the_place_and_not_the_voxels(host, tmp_path: Path) -> None:
    from AutoFuseLib.Geometry import worldRasFromIjk

    values = blobs(FIXED_SHAPE)
    node = volumeNode("CT", values, FIXED_PLACE)
    outer, inner = linearNode(PARENT, "outer"), linearNode(place((1, 1, 1), (5, 0, -3), turn((0, 0, 1), 0.2)), "inner")
    inner.SetAndObserveTransformNodeID(outer.GetID())
    node.SetAndObserveTransformNodeID(inner.GetID())
    array, matrix = exported(node, tmp_path / "a.npy")
    assert np.array_equal(array, values)
    assert np.abs(matrix - worldRasFromIjk(node)).max() < 1e-12
    for ijk in ((0, 0, 0), (3, 5, 2)):
        world = [0.0, 0.0, 0.0]
        node.TransformPointToWorld(mapped(FIXED_PLACE, ijk).tolist(), world)
        assert np.abs(mapped(matrix, ijk) - world).max() < 1e-9


def ramp(points: np.ndarray) -> np.ndarray:
    return points @ [2.0, -1.0, 3.0] + 500


@pytest.mark.parametrize("kind", ["sheared", "bent"])
def test_under_a_shearing_or_bending_parent_the_volume_is_resampled_beside_the_scene(
    host, tmp_path: Path, kind: str
) -> None:
    import slicer

    k, j, i = np.indices(FIXED_SHAPE)
    values = ramp(mapped(FIXED_PLACE, np.stack([i, j, k], axis=-1)))  # trilinear interpolation of a ramp is exact
    node = volumeNode("CT", values, FIXED_PLACE)
    parent = linearNode(SHEAR) if kind == "sheared" else bendingNode()
    node.SetAndObserveTransformNodeID(parent.GetID())
    count, time = slicer.mrmlScene.GetNumberOfNodes(), node.GetMTime()
    array, matrix = exported(node, tmp_path / "a.npy")
    assert (slicer.mrmlScene.GetNumberOfNodes(), node.GetMTime()) == (count, time)
    assert node.GetParentTransformNode() is parent
    cosines = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    assert np.abs(cosines.T @ cosines - np.eye(3)).max() < 1e-9
    assert np.linalg.det(matrix[:3, :3]) < 0  # left-handed as the volume is
    inside = 0
    for place_ in np.random.default_rng(0).integers(0, np.array(array.shape), (300, 3)):
        local = [0.0, 0.0, 0.0]
        node.TransformPointFromWorld(mapped(matrix, place_[::-1]).tolist(), local)
        ijk = mapped(np.linalg.inv(FIXED_PLACE), local)
        if (ijk > 0.01).all() and (ijk < np.array(FIXED_SHAPE[::-1]) - 1.01).all():
            inside += 1
            assert abs(array[tuple(place_)] - ramp(np.array(local))) < 0.01
        elif (ijk < -0.6).any() or (ijk > np.array(FIXED_SHAPE[::-1]) - 0.4).any():
            assert array[tuple(place_)] == values.min()
    assert inside > 30
    corners = np.array(np.meshgrid(*[(-0.5, side - 0.5) for side in FIXED_SHAPE[::-1]])).T.reshape(-1, 3)
    places = []
    for corner in mapped(FIXED_PLACE, corners):
        world = [0.0, 0.0, 0.0]
        node.TransformPointToWorld(corner.tolist(), world)
        places.append(mapped(np.linalg.inv(matrix), world))
    below, above = np.min(places, axis=0) + 0.5, np.array(array.shape[::-1]) - 0.5 - np.max(places, axis=0)
    assert (below > -0.01).all()
    assert (above > -0.01).all()
    if kind == "sheared":
        assert np.abs(below - above).max() < 1e-6
        assert below.max() < 0.51


def refusal(node: Any) -> InputError:
    from AutoFuseLib.Volumes import checkVolume

    with pytest.raises(InputError) as raised:
        checkVolume(node, "fixed image")
    assert raised.value.hint
    assert raised.value.text.count(". ") == 0
    return raised.value


def test_volumes_that_cannot_be_registered_are_refused_with_a_cure(host) -> None:
    import slicer
    import vtk

    from AutoFuseLib.Volumes import checkVolume

    add = slicer.mrmlScene.AddNewNodeByClass
    assert refusal(None).code == "image-missing"
    assert refusal(add("vtkMRMLScalarVolumeNode", "Empty")).code == "image-missing"
    assert refusal(add("vtkMRMLModelNode", "Liver")).code == "image-not-3d"
    assert refusal(add("vtkMRMLSequenceNode", "Beats")).code == "image-not-3d"
    colours = add("vtkMRMLVectorVolumeNode", "Photo")
    image = vtk.vtkImageData()
    image.SetDimensions(9, 10, 11)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    colours.SetAndObserveImageData(image)
    assert "3 numbers" in refusal(colours).text
    assert refusal(colours).code == "image-is-vector"
    for kind in ("vtkMRMLDiffusionWeightedVolumeNode", "vtkMRMLMultiVolumeNode"):
        if hasattr(slicer, kind):
            frames = add(kind, "Frames")
            frames.SetAndObserveImageData(image)
            assert refusal(frames).code == "image-is-vector"
    labels = volumeNode("Labels", np.zeros(FIXED_SHAPE, np.uint8), FIXED_PLACE, "vtkMRMLLabelMapVolumeNode")
    assert refusal(labels).code == "image-is-labelmap"
    assert refusal(volumeNode("Slice", np.zeros((1, 20, 30), np.int16), FIXED_PLACE)).code == "image-not-3d"
    assert refusal(volumeNode("Few", np.zeros((7, 20, 30), np.int16), FIXED_PLACE)).code == "image-too-small"
    flat = volumeNode("Flat", np.zeros(FIXED_SHAPE, np.int16), FIXED_PLACE)
    assert checkVolume(flat, "fixed image") is None
    flat.SetAndObserveTransformNodeID(linearNode(np.diag([1.0, 0.0, 1.0, 1.0])).GetID())
    assert refusal(flat).code == "image-geometry-invalid"
    flat.SetAndObserveTransformNodeID(None)
    flat.SetSpacing(1, 0, 2)
    assert refusal(flat).code == "image-geometry-invalid"


def test_a_volume_that_the_engine_could_not_index_is_refused_before_it_is_written(
    host, monkeypatch: pytest.MonkeyPatch
) -> None:
    from AutoFuseLib import Volumes

    monkeypatch.setattr(Volumes, "LARGEST_VOXEL_COUNT", 14 * 18 * 16 - 1)
    assert refusal(volumeNode("Huge", blobs(FIXED_SHAPE), FIXED_PLACE)).code == "image-too-large"


def test_a_diffusion_tensor_volume_is_refused_as_a_vector(host) -> None:
    import slicer
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLDiffusionTensorVolumeNode", "DTI")
    image = vtk.vtkImageData()
    image.SetDimensions(9, 10, 11)
    tensors = vtk.vtkFloatArray()
    tensors.SetNumberOfComponents(9)
    tensors.SetNumberOfTuples(990)
    image.GetPointData().SetTensors(tensors)
    node.SetAndObserveImageData(image)
    assert refusal(node).code == "image-is-vector"


def test_an_export_that_is_given_up_or_fails_leaves_no_file(host, tmp_path: Path) -> None:
    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Volumes import exportVolumeSteps

    node = volumeNode("CT", blobs((9, 700, 600)), FIXED_PLACE)
    steps = exportVolumeSteps(node, tmp_path / "a.npy")
    next(steps)
    assert (tmp_path / "a.npy").exists()
    steps.close()
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileError) as raised:
        exhaust(exportVolumeSteps(node, tmp_path / "missing folder" / "a.npy"))
    assert raised.value.code == "output-not-writable"


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8, np.bool_])
def test_an_imported_volume_lies_in_the_world_and_changes_once(host, tmp_path: Path, dtype: Any) -> None:
    import slicer
    import slicer.util
    import vtk

    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Volumes import importVolumeSteps

    values = blobs((12, 500, 400)).astype(dtype)
    np.save(tmp_path / "ä.npy", values)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Warped")
    node.SetAndObserveTransformNodeID(linearNode(PARENT).GetID())
    changes: list[str] = []
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: changes.append("modified"))
    node.AddObserver(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, lambda *_: changes.append("image"))
    steps = importVolumeSteps(node, tmp_path / "ä.npy", MOVING_PLACE)
    next(steps)
    assert not changes
    assert exhaust(steps) is node
    assert changes.count("image") == 1
    assert node.GetParentTransformNode() is None
    assert node.GetDisplayNode() is not None
    assert np.array_equal(slicer.util.arrayFromVolume(node), values.astype(np.uint8) if dtype is np.bool_ else values)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    assert np.abs(slicer.util.arrayFromVTKMatrix(matrix) - MOVING_PLACE).max() < 1e-9


def test_an_import_replaces_what_a_node_held_before(host, tmp_path: Path) -> None:
    import slicer.util

    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Volumes import importVolumeSteps

    node = volumeNode("Warped", blobs(FIXED_SHAPE, dtype=np.int16), FIXED_PLACE)
    np.save(tmp_path / "a.npy", blobs((9, 10, 11)))
    exhaust(importVolumeSteps(node, tmp_path / "a.npy", MOVING_PLACE))
    assert np.array_equal(slicer.util.arrayFromVolume(node), blobs((9, 10, 11)))


@pytest.mark.parametrize("content", ["absent", "text", "flat"])
def test_a_missing_or_damaged_result_is_a_file_error(host, tmp_path: Path, content: str) -> None:
    import slicer

    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Volumes import importVolumeSteps

    path = tmp_path / "a.npy"
    if content == "text":
        path.write_text("no array", encoding="utf-8")
    elif content == "flat":
        np.save(path, np.zeros((4, 5)))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Warped")
    with pytest.raises(FileError) as raised:
        exhaust(importVolumeSteps(node, path, MOVING_PLACE))
    assert raised.value.code == ("file-not-found" if content == "absent" else "file-not-readable")
    assert node.GetImageData() is None


def test_a_labelmap_is_exported_on_the_grid_of_the_image(host, tmp_path: Path) -> None:
    import SimpleITK as sitk
    from scene_parts import MOVING_SHAPE, itkImage

    from AutoFuseLib.Geometry import Grid
    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Volumes import exportLabelSteps

    labels = (blobs(MOVING_SHAPE) / 200).astype(np.int16)
    node = volumeNode("Labels", labels, MOVING_PLACE, "vtkMRMLLabelMapVolumeNode")
    node.SetAndObserveTransformNodeID(linearNode(PARENT).GetID())
    grid = Grid(PARENT @ FIXED_PLACE, FIXED_SHAPE)
    spec = exhaust(exportLabelSteps(node, grid, tmp_path / "l.npy"))
    assert np.abs(np.array(spec["ras_from_ijk"]) - PARENT @ FIXED_PLACE).max() < 1e-12
    array = np.load(tmp_path / "l.npy")
    reference = itkImage(np.zeros(FIXED_SHAPE, np.int16), PARENT @ FIXED_PLACE)
    expected = sitk.Resample(
        itkImage(labels, PARENT @ MOVING_PLACE), reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0
    )
    assert array.dtype == np.int16
    assert len(np.unique(array)) > 3
    assert np.mean(array != sitk.GetArrayFromImage(expected)) < 0.002  # ties between two voxels
    same = exhaust(exportLabelSteps(node, Grid.ofVolume(node), tmp_path / "s.npy"))
    assert np.array_equal(np.load(tmp_path / same["array"]), labels)


def test_the_window_of_a_new_volume_leaves_out_few_voxels(host, tmp_path: Path) -> None:
    import slicer

    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Volumes import importVolumeSteps

    values = np.random.default_rng(0).normal(300, 20, (40, 50, 60)).astype(np.float32)
    values[0, 0, 0], values[3, 3, 3] = 1e9, np.nan
    np.save(tmp_path / "a.npy", values)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Warped")
    exhaust(importVolumeSteps(node, tmp_path / "a.npy", MOVING_PLACE))
    display = node.GetDisplayNode()
    assert 220 < display.GetWindowLevelMin() < 260
    assert 340 < display.GetWindowLevelMax() < 380
    display.SetWindowLevelMinMax(1, 2)
    exhaust(importVolumeSteps(node, tmp_path / "a.npy", MOVING_PLACE))
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (1, 2)
