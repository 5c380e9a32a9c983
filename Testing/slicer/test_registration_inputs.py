"""What the registration panel offers and refuses before Register can be pressed."""

from __future__ import annotations

import json

import pytest


def tip(registration):
    """Why Register cannot be pressed; empty if it can."""
    button = registration.ui.registerButton
    return "" if button.enabled else button.toolTip


def test_each_missing_volume_is_asked_for(registration):
    import slicer

    registration.load()
    parameters = registration.widget.logic.getParameterNode()
    assert tip(registration) == "Choose the fixed volume: the one that stays where it is."
    fixed, moving = registration.makePair()
    parameters.fixedVolume, parameters.movingVolume = fixed, None
    assert tip(registration) == "Choose the moving volume: the one that is warped onto the fixed volume."
    parameters.movingVolume = fixed
    assert tip(registration) == "Fixed and moving volume are the same: choose two different ones."
    parameters.movingVolume = moving
    assert tip(registration) == ""
    assert slicer.mrmlScene.GetFirstNodeByName("CT day 8") is moving


def test_volumes_that_cannot_be_registered_are_refused_in_words(registration):
    import numpy as np
    import slicer.util

    fixed, _moving = registration.makePair()
    registration.load()
    parameters = registration.widget.logic.getParameterNode()
    parameters.fixedVolume = fixed
    flat = slicer.util.addVolumeFromArray(np.zeros((1, 30, 40), np.int16), name="Slice")
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    for node, words in ((flat, "Slice"), (empty, "Empty")):
        parameters.movingVolume = node
        assert words in tip(registration)
        assert len(tip(registration)) > 30


def test_swap_exchanges_all_that_belongs_to_the_volumes(registration):
    fixed, moving = registration.makePair()
    ofFixed = registration.addSegmentation(fixed, ["Liver"], "Fixed organs")
    registration.load()
    parameters = registration.widget.logic.getParameterNode()
    assert parameters.fixedSegmentation is ofFixed
    registration.host.click(registration.ui.swapButton)
    assert (parameters.fixedVolume, parameters.movingVolume) == (moving, fixed)
    assert (parameters.fixedSegmentation, parameters.movingSegmentation) == (None, ofFixed)


def test_segments_are_matched_by_name_and_keep_their_names(registration):
    import numpy as np

    fixed, moving = registration.makePair()
    registration.addSegmentation(fixed, ["Liver", "Tumor"], "Fixed organs")
    registration.addSegmentation(moving, ["tumor ", "Spleen", "LIVER"], "Moving organs")
    registration.load()
    registration.register()
    from pathlib import Path

    spec = registration.worker.jobs[-1][1]
    folder = Path(spec["folder"])
    ofFixed = np.load(folder / spec["fixed_labels"]["array"])
    ofMoving = np.load(folder / spec["moving_labels"]["array"])
    assert set(np.unique(ofFixed)) == {0, 1, 2}
    assert set(np.unique(ofMoving)) == {0, 1, 2, 3}
    figures = {"dice": {"1": 0.5, "2": 0.25}, "dice_mean": 0.375, "ncc": 0.5}
    registration.finish(metrics={"before": figures, "initial": figures, "after": figures})
    result = registration.run.result
    segmentation = result.warpedSegmentation.GetSegmentation()
    names = [segmentation.GetSegment(name).GetName() for name in segmentation.GetSegmentIDs()]
    assert sorted(names) == ["LIVER", "Spleen", "tumor "]
    assert result.segmentNames == {1: "Liver", 2: "Tumor"}
    assert "Dice, Tumor" in registration.ui.figuresLabel.text


def test_segmentations_without_a_common_name_are_warned_of(registration):
    fixed, moving = registration.makePair()
    registration.addSegmentation(fixed, ["Liver"], "Fixed organs")
    registration.addSegmentation(moving, ["Spleen"], "Moving organs")
    registration.load()
    registration.register()
    registration.finish()
    assert "No segment of Moving organs has the name of one of Fixed organs" in registration.ui.statusLabel.text


