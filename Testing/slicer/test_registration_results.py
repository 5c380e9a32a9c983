"""What a finished registration leaves in the scene, and what the Results section does with it."""

from __future__ import annotations

import json

import pytest


def finished(registration, **choices):
    """A registration of the test's pair that has come to its end."""
    fixed, moving = registration.makePair()
    registration.load()
    parameters = registration.widget.logic.getParameterNode()
    for name, value in choices.items():
        setattr(parameters, name, value)
    registration.register()
    registration.finish()
    return fixed, moving, registration.run.result


def test_the_transform_takes_the_moving_volume_onto_the_fixed_one(registration):
    import numpy as np
    import slicer.util

    fixed, moving, result = finished(registration)
    warped = slicer.util.arrayFromVolume(result.warped)
    inner = (slice(2, -3), slice(3, -3), slice(4, -4))
    assert np.array_equal(warped[inner], slicer.util.arrayFromVolume(fixed)[inner])
    point = np.array([-1.0, 31.0, 14.0])
    moved = np.array(result.transform.GetTransformToParent().TransformPoint(*point))
    assert np.allclose(moved - point, (-6.0, 6.0, -2.5), atol=1e-4)
    back = np.array(result.inverse.GetTransformToParent().TransformPoint(*point))
    assert np.allclose(back - point, (6.0, -6.0, 2.5), atol=1e-4)
    assert moving.GetTransformNodeID() is None


def test_roles_and_provenance_stand_on_the_nodes(registration):
    fixed, moving, result = finished(registration, seed=5)
    assert result.transform.GetNodeReference("spatialRegistrationFixed") is fixed
    assert result.transform.GetNodeReference("spatialRegistrationMoving") is moving
    assert result.inverse.GetNodeReference("spatialRegistrationFixed") is moving
    for node in (result.transform, result.inverse, result.warped, result.jacobian, result.magnitude, result.table):
        assert node.GetAttribute("AutoFuse.engine") == "test"
        assert json.loads(node.GetAttribute("AutoFuse.config"))["seed"] == 5


def test_the_moving_volume_is_put_under_the_transform_when_asked(registration):
    _fixed, moving, result = finished(registration, applyToMoving=True)
    assert moving.GetParentTransformNode() is result.transform


def test_a_second_run_starts_from_where_the_images_lay(registration):
    import slicer

    fixed, moving = registration.makePair()
    segmentation = registration.addSegmentation(moving, ["Liver"], "Moving organs")
    registration.load()
    registration.widget.logic.getParameterNode().applyToMoving = True
    registration.register()
    first = registration.worker.jobs[-1][1]
    registration.finish()
    result = registration.run.result
    from AutoFuseLib.Placement import putUnder

    putUnder(segmentation, result.transform)
    registration.register()
    second = registration.worker.jobs[-1][1]
    assert second["moving"]["ras_from_ijk"] == first["moving"]["ras_from_ijk"]
    assert moving.GetParentTransformNode() is result.transform
    registration.host.click(registration.ui.registerButton)
    registration.worker.fail("cancelled")
    assert moving.GetParentTransformNode() is result.transform
    assert segmentation.GetParentTransformNode() is result.transform
    assert fixed.GetParentTransformNode() is None
    assert slicer.mrmlScene.GetNodesByName(moving.GetName()).GetNumberOfItems() == 1


def test_outputs_that_are_not_wanted_are_not_made(registration):
    from AutoFuseRegistrationLib.Outputs import KINDS

    wanted = {kind.want: False for kind in KINDS if kind.want}
    _fixed, _moving, result = finished(registration, **wanted)
    made = [kind.role for kind in KINDS if getattr(result, kind.role) is not None]
    assert made == ["transform", "warped"]


def test_a_second_run_fills_the_same_nodes(registration):
    _fixed, _moving, first = finished(registration)
    before = registration.nodeNames()
    registration.register()
    registration.finish()
    second = registration.run.result
    assert second.transform is first.transform
    assert second.warped is first.warped
    assert registration.nodeNames() == before


def test_nodes_that_the_user_chose_receive_the_result_and_lose_their_parent(registration):
    import slicer

    parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "P")
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "My warped CT")
    own.SetAndObserveTransformNodeID(parent.GetID())
    _fixed, _moving, result = finished(registration, warpedVolume=own)
    assert result.warped is own
    assert own.GetName() == "My warped CT"
    assert own.GetParentTransformNode() is None


