"""The slider Smoothness of a result: what it starts, what it keeps, and why it cannot be moved at times."""

from __future__ import annotations

import pytest

PATIENCE_S = 60.0
"""For machines that do much else."""


def finished(registration, **choices):
    """A registration of the test's pair, refined without a model, that has come to its end."""
    pair = registration.makePair()
    registration.load()
    parameters = registration.widget.logic.getParameterNode()
    for name, value in {"model": "none", **choices}.items():
        setattr(parameters, name, value)
    registration.register()
    registration.finish()
    registration.host.waitUntil(lambda: registration.ui.blendButton.checked, PATIENCE_S)
    return *pair, registration.run.result


def letGo(registration, position):
    """Drag the slider to a position and let it go."""
    slider = registration.ui.repeatSlider
    slider.setSliderDown(True)
    slider.setSliderPosition(position)
    slider.setSliderDown(False)


def pause(host, seconds):
    """Let the event loop run: for what must not happen."""
    import time

    end = time.monotonic() + seconds
    host.waitUntil(lambda: time.monotonic() > end, PATIENCE_S)


def repeat(registration, position):
    """Let the slider go, and wait until the worker has the job."""
    count = len(registration.worker.jobs)
    letGo(registration, position)
    registration.host.waitUntil(lambda: len(registration.worker.jobs) > count, PATIENCE_S)
    return registration.worker.jobs[-1][1]


def test_the_scale_is_logarithmic_and_one_is_in_its_middle(registration):
    registration.load()
    from AutoFuseRegistrationLib.SmoothnessPanel import positionOf, smoothnessAt

    slider = registration.ui.repeatSlider
    assert [smoothnessAt(p) for p in (slider.minimum, -10, 0, 10, slider.maximum)] == [0.1, 0.32, 1.0, 3.2, 10.0]
    values = [smoothnessAt(position) for position in range(slider.minimum, slider.maximum + 1)]
    assert values == sorted(set(values))
    assert [positionOf(value) for value in values] == list(range(slider.minimum, slider.maximum + 1))


def test_letting_go_runs_the_same_registration_from_the_alignment_that_was_found(registration):
    fixed, _moving, result = finished(registration, seed=7, refinementSteps=4)
    first = registration.worker.jobs[0][1]
    matrix = result.report["initial_matrix_ras"]
    spec = repeat(registration, 10)
    wanted = {"smoothness": 3.2, "initial": "matrix", "initial_matrix_ras": tuple(tuple(row) for row in matrix)}
    assert spec["config"] == {**first["config"], **wanted}
    assert {name: spec[name] for name in ("fixed", "moving")} == {name: first[name] for name in ("fixed", "moving")}
    assert registration.widget.logic.getParameterNode().smoothness == pytest.approx(3.2)
    registration.finish(verdict={"level": "check", "text": "Hardly changed."})
    assert registration.run.result.transform is result.transform
    assert registration.run.result.warped is result.warped
    assert registration.ui.repeatSlider.value == 10
    assert registration.ui.repeatValueLabel.text == "3.2"
    assert "Hardly changed" in registration.ui.verdictLabel.text
    assert fixed.GetName() == "CT day 1"


def test_a_deformation_that_was_the_start_is_so_again_until_it_changes(registration):
    import slicer
    import vtk

    registration.load()
    from AutoFuseRegistrationLib.ParameterNode import InitialAlignment

    start = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    start.SetAndObserveTransformFromParent(vtk.vtkThinPlateSplineTransform())
    assert not start.IsTransformToWorldLinear()
    finished(registration, initialTransform=start, initialAlignment=InitialAlignment.TRANSFORM)
    first = registration.worker.jobs[0][1]
    spec = repeat(registration, 10)
    assert spec["config"] == {**first["config"], "smoothness": 3.2}
    assert spec["config"]["initial"] == "transform"
    assert spec["start_from"]["array"] == first["start_from"]["array"]
    registration.finish()
    start.SetAndObserveTransformFromParent(vtk.vtkThinPlateSplineTransform())
    letGo(registration, 5)
    registration.host.waitUntil(lambda: not registration.ui.repeatSlider.enabled, PATIENCE_S)
    assert "Warp has changed" in registration.ui.repeatSlider.toolTip


def test_nothing_starts_while_the_slider_is_dragged_or_returns_to_its_value(registration):
    finished(registration)
    host, ui = registration.host, registration.ui
    slider = ui.repeatSlider
    slider.setSliderDown(True)
    for position in (3, 9, 14):
        slider.setSliderPosition(position)
    assert ui.repeatValueLabel.text == "5"
    pause(host, 0.5)
    assert len(registration.worker.jobs) == jobs(registration)
    slider.setSliderPosition(0)
    slider.setSliderDown(False)
    pause(host, 0.5)
    assert not registration.run.active


def jobs(registration):
    """Jobs but for the question which devices there are."""
    assert [job for job, _spec in registration.worker.jobs if job == "register"] == ["register"]
    return len(registration.worker.jobs)


