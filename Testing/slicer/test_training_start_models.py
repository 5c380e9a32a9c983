"""A training that begins with a model: what the panel offers, asks for and says; and Cancel of Export."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from training_parts import TrainingHands, ended, writeRun


@pytest.fixture
def training(host, load_module, monkeypatch, tmp_path):
    return TrainingHands(host, load_module, monkeypatch, tmp_path)


def writeModel(training, name, title, spacing=(1.5, 2.0, 2.5), **network):
    from autofuse_engine.configs import NetworkConfig
    from autofuse_engine.model_card import ModelCard, Preprocessing, WeightsFile, card_text

    folder = training.tmp / "Modelle"
    folder.mkdir(exist_ok=True)
    weights = b"nobody reads these weights"
    card = ModelCard(
        name=name,
        title=title,
        network=NetworkConfig(**network),
        preprocessing=Preprocessing(spacing_mm=spacing),
        licence="CC BY-SA 4.0",
        attribution="B. C.",
        weights=WeightsFile(sha256=hashlib.sha256(weights).hexdigest(), size_bytes=len(weights)),
    )
    (folder / f"{name}.safetensors").write_bytes(weights)
    (folder / f"{name}.json").write_text(card_text(card), encoding="utf-8")
    return card


def test_a_model_brings_its_network_and_says_how_it_was_trained(training):
    card = writeModel(training, "heart", "Heart <MR>", channels=6, classes=5, align_corners=False)
    writeModel(training, "plain", "Thin", (1.0, 1.0, 1.0), kind="voxelmorph-1", channels=8, field="displacement")
    training.load()
    ui, parameters = training.ui, training.parameters
    parameters.preparedFolder, parameters.runFolder = str(training.prepared()), str(training.tmp / "Lauf")
    training.host.choose(ui.presetBox, "Brains or other organs, some with labels")
    assert ui.startBox.currentText == "Nothing: a new network"
    assert "Begins with" not in ui.presetLabel.text
    training.host.choose(ui.startBox, "Heart <MR>")
    assert (ui.networkBox.currentText, ui.channelsBox.value) == ("autofuse", 6)
    assert not ui.networkBox.enabled
    assert not ui.channelsBox.enabled
    assert "Begins with Heart &lt;MR&gt;: autofuse, 6 channels, trained at 1.5 x 2 x 2.5 mm." in ui.presetLabel.text
    assert "gains more" not in ui.presetLabel.text
    training.host.click(ui.startButton)
    config = json.loads((training.tmp / "Lauf" / "start.json").read_text(encoding="utf-8"))
    assert config["start_from"] == "heart"
    assert config["network"] == replace(card.network, classes=3).to_dict()

    training.host.choose(ui.startBox, "Thin")
    assert "The network voxelmorph-1 cannot learn from labels" in ui.startButton.toolTip
    training.host.choose(ui.presetBox, "Brains or other organs, without labels")
    assert parameters.smoothness == 1.0
    assert "prepared at that spacing gains more" in ui.presetLabel.text
    training.host.choose(ui.startBox, "Nothing: a new network")
    assert ui.networkBox.enabled
    assert ui.channelsBox.enabled


def test_a_model_that_is_gone_is_named(training):
    writeModel(training, "heart", "Heart", channels=6, align_corners=False)
    training.load()
    ui, parameters = training.ui, training.parameters
    parameters.preparedFolder = str(training.prepared())
    training.host.choose(ui.startBox, "Heart")
    assert ui.estimateButton.enabled
    (training.tmp / "Modelle" / "heart.json").unlink()
    training.widget.exit()
    training.widget.enter()
    assert ui.startBox.currentText == "heart"
    assert "There is no model named 'heart'" in ui.estimateButton.toolTip
    assert not ui.estimateButton.enabled


def test_an_export_names_the_rights_of_the_model_it_began_with(training):
    from autofuse_engine.run_folder import RunFolder

    writeModel(training, "heart", "Heart")
    folder = writeRun(training.tmp / "Lauf", training.prepared(), ending=ended(True, 60))
    config = RunFolder(folder).read_config()
    RunFolder(folder).config.write_text(json.dumps(replace(config, start_from="heart").to_dict()), encoding="utf-8")
    training.load()
    training.show(folder)
    assert training.ui.licenceEdit.text == "CC-BY-4.0; begun with heart: CC BY-SA 4.0"
    assert training.ui.attributionEdit.text == "A. Müller et al.; begun with heart: B. C."


def test_an_export_can_be_cancelled_and_a_new_model_can_be_started_from(training):
    folder = writeRun(training.tmp / "Lauf", training.prepared(), ending=ended(True, 60))
    training.load()
    ui = training.ui
    training.show(folder)
    ui.exportCollapsibleButton.collapsed = False
    training.host.click(ui.exportButton)
    training.jobs.progress("label trial", 0.5)
    assert (ui.exportButton.text, ui.exportButton.enabled) == ("Cancel", True)
    training.host.click(ui.exportButton)
    assert (ui.exportButton.text, ui.exportButton.enabled) == ("Cancelling...", False)
    assert training.jobs.cancelled
    training.widget.runs.tick()
    assert ui.exportButton.text == "Cancelling..."
    training.jobs.fail("cancelled", "Cancelled.")
    assert ui.exportStatusLabel.text == "Cancelled; nothing was written."
    assert (ui.exportButton.text, ui.exportButton.enabled) == ("Export", True)
    assert ui.startBox.findText("Fresh") < 0
    training.host.click(ui.exportButton)
    writeModel(training, "fresh", "Fresh")
    training.jobs.succeed({"name": "fresh"}, {"weights": "x", "card": "y"})
    assert ui.startBox.findText("Fresh") > 0