def test_an_output_must_not_be_an_input(registration):
    _fixed, moving = registration.makePair()
    registration.load()
    registration.widget.logic.getParameterNode().warpedVolume = moving
    registration.host.click(registration.ui.registerButton)
    assert "CT day 8 is chosen as an output" in registration.ui.statusLabel.text
    assert registration.run is None


def test_cancelling_the_import_restores_the_nodes_that_the_user_chose(registration):
    import numpy as np
    import slicer.util

    own = slicer.util.addVolumeFromArray(np.full((9, 10, 11), 7, np.int16), name="My warped CT")
    own.SetHideFromEditors(False)
    registration.makePair()
    registration.load()
    parameters = registration.widget.logic.getParameterNode()
    parameters.fixedVolume = slicer.util.getNode("CT day 1")
    parameters.movingVolume = slicer.util.getNode("CT day 8")
    parameters.warpedVolume = own
    before = registration.nodeNames()
    registration.register()
    registration.worker.succeed()
    steps = registration.run._steps._steps
    while slicer.util.arrayFromVolume(own).shape == (9, 10, 11):
        next(steps)
    registration.run.cancel()
    assert slicer.util.arrayFromVolume(own).shape == (9, 10, 11)
    assert (slicer.util.arrayFromVolume(own) == 7).all()
    assert registration.nodeNames() == before


def test_each_visual_check_answers_its_button_and_gives_the_views_back(registration):
    import slicer

    finished(registration)
    ui, host = registration.ui, registration.host
    host.waitUntil(lambda: ui.blendButton.checked)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    host.click(ui.blendButton)
    host.waitUntil(lambda: not ui.blendButton.checked)
    before = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), composite.GetForegroundOpacity())
    for kind in ("blend", "flicker", "checkerboard", "difference", "grid", "arrows", "contours", "jacobian"):
        button = getattr(ui, f"{kind}Button")
        host.click(button)
        host.waitUntil(lambda kind=kind: registration.widget.results.checks.current == kind)
        host.waitUntil(lambda button=button: button.checked)
        assert ui.checkLabel.text
    host.click(ui.beforeButton)
    host.waitUntil(lambda: not registration.widget.results.checks.after)
    host.click(ui.jacobianButton)
    host.waitUntil(lambda: registration.widget.results.checks.current is None)
    after = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), composite.GetForegroundOpacity())
    assert after == before
    assert not ui.uncertaintyButton.enabled
    assert "uncertainty" in ui.uncertaintyButton.toolTip


def test_a_check_outlines_the_segmentations_that_shall_agree(registration):
    fixed, moving = registration.makePair()
    ofFixed = registration.addSegmentation(fixed, ["Liver"], "Fixed organs")
    ofMoving = registration.addSegmentation(moving, ["Liver"], "Moving organs")
    registration.load()
    registration.register()
    registration.finish()
    ui, host = registration.ui, registration.host
    host.waitUntil(lambda: ui.blendButton.checked)
    warped = registration.run.result.warpedSegmentation.GetDisplayNode()
    shown = [ofFixed.GetDisplayNode(), ofMoving.GetDisplayNode(), warped]
    assert [display.GetVisibility() for display in shown] == [1, 0, 1]
    assert not any(display.GetVisibility2DFill() for display in (shown[0], warped))
    host.click(ui.beforeButton)
    host.waitUntil(lambda: not warped.GetVisibility())
    assert [display.GetVisibility() for display in shown] == [1, 1, 0]
    host.click(ui.blendButton)
    host.waitUntil(lambda: registration.widget.results.checks.current is None)
    assert [display.GetVisibility() for display in shown] == [1, 1, 1]
    assert all(display.GetVisibility2DFill() for display in shown)


def test_leaving_the_module_gives_the_views_back(registration, load_module, sample):
    finished(registration)
    registration.host.waitUntil(lambda: registration.ui.blendButton.checked)
    checks = registration.widget.results.checks
    load_module(sample)
    assert checks.current is None