def test_several_steps_of_the_keyboard_are_one_run(registration):
    finished(registration)
    for position in (1, 2, 3, 4):
        registration.ui.repeatSlider.setValue(position)
    registration.host.waitUntil(lambda: registration.run.active, PATIENCE_S)
    registration.host.waitUntil(lambda: registration.run.state.value == "running", PATIENCE_S)
    assert registration.worker.jobs[-1][1]["config"]["smoothness"] == 1.6
    registration.finish()


def test_the_old_result_stays_until_the_new_one_is_complete(registration):
    import numpy as np
    import slicer.util

    _fixed, _moving, result = finished(registration)
    before = slicer.util.arrayFromVolume(result.warped).copy()
    names = registration.nodeNames()
    repeat(registration, 6)
    registration.worker.progress("refinement", 0.5)
    assert np.array_equal(slicer.util.arrayFromVolume(result.warped), before)
    assert registration.widget.results.result is result
    registration.worker.shiftMm = (2.0, 0.0, 0.0)
    registration.finish()
    assert not np.array_equal(slicer.util.arrayFromVolume(result.warped), before)
    assert registration.nodeNames() == names


@pytest.mark.parametrize("kind", ["checkerboard", "jacobian"])
def test_the_visual_check_that_is_on_shows_the_new_result(registration, kind):
    import numpy as np
    import slicer
    import slicer.util

    finished(registration)
    ui, host = registration.ui, registration.host
    host.click(getattr(ui, f"{kind}Button"))
    host.waitUntil(lambda: registration.widget.results.checks.current == kind, PATIENCE_S)
    host.click(ui.beforeButton)
    host.click(ui.afterButton)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    pause(host, 0.3)
    shown = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
    before = slicer.util.arrayFromVolume(shown).copy()
    repeat(registration, -4)
    assert registration.widget.results.checks.current == kind
    registration.worker.shiftMm = (2.0, 0.0, 0.0)
    registration.finish()
    pause(host, 0.3)
    assert getattr(ui, f"{kind}Button").checked
    assert ui.afterButton.checked
    shown = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
    same = np.array_equal(slicer.util.arrayFromVolume(shown), before)
    assert same == (kind == "jacobian")


def test_the_run_is_told_beside_the_slider_and_can_be_cancelled_there(registration):
    finished(registration)
    ui, host = registration.ui, registration.host
    assert not ui.repeatRow.visible
    letGo(registration, 12)
    host.waitUntil(lambda: registration.run.active, PATIENCE_S)
    assert ui.repeatRow.visible
    assert ui.registerButton.text == "Cancel"
    host.waitUntil(lambda: registration.run.state.value == "running", PATIENCE_S)
    registration.worker.progress("network", 0.25)
    assert ui.repeatStatusLabel.text == "Network..."
    assert (ui.repeatBar.value, ui.repeatBar.maximum) == (250, 1000)
    host.click(ui.repeatCancelButton)
    assert not ui.repeatCancelButton.enabled
    registration.worker.fail("cancelled")
    assert registration.run.state.value == "cancelled"
    assert not ui.repeatRow.visible
    assert ui.repeatSlider.value == 0
    assert ui.repeatValueLabel.text == "1"
    assert ui.repeatSlider.enabled
    assert not host.messages.ofKind("error")


def test_a_failure_is_told_and_the_slider_shows_the_result_that_stays(registration):
    finished(registration)
    repeat(registration, 12)
    registration.worker.fail("out-of-memory", "The memory does not suffice.", "Close other programs.")
    (message,) = registration.host.messages.ofKind("error")
    assert "memory does not suffice" in message.text
    assert registration.ui.repeatSlider.value == 0
    assert registration.ui.repeatSlider.enabled
    assert "Better aligned" in registration.ui.verdictLabel.text
    repeat(registration, 12)
    registration.finish()


def test_a_value_chosen_meanwhile_takes_the_place_of_the_one_that_is_computed(registration):
    finished(registration)
    repeat(registration, 12)
    letGo(registration, -8)
    registration.host.waitUntil(lambda: registration.worker.calls, PATIENCE_S)
    registration.worker.fail("cancelled")
    registration.host.waitUntil(lambda: registration.run.state.value == "running", PATIENCE_S)
    assert registration.worker.jobs[-1][1]["config"]["smoothness"] == 0.4
    registration.finish()
    assert registration.ui.repeatValueLabel.text == "0.4"


def test_the_slider_is_there_only_where_it_changes_something(registration, monkeypatch):
    from types import SimpleNamespace

    registration.load()
    assert not registration.ui.repeatSlider.visible
    registration.makePair()
    parameters = registration.widget.logic.getParameterNode()
    registration.host.waitUntil(lambda: parameters.fixedVolume is not None, PATIENCE_S)
    parameters.model, parameters.refinementSteps = "none", 0
    registration.register()
    registration.finish()
    assert not registration.ui.repeatSlider.visible
    card = SimpleNamespace(network=SimpleNamespace(conditional=True))
    monkeypatch.setattr("AutoFuseRegistrationLib.Repetition.catalog.find", lambda name: SimpleNamespace(card=card))
    from AutoFuseRegistrationLib.Repetition import hasEffect

    report = {"provenance": {"model": "c", "config": {"model": "c", "refinement_steps": 0}}}
    assert hasEffect(report)
    card.network.conditional = False
    assert not hasEffect(report)


