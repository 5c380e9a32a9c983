"""The scene around visual checks: it is as before when they are hidden, and may close or lose nodes meanwhile."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_result import SLICES, addVolume, composite, hiddenNodes, layers, makeResult


@pytest.fixture
def result(host):
    return makeResult()


@pytest.fixture
def checks(host, result):
    from AutoFuseLib.VisualChecks import VisualChecks

    made = VisualChecks(result)
    yield made
    made.cleanup()


def test_a_view_that_shows_the_images_already_keeps_its_plane_and_others_are_fitted(host, checks, result):
    import slicer
    import slicer.util

    other = addVolume("other", np.ones((9, 8, 7), np.float32), np.diag([30.0, 30.0, 30.0, 1.0]))
    slicer.util.setSliceViewerLayers(background=other, fit=True)
    composite("Red").SetBackgroundVolumeID(result.fixed.GetID())
    nodes = {name: slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode() for name in SLICES}
    before = {name: (node.GetFieldOfView(), node.GetSliceOffset()) for name, node in nodes.items()}
    checks.show("blend")
    assert (nodes["Red"].GetFieldOfView(), nodes["Red"].GetSliceOffset()) == before["Red"]
    assert nodes["Green"].GetFieldOfView()[0] < 120 < before["Green"][0][0]
    nodes["Red"].SetFieldOfView(50, 50, 1)
    checks.show("difference")
    assert nodes["Red"].GetFieldOfView()[0] == 50, "what the user has set while it is shown stays"
    checks.hide()
    assert nodes["Green"].GetFieldOfView() == pytest.approx(before["Green"][0])
    assert nodes["Green"].GetSliceOffset() == pytest.approx(before["Green"][1])
    assert nodes["Red"].GetFieldOfView()[0] == 50


def test_hiding_brings_layout_layers_opacities_displays_and_3d_slices_back(host, checks, result):
    import slicer
    import slicer.util

    manager = slicer.app.layoutManager()
    labels = addVolume("labels", np.ones((9, 8, 7), np.uint8), np.eye(4), "vtkMRMLLabelMapVolumeNode")
    slicer.util.setSliceViewerLayers(result.moving, result.warped, labels, 0.3, 0.7)
    result.jacobian.GetDisplayNode().SetWindowLevel(3.0, 0.7)
    result.jacobian.GetDisplayNode().SetInterpolate(0)
    composite("Green").SetCompositing(2)
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")

    def state():
        display = result.jacobian.GetDisplayNode()
        return (
            manager.layout,
            [(n.GetBackgroundVolumeID(), n.GetForegroundVolumeID(), n.GetLabelVolumeID()) for n in nodes],
            [(n.GetForegroundOpacity(), n.GetLabelOpacity(), n.GetCompositing()) for n in nodes],
            (display.GetWindow(), display.GetLevel(), display.GetInterpolate(), display.GetColorNodeID()),
            [node.GetSliceVisible() for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")],
            result.jacobian.GetNumberOfDisplayNodes(),
            result.transform.GetNumberOfDisplayNodes(),
            slicer.mrmlScene.GetNumberOfNodes(),
        )

    before = state()
    for kind in checks.KINDS:
        if not checks.available(kind):  # this result has no weight of smoothness
            checks.show(kind)
    checks.hide()
    assert state() == before
    assert hiddenNodes() == []
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
    checks.show("jacobian")
    assert set(SLICES) <= set(manager.sliceViewNames())
    checks.hide()
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView


def test_no_hidden_node_is_listed_or_saved(host, checks, tmp_path):
    import slicer

    checks.show("grid")
    checks.show("difference")
    assert "AutoFuse check" in hiddenNodes()
    tree = slicer.mrmlScene.GetSubjectHierarchyNode()
    if tree is not None:
        assert tree.GetItemByDataNode(slicer.util.getNode("AutoFuse check")) == 0
    path = tmp_path / "scene.mrml"
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.Commit(str(path))
    assert "CT day 1" in path.read_text(encoding="utf-8")
    assert "AutoFuse check" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["flicker", "difference", "grid", "jacobian"])
def test_closing_the_scene_while_a_check_is_shown_is_safe(host, checks, kind):
    checks.show(kind)
    host.closeScene()
    assert checks.current is None
    assert hiddenNodes() == []
    host.app.processEvents()
    assert "no longer in the scene" in checks.available(kind)
    checks.hide()


@pytest.mark.parametrize(
    ("kind", "role"),
    [("difference", "moving"), ("grid", "transform"), ("jacobian", "jacobian"), ("blend", "warped")],
)
def test_deleting_what_a_check_shows_hides_it(host, checks, result, kind, role):
    import slicer

    checks.show(kind)
    slicer.mrmlScene.RemoveNode(getattr(result, role))
    assert checks.current is None
    assert hiddenNodes() == []
    assert layers() == (None, None, 0.0)


def test_deleting_what_a_check_does_not_show_changes_nothing(host, checks, result):
    import slicer

    checks.show("blend")
    slicer.mrmlScene.RemoveNode(result.jacobian)
    assert checks.current == "blend"
    assert "Jacobian" in checks.available("jacobian")


def test_pieces_that_were_overtaken_end_without_effect(host, checks):
    from AutoFuseLib.Steps import exhaust

    first = checks.showSteps("difference")
    next(first)
    checks.show("blend")
    exhaust(first)
    assert checks.current == "blend"
    second = checks.showSteps("checkerboard")
    next(second)
    checks.hide()
    exhaust(second)
    assert checks.current is None
    assert hiddenNodes() == []


def test_a_layout_that_the_user_chooses_while_a_check_is_shown_stays(host, checks):
    import slicer

    manager = slicer.app.layoutManager()
    checks.show("blend")
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    checks.show("difference")
    assert layers("Red")[0] == "AutoFuse check"
    checks.hide()
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    assert {layers(name) for name in SLICES} == {(None, None, 0.0)}
