"""Segmentations and masks between the scene and the worker: matched names, shared layers, overlaps, parents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scene_parts import (
    FIXED_PLACE,
    FIXED_SHAPE,
    PARENT,
    bendingNode,
    itkImage,
    linearNode,
    mapped,
    place,
    segmentationNode,
    turn,
    volumeNode,
)

from autofuse_engine.errors import InputError

OTHER_SHAPE = (20, 15, 17)
OTHER_PLACE = place((1.7, 2.1, -1.9), (-14.0, -16.0, 20.0), turn((1, 2, 2), 0.3))


def boxes(shape: tuple[int, int, int]) -> np.ndarray:
    """Labels 1 to 3 in boxes, of different sizes."""
    labels = np.zeros(shape, np.uint8)
    labels[2:9, 3:9, 2:7] = 1
    labels[4:12, 9:14, 5:12] = 2
    labels[9:13, 2:8, 8:15] = 3
    return labels


def grid(rasFromIjk: np.ndarray = FIXED_PLACE, shape: tuple[int, int, int] = FIXED_SHAPE) -> Any:
    from AutoFuseLib.Geometry import Grid

    return Grid(rasFromIjk, shape)


def exported(node: Any, labels: dict[str, int], reference: Any, path: Path) -> tuple[np.ndarray, list[str]]:
    from AutoFuseLib.Segmentations import exportSegmentationSteps
    from AutoFuseLib.Steps import exhaust

    spec, absent = exhaust(exportSegmentationSteps(node, labels, reference, path))
    assert np.abs(np.array(spec["ras_from_ijk"]) - reference.rasFromIjk).max() < 1e-12
    return np.load(path), absent


def nearest(labels: np.ndarray, rasFromIjk: np.ndarray, reference: Any) -> np.ndarray:
    """SimpleITK's nearest voxel."""
    target = itkImage(np.zeros(reference.shape, np.uint8), reference.rasFromIjk)
    source = itkImage(labels, rasFromIjk)
    return sitk.GetArrayFromImage(sitk.Resample(source, target, sitk.Transform(), sitk.sitkNearestNeighbor, 0))


def test_segments_are_matched_by_name_and_numbered_from_one(host) -> None:
    from AutoFuseLib.Segmentations import commonSegments

    empty = np.zeros(FIXED_SHAPE, np.uint8)
    fixed = segmentationNode("A", empty, FIXED_PLACE, ["Liver", "spleen", "Left kidney", "x", "x"])
    moving = segmentationNode("B", empty, FIXED_PLACE, ["left Kidney ", "LIVER", "Aorta"])
    common = commonSegments(fixed, moving)
    assert [(item.name, item.label) for item in common] == [("Liver", 1), ("Left kidney", 2)]
    assert [item.fixedId for item in common] == ["id Liver 1", "id Left kidney 3"]
    assert [item.movingId for item in common] == ["id LIVER 2", "id left Kidney  1"]
    assert commonSegments(fixed, segmentationNode("C", empty, FIXED_PLACE, ["Aorta"])) == []


def test_a_name_that_stands_twice_cannot_be_matched(host) -> None:
    from AutoFuseLib.Segmentations import commonSegments

    empty = np.zeros(FIXED_SHAPE, np.uint8)
    fixed = segmentationNode("CT", empty, FIXED_PLACE, ["Liver", "Rib", "rib "])
    moving = segmentationNode("MR", empty, FIXED_PLACE, ["Rib"])
    for pair in ((fixed, moving), (moving, fixed)):
        with pytest.raises(InputError) as raised:
            commonSegments(*pair)
        assert raised.value.code == "segment-names-repeated"
        assert "CT" in raised.value.text


def cropped(node: Any) -> None:
    """Labelmaps that begin anywhere, as the Segment Editor and hardening leave them."""
    import slicer

    for identifier in node.GetSegmentation().GetSegmentIDs():
        image = node.GetSegmentation().GetSegment(identifier).GetRepresentation("Binary labelmap")
        extent = [0] * 6
        assert slicer.vtkOrientedImageDataResample.CalculateEffectiveExtent(image, extent)
        image.Crop(extent)
        assert min(image.GetExtent()[::2]) > 0


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("parent", ["none", "linear"])
def test_labels_are_renumbered_on_the_grid_of_the_image(host, tmp_path: Path, parent: str, separate: bool) -> None:
    labels = boxes(OTHER_SHAPE)
    node = segmentationNode("S", labels, OTHER_PLACE, ["a", "b", "c"], separate)
    assert node.GetSegmentation().GetNumberOfLayers() == (3 if separate else 1)
    if separate:
        cropped(node)
    world = OTHER_PLACE
    if parent == "linear":
        node.SetAndObserveTransformNodeID(linearNode(PARENT).GetID())
        world = PARENT @ OTHER_PLACE
    reference = grid((PARENT if parent == "linear" else np.eye(4)) @ FIXED_PLACE)
    array, absent = exported(node, {"id a 1": 7, "id c 3": 300}, reference, tmp_path / "l.npy")
    found = nearest(labels, world, reference)
    expected = np.select([found == 1, found == 3], [7, 300], 0)
    assert absent == []
    assert array.dtype == np.uint16
    assert set(np.unique(array)) == {0, 7, 300}
    assert np.mean(array != expected) < 0.002  # ties between two voxels


