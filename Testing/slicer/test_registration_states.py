"""The registration panel from the click to the result, and every way in which a run can end."""

from __future__ import annotations

import sys

import pytest


def test_two_loaded_volumes_suffice_for_register(registration):
    fixed, moving = registration.makePair()
    registration.load()
    parameters = registration.widget.logic.getParameterNode()
    assert parameters.fixedVolume is fixed
    assert parameters.movingVolume is moving
    assert registration.ui.registerButton.enabled
    assert registration.ui.registerButton.text == "Register"


def test_volumes_that_are_loaded_later_are_chosen_too(registration):
    registration.load()
    assert registration.ui.registerButton.toolTip.startswith("Choose the fixed volume")
    _fixed, moving = registration.makePair()
    registration.host.waitUntil(lambda: registration.ui.registerButton.enabled)
    assert registration.ui.movingVolumeSelector.currentNode() is moving


def test_no_signal_is_misspelt(registration, capfd):
    registration.load()
    assert "No such" not in capfd.readouterr().err
    assert not registration.host.qtWarnings


def test_a_run_shows_its_stages_and_ends_with_nodes(registration):
    fixed, moving = registration.makePair()
    registration.load()
    ui, host = registration.ui, registration.host
    ui.registerButton.click()
    assert ui.registerButton.text == "Cancel"
    assert ui.statusLabel.text == "Preparing the images..."
    assert not ui.fixedVolumeSelector.enabled
    host.waitUntil(lambda: registration.worker.jobs)
    assert "Starting the worker" in ui.statusLabel.text
    registration.worker.progress("initial alignment", 0.1)
    assert ui.statusLabel.text == "Initial alignment..."
    assert ui.progressBar.visible
    assert (ui.progressBar.value, ui.progressBar.maximum) == (100, 1000)
    registration.finish()
    assert ui.registerButton.text == "Register"
    assert ui.fixedVolumeSelector.enabled
    assert not ui.progressBar.visible
    assert ui.statusLabel.text.startswith("Done in")
    result = registration.run.result
    assert result.transform.GetClassName() == "vtkMRMLGridTransformNode"
    assert result.transform.GetName() == "Transform CT day 8 to CT day 1"
    assert result.warped.GetName() == "CT day 8 warped to CT day 1"
    assert (result.fixed, result.moving) == (fixed, moving)
    assert "Better aligned" in ui.verdictLabel.text
    assert not ui.resultsCollapsibleButton.collapsed
    assert ui.resultSelector.currentNode() is result.transform
    host.waitUntil(lambda: ui.blendButton.checked)


def test_the_job_says_what_the_panel_says(registration):
    from AutoFuseRegistrationLib.ParameterNode import InitialAlignment

    registration.makePair()
    registration.load()
    host, ui = registration.host, registration.ui
    ui.advancedCollapsibleButton.collapsed = False
    host.choose(ui.initialAlignmentBox, InitialAlignment.RIGID.label())
    host.choose(ui.similarityBox, "MIND: different modalities")
    host.type(ui.refinementStepsBox, "12")
    host.type(ui.smoothnessSlider, "2.5")
    host.type(ui.spacingBox, "1.5")
    host.choose(ui.deviceBox, "CPU")
    host.type(ui.seedBox, "17")
    registration.register()
    job, spec = registration.worker.jobs[-1]
    assert job == "register"
    config = spec["config"]
    wanted = {"initial": "rigid", "similarity": "mind", "refinement_steps": 12, "smoothness": 2.5, "spacing_mm": 1.5,
              "device": "cpu", "seed": 17, "model": "auto", "samples": 0}  # fmt: skip
    assert {name: config[name] for name in wanted} == wanted
    assert spec["fixed"]["name"] == "CT day 1"
    registration.finish()


def test_automatic_choices_are_left_to_the_engine(registration):
    registration.makePair()
    registration.load()
    registration.register()
    config = registration.worker.jobs[-1][1]["config"]
    assert (config["refinement_steps"], config["spacing_mm"], config["device"]) == (None, None, "auto")
    registration.finish()


@pytest.mark.parametrize("moment", ["starting", "running", "importing"])
def test_cancel_leaves_the_scene_as_it_was(registration, moment):
    registration.makePair()
    registration.load()
    host, ui = registration.host, registration.ui
    before = registration.nodeNames()
    if moment == "starting":
        ui.registerButton.click()
        assert registration.run.state.value == "starting"
        ui.registerButton.click()
    else:
        registration.register()
        if moment == "running":
            registration.worker.progress("refinement", 0.4)
            host.click(ui.registerButton)
            assert ui.registerButton.text == "Cancelling..."
            assert not ui.registerButton.enabled
            assert registration.worker.calls == [("cancel", 1)]
            registration.worker.fail("cancelled")
        else:
            registration.worker.succeed()
            assert registration.run.state.value == "importing"
            ui.registerButton.click()
    host.waitUntil(lambda: not registration.run.active)
    assert registration.run.state.value == "cancelled"
    assert ui.statusLabel.text == "Cancelled. The scene is as it was before."
    assert registration.nodeNames() == before
    assert ui.registerButton.enabled
    assert not registration.host.messages.ofKind("error")


