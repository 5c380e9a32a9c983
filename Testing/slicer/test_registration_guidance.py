"""Guidance of the registration panel: offered where segments can guide a model or the refinement, sent with names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

CLASSES = [{"value": 0, "name": "background"}, {"value": 1, "name": "Liver"}, {"value": 2, "name": "Left_Kidney"}]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A catalog with a model that can be guided, one that does not segment, and one that is not refined."""
    from autofuse_engine.configs import NetworkConfig
    from autofuse_engine.model_card import ModelCard, WeightsFile, card_text

    folder = tmp_path / "Modelle für Tests"
    folder.mkdir()
    weights = b"nobody reads these weights"
    identity = WeightsFile(sha256=hashlib.sha256(weights).hexdigest(), size_bytes=len(weights))
    for name, classes, steps in (("semi", 3, None), ("plain", 0, None), ("unrefined", 0, 0)):
        network = NetworkConfig(channels=2, classes=classes)
        training = {"classes": CLASSES} if classes else {}
        card = ModelCard(name=name, network=network, training=training, weights=identity, refinement_steps=steps)
        (folder / f"{name}.safetensors").write_bytes(weights)
        (folder / f"{name}.json").write_text(card_text(card), encoding="utf-8")
    monkeypatch.setenv("AUTOFUSE_MODELS", str(folder))
    return folder


@pytest.fixture
def panel(registration, models):
    """The panel with segmentations of both volumes, the model that can be guided, and guidance switched on."""
    fixed, moving = registration.makePair()
    registration.addSegmentation(fixed, ["LIVER ", "Spine"], "Fixed organs")
    registration.addSegmentation(moving, ["left kidney", "Liver"], "Moving organs")
    registration.load()
    registration.parameters = registration.widget.logic.getParameterNode()
    registration.parameters.model = "semi"
    registration.parameters.guideBySegmentations = True
    registration.host.app.processEvents()
    return registration


def sent(panel) -> dict:
    panel.register()
    spec = dict(panel.worker.jobs[-1][1])
    panel.finish()
    return spec


def rename(node, names):
    segmentation = node.GetSegmentation()
    for index, name in enumerate(names):
        segmentation.GetNthSegment(index).SetName(name)


def enter(panel):
    """Come back from another module, in which segments were edited."""
    panel.widget.exit()
    panel.widget.enter()
    panel.parameters = panel.widget.logic.getParameterNode()


def test_guidance_is_off_until_somebody_switches_it_on_and_the_scene_remembers_it(registration, models):
    fixed, moving = registration.makePair()
    registration.addSegmentation(fixed, ["Liver"], "Fixed organs")
    registration.addSegmentation(moving, ["Liver"], "Moving organs")
    registration.load()
    box, parameters = registration.ui.guideCheckBox, registration.widget.logic.getParameterNode()
    assert box.visible
    assert box.enabled
    assert not box.checked
    assert parameters.guideBySegmentations is False
    assert "off until you switch it on" in box.toolTip
    assert "guide" not in sent(registration)
    registration.host.click(box)
    assert parameters.guideBySegmentations is True
    assert sent(registration)["guide"] is True
    parameters.guideBySegmentations = False
    assert not box.checked


def test_a_model_that_can_be_guided_names_the_segments_that_it_takes(panel):
    box = panel.ui.guideCheckBox
    assert box.visible
    assert box.enabled
    assert box.checked
    assert "by the model, and by the refinement: Liver of both volumes, Left_Kidney of the moving" in box.toolTip
    assert "no independent judge" in box.toolTip
    assert "Spine" not in box.toolTip


def test_the_job_has_the_name_of_every_label_of_both_that_of_the_fixed_segment(panel):
    import numpy as np

    panel.register()
    spec = panel.worker.jobs[-1][1]
    assert spec["guide"] is True
    assert spec["label_names"] == {"1": "LIVER", "2": "Spine", "3": "left kidney"}
    folder = Path(spec["folder"])
    for side, values in (("fixed", {0, 1, 2}), ("moving", {0, 1, 3})):
        assert set(np.unique(np.load(folder / spec[f"{side}_labels"]["array"]))) == values
    panel.finish()


@pytest.mark.parametrize("model", ["plain", "none", "auto", "gone"])
def test_with_any_other_model_segments_of_equal_name_guide_the_refinement(panel, model):
    panel.parameters.model = model
    box = panel.ui.guideCheckBox
    assert box.visible
    assert box.enabled
    assert "The refinement makes these segments lie on each other: LIVER." in box.toolTip
    assert "no independent judge" in box.toolTip
    assert "model" not in box.toolTip
    if model != "gone":
        spec = sent(panel)
        assert spec["guide"] is True
        assert spec["label_names"]["1"] == "LIVER"
        assert spec["config"]["model"] == model