@pytest.mark.parametrize("separate", [False, True])
def test_on_the_same_grid_labels_are_exact_also_where_layers_are_cropped(host, tmp_path: Path, separate: bool) -> None:
    labels = boxes(FIXED_SHAPE)
    node = segmentationNode("S", labels, FIXED_PLACE, ["a", "b", "c"], separate)
    if separate:
        cropped(node)
    array, _ = exported(node, {"id a 1": 1, "id b 2": 2, "id c 3": 3}, grid(), tmp_path / "l.npy")
    assert array.dtype == np.uint8
    assert np.array_equal(array, labels)
    shift = FIXED_PLACE.copy()
    shift[:3, 3] += FIXED_PLACE[:3, :3] @ [3, 2, 1]
    array, _ = exported(node, {"id b 2": 2}, grid(shift, (15, 14, 12)), tmp_path / "m.npy")
    expected = np.zeros((15, 14, 12), np.uint8)
    expected[3:11, 7:12, 2:9] = 2
    assert np.array_equal(array, expected)


def test_the_later_segment_wins_where_two_overlap(host, tmp_path: Path) -> None:
    import slicer.util

    node = segmentationNode("S", boxes(FIXED_SHAPE), FIXED_PLACE, ["a", "b", "c"], separate=True)
    image = volumeNode("temporary", np.zeros(FIXED_SHAPE, np.uint8), FIXED_PLACE, "vtkMRMLLabelMapVolumeNode")
    whole = np.zeros(FIXED_SHAPE, np.uint8)
    whole[1:13, 1:15, 1:15] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(whole, node, "id b 2", image)
    array, absent = exported(node, {"id a 1": 1, "id b 2": 2, "id c 3": 3}, grid(), tmp_path / "l.npy")
    expected = whole * 2
    expected[boxes(FIXED_SHAPE) == 3] = 3
    assert np.array_equal(array, expected)
    assert absent == ["a"]


def test_empty_segments_are_named_and_nothing_at_all_is_an_error(host, tmp_path: Path) -> None:
    labels = boxes(FIXED_SHAPE)
    labels[labels == 2] = 0
    node = segmentationNode("S", labels, FIXED_PLACE, ["a", "Milz", "c"])
    array, absent = exported(node, {"id a 1": 1, "id Milz 2": 2, "id c 3": 3}, grid(), tmp_path / "l.npy")
    assert absent == ["Milz"]
    assert set(np.unique(array)) == {0, 1, 3}
    with pytest.raises(InputError) as raised:
        exported(node, {"id Milz 2": 2}, grid(), tmp_path / "e.npy")
    assert raised.value.code == "labels-empty"
    assert "Milz" in raised.value.text
    assert not (tmp_path / "e.npy").exists()
    with pytest.raises(InputError):
        exported(node, {}, grid(), tmp_path / "e.npy")


def test_closed_surfaces_are_converted_on_a_copy(host, tmp_path: Path) -> None:
    import slicer

    labels = boxes(FIXED_SHAPE)
    node = segmentationNode("S", labels, FIXED_PLACE, ["a", "b", "c"])
    node.GetSegmentation().SetConversionParameter("Smoothing factor", "0.0")
    node.CreateClosedSurfaceRepresentation()
    node.SetSourceRepresentationToClosedSurface()
    node.RemoveBinaryLabelmapRepresentation()
    node.SetAndObserveTransformNodeID(linearNode(PARENT).GetID())
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")
    count = slicer.mrmlScene.GetNumberOfNodes()
    array, _ = exported(node, {"id a 1": 1, "id b 2": 2, "id c 3": 3}, grid(PARENT @ FIXED_PLACE), tmp_path / "l.npy")
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    for label in (1, 2, 3):
        common = ((array == label) & (labels == label)).sum()
        assert 2 * common / ((array == label).sum() + (labels == label).sum()) > 0.9


def test_under_a_bending_parent_each_voxel_asks_where_it_came_from(host, tmp_path: Path) -> None:
    labels = boxes(OTHER_SHAPE)
    node = segmentationNode("S", labels, OTHER_PLACE, ["a", "b", "c"])
    node.SetAndObserveTransformNodeID(bendingNode().GetID())
    array, _ = exported(node, {"id a 1": 1, "id b 2": 2, "id c 3": 3}, grid(), tmp_path / "l.npy")
    agree = 0
    voxels = np.random.default_rng(0).integers(0, np.array(FIXED_SHAPE), (400, 3))
    for voxel in voxels:
        local = [0.0, 0.0, 0.0]
        node.TransformPointFromWorld(mapped(FIXED_PLACE, voxel[::-1]).tolist(), local)
        i, j, k = np.rint(mapped(np.linalg.inv(OTHER_PLACE), local)).astype(int)
        inside = all(0 <= index < side for index, side in zip((k, j, i), OTHER_SHAPE, strict=True))
        agree += array[tuple(voxel)] == (labels[k, j, i] if inside else 0)
    assert agree >= 398
    assert (array > 0).sum() > 200