@pytest.mark.parametrize("change", ["voxels", "segments", "parent", "removed"])
def test_a_change_of_what_the_result_came_from_disables_the_slider_with_the_reason(registration, change):
    import slicer
    import slicer.util

    fixed, moving = registration.makePair()
    segmentation = registration.addSegmentation(moving, ["Liver"], "Organs")
    registration.load()
    registration.widget.logic.getParameterNode().model = "none"
    registration.register()
    registration.finish()
    ui, host = registration.ui, registration.host
    assert ui.repeatSlider.enabled
    assert "Let go" in ui.repeatSlider.toolTip
    if change == "voxels":
        slicer.util.updateVolumeFromArray(fixed, slicer.util.arrayFromVolume(fixed) + 1)
    elif change == "segments":
        segmentation.GetSegmentation().GetNthSegment(0).SetName("Spleen")
    elif change == "parent":
        parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Table")
        parent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turned()))
        moving.SetAndObserveTransformNodeID(parent.GetID())
    else:
        slicer.mrmlScene.RemoveNode(moving)
    count = len(registration.worker.jobs)
    if change != "removed":
        letGo(registration, 5)
    host.waitUntil(lambda: not ui.repeatSlider.enabled, PATIENCE_S)
    assert len(registration.worker.jobs) == count
    assert ui.repeatSlider.value == 0
    name = {"segments": "Organs", "removed": "CT day 8", "parent": "CT day 8"}.get(change, "CT day 1")
    assert name in ui.repeatSlider.toolTip
    assert change == "removed" or name in ui.statusLabel.text
    assert ui.repeatSlider.toolTip == ui.repeatLabel.toolTip
    assert not host.messages.ofKind("error")


def turned():
    import numpy as np

    return np.array([[0, -1, 0, 4], [1, 0, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1]], float)


def test_the_look_of_the_inputs_does_not_count_as_a_change(registration):
    fixed, _moving, _result = finished(registration)
    fixed.GetDisplayNode().SetWindowLevel(100.0, 50.0)
    fixed.SetName("Renamed")
    registration.host.click(registration.ui.flickerButton)
    repeat(registration, 3)
    registration.finish()


def test_a_moving_volume_under_the_result_stays_there(registration):
    _fixed, moving, result = finished(registration, applyToMoving=True)
    first = registration.worker.jobs[0][1]
    spec = repeat(registration, 3)
    assert spec["moving"]["ras_from_ijk"] == first["moving"]["ras_from_ijk"]
    registration.finish()
    assert moving.GetParentTransformNode() is result.transform


def test_an_output_that_was_deleted_is_not_made_again(registration):
    import slicer

    _fixed, _moving, result = finished(registration)
    slicer.mrmlScene.RemoveNode(result.jacobian)
    names = registration.nodeNames()
    repeat(registration, 3)
    registration.finish()
    assert registration.nodeNames() == names
    assert registration.run.result.jacobian is None
    registration.host.waitUntil(lambda: not registration.ui.jacobianButton.enabled, PATIENCE_S)


def test_the_slider_waits_while_another_registration_runs(registration):
    finished(registration)
    registration.register()
    assert not registration.ui.repeatSlider.enabled
    assert "A registration runs" in registration.ui.repeatSlider.toolTip
    registration.host.click(registration.ui.registerButton)
    registration.worker.fail("cancelled")
    assert registration.ui.repeatSlider.enabled


def test_a_result_of_a_loaded_scene_says_why_it_cannot_be_computed_anew(registration, tmp_path):
    import slicer.util

    finished(registration, smoothness=2.5)
    path = tmp_path / "scène.mrml"
    assert slicer.util.saveScene(str(path))
    registration.host.closeScene()
    assert not registration.ui.repeatSlider.visible
    slicer.util.loadScene(str(path))
    registration.host.app.processEvents()
    assert registration.ui.repeatSlider.visible
    assert registration.ui.repeatValueLabel.text == "2.5"
    assert not registration.ui.repeatSlider.enabled
    assert "earlier session" in registration.ui.repeatSlider.toolTip


@pytest.mark.parametrize("moment", ["waiting", "running"])
def test_closing_the_scene_ends_it_without_a_word(registration, moment):
    finished(registration)
    if moment == "waiting":
        letGo(registration, 5)
    else:
        repeat(registration, 5)
    count = len(registration.worker.jobs)
    registration.host.closeScene()
    pause(registration.host, 0.5)
    assert len(registration.worker.jobs) == count
    assert registration.run is None
    assert not registration.ui.repeatSlider.visible
    assert not registration.host.messages.ofKind("error")
    assert registration.ui.registerButton.text == "Register"


def test_scripts_are_told_why_a_result_cannot_be_repeated(registration):
    from autofuse_engine.errors import InputError

    _fixed, _moving, result = finished(registration)
    registration.widget.logic.forget()
    with pytest.raises(InputError) as caught:
        registration.widget.logic.repeat(result, 2.0, lambda run: None)
    assert caught.value.code == "repeat-impossible"