def test_a_mask_is_a_labelmap_or_a_segment(registration):
    from pathlib import Path

    import numpy as np
    import slicer.util

    fixed, moving = registration.makePair()
    labelmap = slicer.util.addVolumeFromArray(
        (slicer.util.arrayFromVolume(fixed) > 500).astype(np.uint8),
        name="Bone",
        nodeClassName="vtkMRMLLabelMapVolumeNode",
    )
    labelmap.CopyOrientation(fixed)
    organs = registration.addSegmentation(moving, ["Liver", "Spleen"], "Organs")
    registration.load()
    ui, parameters = registration.ui, registration.widget.logic.getParameterNode()
    ui.advancedCollapsibleButton.collapsed = False
    registration.host.app.processEvents()
    assert not ui.movingMaskSegmentBox.visible
    registration.host.choose(ui.fixedMaskSelector, "Bone")
    registration.host.choose(ui.movingMaskSelector, "Organs")
    assert ui.movingMaskSegmentBox.visible
    assert tip(registration) == "Choose the segment that is the moving mask."
    registration.host.choose(ui.movingMaskSegmentBox, "Spleen")
    assert tip(registration) == ""
    assert parameters.movingMaskSegmentId == organs.GetSegmentation().GetSegmentIdBySegmentName("Spleen")
    registration.register()
    spec = registration.worker.jobs[-1][1]
    folder = Path(spec["folder"])
    assert np.array_equal(np.load(folder / spec["fixed_mask"]["array"]), slicer.util.arrayFromVolume(labelmap))
    spleen = np.zeros((10, 12, 14), np.uint8)
    spleen[3:7, 3:9, 4:10] = 1
    assert np.array_equal(np.load(folder / spec["moving_mask"]["array"]), spleen)
    registration.finish()


def test_an_empty_mask_is_named(registration):
    import numpy as np
    import slicer.util

    fixed, _moving = registration.makePair()
    nothing = np.zeros((10, 12, 14), np.uint8)
    mask = slicer.util.addVolumeFromArray(nothing, name="Nothing", nodeClassName="vtkMRMLLabelMapVolumeNode")
    mask.CopyOrientation(fixed)
    registration.load()
    registration.widget.logic.getParameterNode().fixedMask = mask
    registration.host.click(registration.ui.registerButton)
    registration.host.waitUntil(lambda: not registration.run.active)
    assert registration.run.error.code == "mask-empty"
    assert "Nothing" in registration.ui.statusLabel.text


def test_choices_survive_saving_and_loading_the_scene(registration, tmp_path):
    import slicer
    import slicer.util
    from AutoFuseRegistrationLib.ParameterNode import InitialAlignment, Similarity

    registration.makePair()
    registration.load()
    parameters = registration.widget.logic.getParameterNode()
    parameters.similarity, parameters.initialAlignment = Similarity.MIND, InitialAlignment.MOMENTS
    parameters.refinementSteps, parameters.smoothness, parameters.spacingMm = 33, 2.5, 1.75
    parameters.device, parameters.seed, parameters.wantJacobian = "cuda:1", 5, False
    path = tmp_path / "Szene mit Umlaut ä.mrml"
    assert slicer.util.saveScene(str(path))
    registration.host.closeScene()
    fresh = registration.widget.logic.getParameterNode()
    assert fresh.similarity is Similarity.LOCAL_NCC
    slicer.util.loadScene(str(path))
    registration.host.app.processEvents()
    loaded = registration.widget.logic.getParameterNode()
    assert (loaded.similarity, loaded.initialAlignment) == (Similarity.MIND, InitialAlignment.MOMENTS)
    assert (loaded.refinementSteps, loaded.smoothness, loaded.spacingMm) == (33, 2.5, 1.75)
    assert (loaded.device, loaded.seed, loaded.wantJacobian) == ("cuda:1", 5, False)
    assert registration.ui.deviceBox.currentData == "cuda:1"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder of the user's models with one good, one damaged."""
    import hashlib

    from autofuse_engine.configs import NetworkConfig
    from autofuse_engine.model_card import IntendedUse, ModelCard, WeightsFile, card_text

    monkeypatch.setenv("AUTOFUSE_MODELS", str(tmp_path))
    weights = b"weights"
    (tmp_path / "brain-t1.safetensors").write_bytes(weights)
    card = ModelCard(
        name="brain-t1",
        title="Brain T1",
        network=NetworkConfig(channels=4),
        licence="CC BY-SA 4.0",
        not_for=("clinical use", "children"),
        intended_use=IntendedUse(modality="MR T1", body_part="brain", spacing_mm=2.0),
        weights=WeightsFile(sha256=hashlib.sha256(weights).hexdigest(), size_bytes=len(weights)),
    )
    (tmp_path / "brain-t1.json").write_text(card_text(card), encoding="utf-8")
    (tmp_path / "broken.json").write_text(json.dumps({"schema": 1}), encoding="utf-8")
    return tmp_path