def test_an_imported_segmentation_keeps_names_colours_and_terminology_in_one_layer(host, tmp_path: Path) -> None:
    import slicer
    import slicer.util
    import vtk

    from AutoFuseLib.Segmentations import importSegmentationSteps
    from AutoFuseLib.Steps import exhaust

    source = segmentationNode("MR", boxes(OTHER_SHAPE), OTHER_PLACE, ["Leber", "Milz", "Niere"], separate=True)
    spleen = source.GetSegmentation().GetSegment("id Milz 2")
    spleen.SetColor(0.9, 0.1, 0.3)
    spleen.SetTag("TerminologyEntry", "made of words")
    labels = (boxes(FIXED_SHAPE) * 2).astype(np.int32)
    np.save(tmp_path / "ö.npy", labels)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Warped")
    node.GetSegmentation().AddEmptySegment("old", "old")
    node.SetAndObserveTransformNodeID(linearNode(PARENT).GetID())
    fixed = volumeNode("CT", np.zeros(FIXED_SHAPE, np.int16), FIXED_PLACE)
    chosen = {"id Leber 1": 2, "id Milz 2": 4, "id Niere 3": 6}
    assert exhaust(importSegmentationSteps(node, tmp_path / "ö.npy", FIXED_PLACE, source, chosen, fixed)) is node
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfLayers() == 1
    assert list(segmentation.GetSegmentIDs()) == list(chosen)
    assert node.GetParentTransformNode() is None
    assert node.GetDisplayNode() is not None
    segment = segmentation.GetSegment("id Milz 2")
    assert segment.GetName() == "Milz"
    assert np.abs(np.array(segment.GetColor()) - [0.9, 0.1, 0.3]).max() < 1e-6
    assert segment.GetTag("TerminologyEntry", vtk.reference("")) or segment.HasTag("TerminologyEntry")
    for identifier, label in chosen.items():
        values = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, fixed)
        assert np.array_equal(values, labels == label)
    node.CreateClosedSurfaceRepresentation()
    middle = np.array(node.GetSegmentCenterRAS("id Milz 2"))
    k, j, i = (axis.mean() for axis in np.nonzero(labels == 4))
    assert np.abs(middle - mapped(FIXED_PLACE, [i, j, k])).max() < 2.6


def test_what_was_imported_is_exported_again(host, tmp_path: Path) -> None:
    import slicer

    from AutoFuseLib.Segmentations import allSegments, importSegmentationSteps
    from AutoFuseLib.Steps import exhaust

    source = segmentationNode("MR", boxes(OTHER_SHAPE), OTHER_PLACE, ["a", "b", "c"])
    labels = boxes(FIXED_SHAPE)
    np.save(tmp_path / "a.npy", labels)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Warped")
    exhaust(importSegmentationSteps(node, tmp_path / "a.npy", FIXED_PLACE, source, allSegments(source)))
    array, _ = exported(node, allSegments(node), grid(), tmp_path / "b.npy")
    assert np.array_equal(array, labels)


def mask(node: Any, segmentId: str | None, reference: Any, path: Path) -> np.ndarray:
    from AutoFuseLib.Masks import exportMaskSteps
    from AutoFuseLib.Steps import exhaust

    exhaust(exportMaskSteps(node, segmentId, reference, path))
    array = np.load(path)
    assert array.dtype == np.uint8
    return array


def test_a_mask_is_a_labelmap_or_one_segment_on_the_grid_of_the_image(host, tmp_path: Path) -> None:
    labels = boxes(OTHER_SHAPE)
    volume = volumeNode("Mask", labels.astype(np.int16) * -3, OTHER_PLACE, "vtkMRMLLabelMapVolumeNode")
    node = segmentationNode("S", labels, OTHER_PLACE, ["a", "b", "c"])
    found = nearest(labels, OTHER_PLACE, grid())
    assert np.mean(mask(volume, None, grid(), tmp_path / "m.npy") != (found > 0)) < 0.002
    assert np.mean(mask(node, "id b 2", grid(), tmp_path / "s.npy") != (found == 2)) < 0.002


def test_a_mask_that_misses_the_image_is_refused_by_name(host, tmp_path: Path) -> None:
    labels = boxes(OTHER_SHAPE)
    far = OTHER_PLACE.copy()
    far[:3, 3] += 500
    node = segmentationNode("Organe", labels, far, ["Leber"])
    volume = volumeNode("Maske", np.zeros(OTHER_SHAPE, np.uint8), OTHER_PLACE, "vtkMRMLLabelMapVolumeNode")
    for chosen, segmentId, name in ((node, "id Leber 1", "Leber of Organe"), (volume, None, "Maske")):
        with pytest.raises(InputError) as raised:
            mask(chosen, segmentId, grid(), tmp_path / "m.npy")
        assert raised.value.code == "mask-empty"
        assert name in raised.value.text
        assert not (tmp_path / "m.npy").exists()
