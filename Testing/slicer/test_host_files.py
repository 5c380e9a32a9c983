"""``slicer.util.loadVolume`` and its like work on the real storage nodes."""

from __future__ import annotations

import numpy as np
import pytest

IJK_TO_RAS = np.array([[0.0, -1.5, 0, 12], [0, 0, -2.5, -7], [0.75, 0, 0, 3], [0, 0, 0, 1]])


def test_a_volume_keeps_voxels_and_geometry(host, tmp_path):
    import slicer.util
    import vtk

    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    node = slicer.util.addVolumeFromArray(array, IJK_TO_RAS, "CT")
    path = tmp_path / "größe eins.nii.gz"
    assert slicer.util.saveNode(node, str(path), {})
    loaded = slicer.util.loadVolume(str(path), {"name": "again"})
    assert loaded.GetName() == "again"
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), array)
    matrix = vtk.vtkMatrix4x4()
    loaded.GetIJKToRASMatrix(matrix)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), IJK_TO_RAS, atol=1e-5)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == loaded.GetID()


def test_a_labelmap_and_a_segmentation_load_as_such(host, tmp_path):
    import slicer.util

    array = np.zeros((4, 5, 6), np.uint8)
    array[1:3, 2:4, 1:5] = 3
    node = slicer.util.addVolumeFromArray(array, IJK_TO_RAS, "labels", "vtkMRMLLabelMapVolumeNode")
    path = tmp_path / "labels.nrrd"
    slicer.util.saveNode(node, str(path), {})
    labelmap = slicer.util.loadLabelVolume(str(path), {})
    assert labelmap.IsA("vtkMRMLLabelMapVolumeNode")
    segmentation = slicer.util.loadSegmentation(str(path), {})
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 1
    names = segmentation.GetSegmentation().GetSegmentIDs()
    assert slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, names[0], labelmap).sum() == 16


def test_a_transform_comes_back(host, tmp_path):
    import slicer.util

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    matrix = np.eye(4)
    matrix[:3, 3] = 1, -2, 3
    slicer.util.updateTransformMatrixFromArray(node, matrix)
    path = tmp_path / "shift.h5"
    assert slicer.util.saveNode(node, str(path), {})
    loaded = slicer.util.loadTransform(str(path))
    np.testing.assert_allclose(slicer.util.arrayFromTransformMatrix(loaded), matrix, atol=1e-6)


def test_a_bundle_restores_the_scene(host, tmp_path):
    import slicer.util

    slicer.util.addVolumeFromArray(np.full((3, 4, 5), 7, np.int16), IJK_TO_RAS, "CT")
    path = tmp_path / "alles.mrb"
    assert slicer.util.saveScene(str(path))
    host.closeScene()
    assert host.scene.GetFirstNodeByName("CT") is None
    slicer.app.coreIOManager().loadScene(str(path))
    assert slicer.util.arrayFromVolume(host.scene.GetFirstNodeByName("CT")).max() == 7


def test_a_file_that_does_not_exist_is_an_error(host, tmp_path):
    import slicer.util

    with pytest.raises(RuntimeError, match="Failed to load node from file"):
        slicer.util.loadVolume(str(tmp_path / "none.nrrd"), {})


def test_an_exported_copy_is_moved_by_its_transform_and_the_node_stays(host, tmp_path):
    import slicer.util

    node = slicer.util.addVolumeFromArray(np.ones((3, 4, 5), np.int16), IJK_TO_RAS, "CT")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    matrix = np.eye(4)
    matrix[:3, 3] = 10, 0, 0
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    path = tmp_path / "moved.nrrd"
    assert slicer.util.exportNode(node, str(path), {}, world=True)
    loaded = slicer.util.loadVolume(str(path), {})
    assert loaded.GetOrigin() == pytest.approx((22, -7, 3))
    assert node.GetOrigin() == pytest.approx((12, -7, 3))