def test_a_model_is_offered_with_what_it_is_for(registration, models):
    registration.makePair()
    registration.load()
    ui = registration.ui
    assert not ui.samplesBox.visible
    registration.host.choose(ui.modelBox, "Brain T1")
    for words in ("brain", "MR T1", "2 mm", "Not for: clinical use; children", "CC BY-SA 4.0"):
        assert words in ui.modelInfoLabel.text
    ui.advancedCollapsibleButton.collapsed = False
    registration.host.app.processEvents()
    assert ui.samplesBox.visible
    registration.host.type(ui.samplesBox, "8")
    registration.register()
    config = registration.worker.jobs[-1][1]["config"]
    assert (config["model"], config["samples"]) == ("brain-t1", 8)
    registration.finish()


@pytest.mark.parametrize(
    ("cardSteps", "conditional", "steps", "counts"),
    [(None, False, -1, True), (0, False, -1, False), (0, False, 4, True), (0, True, -1, True), (None, False, 0, False)],
)
def test_the_smoothness_can_be_set_where_it_changes_something(
    registration, models, cardSteps, conditional, steps, counts
):
    path = models / "brain-t1.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["refinement_steps"] = cardSteps
    content["network"]["conditional"] = content["network"]["varying_regularity"] = conditional
    path.write_text(json.dumps(content), encoding="utf-8")
    registration.makePair()
    registration.load()
    ui = registration.ui
    ui.advancedCollapsibleButton.collapsed = False
    registration.host.choose(ui.modelBox, "Brain T1")
    registration.widget.logic.getParameterNode().refinementSteps = steps
    registration.host.app.processEvents()
    assert ui.smoothnessSlider.enabled is counts
    assert ui.smoothnessLabel.enabled is counts


def test_a_damaged_and_an_absent_model_are_refused_in_words(registration, models):
    registration.makePair()
    registration.load()
    registration.host.choose(registration.ui.modelBox, "broken (cannot be used)")
    assert "broken" in tip(registration)
    registration.widget.logic.getParameterNode().model = "heart"
    assert "There is no model named 'heart'" in tip(registration)
    assert "not on this computer" in registration.ui.modelInfoLabel.text


def test_devices_are_found_on_request(registration):
    registration.makePair()
    registration.load()
    ui = registration.ui
    ui.advancedCollapsibleButton.collapsed = False
    registration.host.app.processEvents()
    assert [ui.deviceBox.itemText(line) for line in range(ui.deviceBox.count)] == ["Automatic", "CPU"]
    registration.host.click(ui.deviceButton)
    registration.host.waitUntil(lambda: ui.deviceButton.enabled)
    assert ui.deviceBox.itemText(1) == "CPU, 8.6 GB free"


def test_missing_packages_are_asked_for_and_a_no_is_one_sentence(registration, monkeypatch):
    from autofuse_engine.errors import AutoFuseError

    registration.makePair()
    registration.load()
    asked = []

    def declined():
        asked.append(True)
        raise AutoFuseError("dependencies-declined", "Nothing was installed.", "Press Register again.")

    monkeypatch.setattr("AutoFuseLib.Dependencies.missing", lambda: ["torch"])
    monkeypatch.setattr("AutoFuseLib.Dependencies.ensure", declined)
    registration.host.click(registration.ui.registerButton)
    assert asked == [True]
    assert "Nothing was installed." in registration.ui.statusLabel.text
    assert registration.run is None
    monkeypatch.setattr("AutoFuseLib.Dependencies.ensure", lambda: asked.append(True))
    registration.register()
    registration.finish()
    assert len(asked) == 2


def test_every_widget_that_acts_has_a_tooltip(registration):
    import qt
    import slicer

    registration.load()
    kinds = (qt.QPushButton, qt.QToolButton, qt.QComboBox, qt.QSpinBox, qt.QDoubleSpinBox, qt.QCheckBox,
             slicer.qMRMLNodeComboBox)  # fmt: skip
    without = [
        name for name, widget in vars(registration.ui).items() if isinstance(widget, kinds) and not widget.toolTip
    ]
    assert not without