def test_the_job_folder_is_gone_after_every_end(registration):
    from pathlib import Path

    registration.makePair()
    registration.load()
    for ending in ("succeed", "fail", "cancel"):
        registration.register()
        folder = Path(registration.worker.jobs[-1][1]["folder"])
        assert (folder / "fixed.npy").is_file()
        if ending == "succeed":
            registration.finish()
        else:
            registration.worker.fail("cancelled" if ending == "cancel" else "no-overlap")
        assert not folder.exists()


def test_a_result_that_comes_in_spite_of_cancel_is_dropped(registration):
    registration.makePair()
    registration.load()
    before = registration.nodeNames()
    registration.register()
    registration.host.click(registration.ui.registerButton)
    registration.worker.succeed()
    registration.host.app.processEvents()
    assert registration.run.state.value == "cancelled"
    assert registration.nodeNames() == before


def test_an_error_is_one_sentence_with_a_cure_and_the_next_run_works(registration):
    registration.makePair()
    registration.load()
    registration.register()
    registration.worker.fail("no-overlap", "The images do not overlap.", "Try another initial alignment.")
    ui = registration.ui
    assert "The images do not overlap." in ui.statusLabel.text
    assert "Try another initial alignment." in ui.statusLabel.text
    (message,) = registration.host.messages.ofKind("error")
    assert message.text == "The images do not overlap.\n\nTry another initial alignment."
    assert ui.registerButton.text == "Register"
    registration.register()
    registration.finish()


def test_the_result_so_far_is_offered_during_the_refinement_only(registration):
    registration.makePair()
    registration.load()
    ui = registration.ui
    registration.register()
    registration.worker.progress("initial alignment", 0.1)
    assert not ui.finishButton.visible
    registration.worker.progress("refinement", 0.5)
    registration.host.click(ui.finishButton)
    assert registration.worker.calls == [("finish", 1)]
    registration.worker.progress("outputs", 0.95)
    assert not ui.finishButton.visible
    registration.finish()


def test_remaining_time_appears_when_it_can_be_told(registration, monkeypatch):
    registration.makePair()
    registration.load()
    registration.register()
    registration.worker.progress("refinement", 0.25)
    assert "left" not in registration.ui.statusLabel.text
    monkeypatch.setattr(registration.run, "_started", registration.run._started - 10.0)
    registration.worker.progress("refinement", 0.25)
    assert "About 30 s left." in registration.ui.statusLabel.text
    registration.finish()


@pytest.mark.parametrize("moment", ["starting", "running", "importing"])
def test_closing_the_scene_ends_a_run_without_a_word(registration, moment):
    registration.makePair()
    registration.load()
    host = registration.host
    if moment == "starting":
        registration.ui.registerButton.click()
    else:
        registration.register()
        if moment == "importing":
            registration.worker.succeed()
    host.closeScene()
    assert registration.run is None
    assert not registration.host.messages.ofKind("error")
    assert registration.ui.registerButton.text == "Register"
    registration.worker.succeed()
    host.app.processEvents()
    registration.makePair()
    host.waitUntil(lambda: registration.ui.registerButton.enabled)
    registration.register()
    registration.finish()


def test_reloading_the_module_while_it_runs_is_safe(registration, monkeypatch):
    for name, code in list(sys.modules.items()):
        if name.startswith("AutoFuse"):
            monkeypatch.setitem(sys.modules, name, code)  # later tests shall find the code that they know
    registration.makePair()
    registration.load()
    registration.register()
    registration.widget.onReload()
    registration.host.app.processEvents()
    registration.module = registration.module.__class__(registration.module.module, registration.module.parent.self())
    assert registration.worker.calls == [("cancel", 1)]
    registration.register()
    registration.finish()


def test_leaving_the_application_while_a_run_is_active_is_safe(registration):
    registration.makePair()
    registration.load()
    registration.register()
    registration.host.exitApplication()
    assert ("cancel", 1) in registration.worker.calls


def test_a_run_goes_on_while_the_user_works_elsewhere(registration, load_module, sample):
    registration.makePair()
    registration.load()
    registration.register()
    load_module(sample)
    registration.finish()
    assert registration.run.result.transform.GetScene() is not None


def test_an_input_that_is_deleted_during_the_run_is_named(registration):
    import slicer

    fixed, _moving = registration.makePair()
    registration.load()
    registration.register()
    slicer.mrmlScene.RemoveNode(fixed)
    before = registration.nodeNames()
    registration.worker.succeed()
    registration.host.waitUntil(lambda: not registration.run.active)
    assert registration.run.error.code == "input-removed"
    assert "fixed volume was removed" in registration.ui.statusLabel.text
    assert registration.nodeNames() == before


def test_warnings_of_the_engine_stay_visible_after_the_run(registration):
    from autofuse_engine.events import Warning

    registration.makePair()
    registration.load()
    registration.register()
    registration.worker._callbacks[1][0](Warning(code="less-memory", text="The run goes on with a coarser grid."))
    registration.finish()
    assert "coarser grid" in registration.ui.statusLabel.text