def test_the_table_is_shown_and_the_layout_comes_back(registration):
    import slicer

    _fixed, _moving, result = finished(registration)
    manager = slicer.app.layoutManager()
    before = manager.layout
    registration.host.click(registration.ui.showTableButton)
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView
    assert slicer.app.applicationLogic().GetSelectionNode().GetActiveTableID() == result.table.GetID()
    registration.host.click(registration.ui.showTableButton)
    assert manager.layout == before


def test_the_gates_of_a_network_are_plotted(registration):
    registration.makePair()
    registration.load()
    registration.register()
    gates = [{"stage": stage, "level": 1, "pair_weight": 0.4 + stage / 20} for stage in range(2, 9)]
    registration.finish(gate_means=gates)
    result = registration.run.result
    assert result.gatePlot.GetClassName() == "vtkMRMLPlotChartNode"
    assert registration.ui.showPlotButton.visible
    registration.register()
    registration.finish(gate_means=gates)
    assert registration.run.result.gatePlot is result.gatePlot


def test_a_result_is_found_again_in_a_scene_that_was_saved(registration, tmp_path):
    import slicer.util

    fixed, _moving, _result = finished(registration)
    path = tmp_path / "scene.mrml"
    assert slicer.util.saveScene(str(path))
    registration.host.closeScene()
    assert "Register two volumes" in registration.ui.verdictLabel.text
    slicer.util.loadScene(str(path))
    registration.host.app.processEvents()
    (result,) = registration.widget.logic.results()
    assert result.fixed.GetName() == fixed.GetName()
    assert result.report["verdict"]["level"] == "good"
    assert "Better aligned" in registration.ui.verdictLabel.text


def test_other_nodes_are_put_under_and_taken_out(registration):
    import slicer

    _fixed, _moving, result = finished(registration)
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    points.AddControlPoint(0.0, 30.0, 15.0)
    ui, host = registration.ui, registration.host
    ui.applyToGroup.collapsed = False
    host.app.processEvents()
    assert ui.applyNodesButton.toolTip == "Check one or more nodes."
    ui.applyNodesBox.check(points)
    host.click(ui.applyNodesButton)
    host.waitUntil(lambda: points.GetParentTransformNode() is not None)
    assert points.GetParentTransformNode() is result.transform
    host.click(ui.takeOutButton)
    assert points.GetParentTransformNode() is None
    host.choose(ui.directionBox, "Of the fixed volume, to the moving one")
    host.click(ui.hardenNodesButton)
    host.waitUntil(lambda: ui.hardenNodesButton.enabled)
    copy = slicer.util.getNode("Landmarks (on CT day 8)")
    position = [0.0, 0.0, 0.0]
    copy.GetNthControlPointPositionWorld(0, position)
    assert position == pytest.approx((6.0, 24.0, 17.5), abs=1e-3)


def test_transform_and_report_are_exported(registration, tmp_path):
    import numpy as np
    import SimpleITK as sitk

    finished(registration)
    ui, host = registration.ui, registration.host
    ui.exportGroup.collapsed = False
    host.app.processEvents()
    folder = tmp_path / "Ergebnis für Müller"
    folder.mkdir()
    for button, name in (
        (ui.exportTransformButton, "t.h5"),
        (ui.exportInverseButton, "i.h5"),
        (ui.exportReportButton, "r.json"),
        (ui.exportReportButton, "r.csv"),
    ):
        host.messages.answer(str(folder / name))
        host.click(button)
        assert (folder / name).is_file()
    assert json.loads((folder / "r.json").read_text(encoding="utf-8"))["verdict"]["level"] == "good"
    transform = sitk.ReadTransform(str(folder / "t.h5"))
    lps = np.array([1.0, -31.0, 14.0])
    assert np.allclose(np.array(transform.TransformPoint(lps.tolist())) - lps, (-6.0, 6.0, 2.5), atol=1e-4)


def test_an_export_that_cannot_be_written_is_one_sentence(registration, tmp_path):
    finished(registration)
    ui, host = registration.ui, registration.host
    ui.exportGroup.collapsed = False
    host.app.processEvents()
    host.messages.answer(str(tmp_path / "absent" / "t.h5"))
    host.click(ui.exportTransformButton)
    (message,) = host.messages.ofKind("error")
    assert "absent" in message.text
    host.messages.answer("")
    host.click(ui.exportTransformButton)
    assert len(host.messages.ofKind("error")) == 1
