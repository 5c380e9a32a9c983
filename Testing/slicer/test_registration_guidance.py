"""Guidance of the registration panel: offered where a model can be guided, sent with the names of the segments."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

CLASSES = [{"value": 0, "name": "background"}, {"value": 1, "name": "Liver"}, {"value": 2, "name": "Left_Kidney"}]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A catalog with a model that can be guided and one that cannot."""
    from autofuse_engine.configs import NetworkConfig
    from autofuse_engine.model_card import ModelCard, WeightsFile, card_text

    folder = tmp_path / "Modelle für Tests"
    folder.mkdir()
    weights = b"nobody reads these weights"
    identity = WeightsFile(sha256=hashlib.sha256(weights).hexdigest(), size_bytes=len(weights))
    for name, classes in (("semi", 3), ("plain", 0)):
        network = NetworkConfig(channels=2, classes=classes)
        training = {"classes": CLASSES} if classes else {}
        card = ModelCard(name=name, network=network, training=training, weights=identity)
        (folder / f"{name}.safetensors").write_bytes(weights)
        (folder / f"{name}.json").write_text(card_text(card), encoding="utf-8")
    monkeypatch.setenv("AUTOFUSE_MODELS", str(folder))
    return folder


@pytest.fixture
def panel(registration, models):
    """The panel with segmentations of both volumes, and the model that can be guided."""
    fixed, moving = registration.makePair()
    registration.addSegmentation(fixed, ["LIVER ", "Spine"], "Fixed organs")
    registration.addSegmentation(moving, ["left kidney", "Liver"], "Moving organs")
    registration.load()
    registration.widget.logic.getParameterNode().model = "semi"
    registration.host.app.processEvents()
    return registration


def sent(panel) -> dict:
    panel.register()
    return dict(panel.worker.jobs[-1][1])


def test_guidance_is_on_and_names_the_segments_that_it_uses(panel):
    box = panel.ui.guideCheckBox
    assert box.visible
    assert box.enabled
    assert box.checked
    assert "Liver of both volumes, Left_Kidney of the moving volume" in box.toolTip
    assert "Spine" not in box.toolTip


def test_the_job_has_the_name_of_every_label(panel):
    import numpy as np

    spec = sent(panel)
    assert spec["guide"] is True
    assert spec["label_names"] == {"1": "Liver", "2": "Spine", "3": "left kidney"}
    folder = Path(spec["folder"])
    for side, values in (("fixed", {0, 1, 2}), ("moving", {0, 1, 3})):
        assert set(np.unique(np.load(folder / spec[f"{side}_labels"]["array"]))) == values
    panel.finish()


def test_nothing_guides_when_the_user_says_so_and_the_scene_remembers_it(panel):
    panel.host.click(panel.ui.guideCheckBox)
    parameters = panel.widget.logic.getParameterNode()
    assert parameters.guideBySegmentations is False
    assert "guide" not in sent(panel)
    panel.finish()
    parameters.guideBySegmentations = True
    assert panel.ui.guideCheckBox.checked


@pytest.mark.parametrize("model", ["plain", "none", "auto", "gone"])
def test_other_models_are_not_guided(panel, model):
    parameters = panel.widget.logic.getParameterNode()
    parameters.model = model
    assert not panel.ui.guideCheckBox.visible
    if model in ("plain", "none"):
        assert "guide" not in sent(panel)
        panel.finish()


def test_without_a_segment_of_such_a_name_the_box_says_which_names_would_do(panel):
    parameters = panel.widget.logic.getParameterNode()
    parameters.movingSegmentation = None
    parameters.fixedSegmentation.GetSegmentation().GetNthSegment(0).SetName("Lever")
    parameters.fixedSegmentation = None
    box = panel.ui.guideCheckBox
    assert box.visible
    assert not box.enabled
    assert "called Liver, Left_Kidney" in box.toolTip
    spec = sent(panel)
    assert "guide" not in spec
    assert "label_names" not in spec
    panel.finish()


def test_one_side_alone_guides(panel):
    panel.widget.logic.getParameterNode().movingSegmentation = None
    assert "Liver of the fixed volume." in panel.ui.guideCheckBox.toolTip
    spec = sent(panel)
    assert spec["guide"] is True
    assert "moving_labels" not in spec
    assert spec["label_names"]["1"] == "LIVER "
    panel.finish()
