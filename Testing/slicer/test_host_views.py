"""Slice and 3D views of the host are real MRML pipelines: what stands in the scene appears at its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ARTEFACTS = Path(__file__).resolve().parents[2] / ".artefacts" / "slicer"
IJK_TO_RAS = np.array([[-2.0, 0, 0, 30], [0, -1.5, 0, 20], [0, 0, 3.0, -40], [0, 0, 0, 1]])


def ras(i, j, k):
    return (IJK_TO_RAS @ [i, j, k, 1])[:3]


@pytest.fixture
def volume(host):
    """Grey 30 by 26 by 20 voxels with one white block in the patient's right front, in slices 12 to 14."""
    import slicer.util

    array = np.full((20, 26, 30), 50, np.int16)
    array[12:15, 4:9, 3:8] = 200
    node = slicer.util.addVolumeFromArray(array, IJK_TO_RAS, "CT")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(0, 200)
    return node


def pixels(host, name, artefact):
    """The picture of a slice view, (height, width, 3) with the first line on top; kept under the artefact's name."""
    import qt
    import slicer

    view = slicer.app.layoutManager().sliceWidget(name).sliceView()
    host.screenshot(view, ARTEFACTS / f"host_{artefact}.png")
    image = view.grab().toImage().convertToFormat(qt.QImage.Format_RGB888)
    width, height, stride = image.width(), image.height(), image.bytesPerLine()
    lines = np.frombuffer(image.constBits(), np.uint8).reshape(height, stride)
    return lines[:, : 3 * width].reshape(height, width, 3).astype(int)


def test_the_layout_starts_with_slicers_three_slice_views_and_one_3d_view(host):
    import slicer

    manager = slicer.app.layoutManager()
    assert sorted(manager.sliceViewNames()) == ["Green", "Red", "Yellow"]
    orientations = {name: manager.sliceWidget(name).sliceOrientation for name in manager.sliceViewNames()}
    assert orientations == {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
    assert manager.threeDViewCount == 1
    assert manager.sliceWidget("Purple") is None


def test_a_block_appears_at_its_place_in_the_slice_through_it_only(host, volume):
    import slicer.util

    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    widget = slicer.app.layoutManager().sliceWidget("Red")
    widget.sliceLogic().SetSliceOffset(ras(0, 0, 13)[2])
    image = pixels(host, "Red", "block")
    x, y, _ = widget.sliceView().convertRASToXYZ(ras(5, 6, 13))
    row, column = image.shape[0] - 1 - round(y), round(x)
    assert image[row, column].tolist() == [255, 255, 255]
    bright = np.argwhere(image[..., 0] > 200)
    assert np.abs(bright.mean(axis=0) - [row, column]).max() < 8
    assert column < image.shape[1] / 2, "the patient's right stands on the left"
    assert row < image.shape[0] / 2, "the front stands on top"
    widget.sliceController().setSliceOffsetValue(ras(0, 0, 2)[2])
    assert pixels(host, "Red", "no_block")[row, column].tolist() == [63, 63, 63]


def test_foreground_opacity_and_labels_blend_into_the_picture(host, volume):
    import slicer.util

    other = slicer.util.addVolumeFromArray(np.full((20, 26, 30), 200, np.int16), IJK_TO_RAS, "MR")
    other.CreateDefaultDisplayNodes()
    other.GetDisplayNode().SetAutoWindowLevel(False)
    other.GetDisplayNode().SetWindowLevelMinMax(0, 200)
    slicer.util.setSliceViewerLayers(background=volume, foreground=other, foregroundOpacity=0.5, fit=True)
    middle = pixels(host, "Red", "foreground")[200, 200]
    assert middle.tolist() == pytest.approx([159] * 3, abs=2)
    ones = np.ones((20, 26, 30), np.uint8)
    label = slicer.util.addVolumeFromArray(ones, IJK_TO_RAS, "labels", "vtkMRMLLabelMapVolumeNode")
    label.CreateDefaultDisplayNodes()
    label.GetDisplayNode().SetAndObserveColorNodeID(slicer.util.getNode("Labels").GetID())
    slicer.util.setSliceViewerLayers(foreground=None, label=label, labelOpacity=1.0)
    colored = pixels(host, "Red", "label")[200, 200]
    assert np.ptp(colored) > 50, "a label has a colour"


def test_resetting_the_views_brings_the_volume_back(host, volume):
    import slicer.util

    slicer.util.setSliceViewerLayers(background=volume)
    node = slicer.app.layoutManager().sliceWidget("Green").mrmlSliceNode()
    node.SetFieldOfView(900, 900, 1)
    slicer.util.resetSliceViews()
    assert node.GetFieldOfView()[0] < 120


def test_a_model_appears_in_the_3d_view(host):
    import slicer
    import vtk

    sphere = vtk.vtkSphereSource()
    sphere.SetRadius(30)
    sphere.Update()
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "ball")
    model.SetAndObservePolyData(sphere.GetOutput())
    model.CreateDefaultDisplayNodes()
    model.GetDisplayNode().SetColor(1, 0, 0)
    slicer.util.resetThreeDViews()
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    host.screenshot(view, ARTEFACTS / "host_3d.png")
    color = view.grab().toImage().pixelColor(200, 200)
    assert color.red() > 2 * color.blue()


def test_a_layout_of_the_module_creates_its_own_slice_views(host, volume):
    import slicer

    xml = """<layout type="horizontal"><item><view class="vtkMRMLSliceNode" singletontag="Before">
      <property name="orientation" action="default">Coronal</property>
      <property name="viewlabel" action="default">B</property></view></item><item>
      <view class="vtkMRMLSliceNode" singletontag="After">
      <property name="orientation" action="default">Coronal</property>
      <property name="viewlabel" action="default">A</property></view></item></layout>"""
    manager, heard = slicer.app.layoutManager(), []
    manager.layoutChanged.connect(heard.append)
    manager.layoutLogic().GetLayoutNode().AddLayoutDescription(711, xml)
    manager.setLayout(711)
    assert manager.sliceViewNames() == ("Before", "After")
    assert (manager.layout, heard) == (711, [711])
    widget = manager.sliceWidget("After")
    widget.mrmlSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    widget.fitSliceToBackground()
    assert pixels(host, "After", "own_layout")[200, 200].tolist() == [63, 63, 63]
    manager.layout = 3
    assert sorted(manager.sliceViewNames()) == ["Green", "Red", "Yellow"]


def test_rendering_can_be_paused_and_resumed(host):
    import slicer.util

    heard = []
    slicer.app.renderPaused.connect(heard.append)
    with slicer.util.RenderBlocker():
        assert heard == [True]
    assert heard == [True, False]