def test_segments_without_the_name_of_a_class_guide_the_refinement_of_a_model_that_could_be_guided(panel):
    rename(panel.parameters.fixedSegmentation, ["Femur", "Spine"])
    rename(panel.parameters.movingSegmentation, ["Skull", "  spine"])
    enter(panel)
    assert "The refinement makes these segments lie on each other: Spine." in panel.ui.guideCheckBox.toolTip
    assert sent(panel)["guide"] is True


def test_names_that_differ_by_more_than_case_and_spaces_do_not_match_as_the_export_does_not_match_them(panel):
    panel.parameters.model = "none"
    rename(panel.parameters.fixedSegmentation, ["left_kidney", "Spine"])
    enter(panel)
    box = panel.ui.guideCheckBox
    assert box.visible
    assert not box.enabled
    assert "No segment of Moving organs has the name of one of Fixed organs" in box.toolTip
    spec = sent(panel)
    assert "guide" not in spec
    assert "label_names" not in spec


def test_a_name_that_stands_twice_is_said(panel):
    panel.parameters.model = "none"
    rename(panel.parameters.fixedSegmentation, ["Liver", "liver"])
    enter(panel)
    assert not panel.ui.guideCheckBox.enabled
    assert "has 2 segments called Liver. Rename them" in panel.ui.guideCheckBox.toolTip


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_one_segmentation_alone_guides_a_model_and_no_refinement(panel, side):
    other = {"fixed": "moving", "moving": "fixed"}[side]
    setattr(panel.parameters, f"{other}Segmentation", None)
    box = panel.ui.guideCheckBox
    assert f"Liver of the {side} volume" in box.toolTip
    spec = sent(panel)
    assert spec["guide"] is True
    assert f"{other}_labels" not in spec
    panel.parameters.model = "none"
    assert box.visible
    assert not box.enabled
    assert f"Choose the {other} segmentation too." in box.toolTip
    assert "guide" not in sent(panel)


def test_without_any_segmentation_the_box_is_hidden(panel):
    panel.parameters.fixedSegmentation = None
    assert panel.ui.guideCheckBox.visible
    panel.parameters.movingSegmentation = None
    assert not panel.ui.guideCheckBox.visible
    assert "guide" not in sent(panel)


def test_without_a_match_the_box_says_which_names_the_model_knows(panel):
    rename(panel.parameters.fixedSegmentation, ["Lever", "Spine"])
    panel.parameters.movingSegmentation = None
    box = panel.ui.guideCheckBox
    assert not box.enabled
    assert "Choose the moving segmentation too." in box.toolTip
    assert "like what the model segments: Liver, Left_Kidney." in box.toolTip
    assert "guide" not in sent(panel)


def test_without_refinement_only_a_model_can_be_guided(panel):
    panel.parameters.refinementSteps = 0
    box = panel.ui.guideCheckBox
    assert box.enabled
    assert "by the model: Liver of both volumes" in box.toolTip
    assert sent(panel)["guide"] is True
    panel.parameters.model = "plain"
    assert not box.enabled
    assert "could make these segments lie on each other: LIVER." in box.toolTip
    assert "set the refinement steps, under Advanced, above 0" in box.toolTip
    assert "guide" not in sent(panel)
    panel.parameters.refinementSteps = 5
    assert box.enabled


def test_a_model_whose_card_asks_for_no_refinement_needs_steps_of_the_user(panel):
    panel.parameters.model = "unrefined"
    box = panel.ui.guideCheckBox
    assert not box.enabled
    assert "above 0" in box.toolTip
    panel.parameters.refinementSteps = 5
    assert box.enabled


def test_the_automatic_choice_names_the_model_that_it_probably_comes_to(panel, monkeypatch):
    from autofuse_engine import model_fit

    choice = model_fit.Choice(model="semi", reason="it fits")
    monkeypatch.setattr(model_fit, "choose", lambda *arguments, **options: choice)
    panel.parameters.model = "auto"
    text = panel.ui.guideCheckBox.toolTip
    assert "by the model, and by the refinement: Liver of both volumes" in text
    assert "probably semi" in text


def test_of_many_segments_the_first_are_named_and_the_others_counted(panel):
    panel.parameters.model = "none"
    for node in (panel.parameters.fixedSegmentation, panel.parameters.movingSegmentation):
        node.GetSegmentation().RemoveAllSegments()
        for number in range(148):
            node.GetSegmentation().AddEmptySegment("", f"Region {number}")
    enter(panel)
    assert "each other: Region 0, Region 1, Region 2 and 145 more." in panel.ui.guideCheckBox.toolTip
