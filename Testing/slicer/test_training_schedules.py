"""The schedules that the training panel offers: what choosing one sets, and what the engine is asked then."""

from __future__ import annotations

import pytest
from training_parts import TrainingHands


@pytest.fixture
def training(host, load_module, monkeypatch, tmp_path):
    return TrainingHands(host, load_module, monkeypatch, tmp_path)


def test_choosing_a_schedule_and_a_network_sets_what_goes_with_them(training):
    training.load()
    ui, parameters = training.ui, training.parameters
    training.host.choose(ui.presetBox, "Hearts in two phases, without labels")
    assert parameters.steps == 50_000
    training.host.choose(ui.networkBox, "voxelmorph-1")
    assert (parameters.smoothness, parameters.network) == (1.0, "voxelmorph-1")
    training.host.choose(ui.networkBox, "early-fuse")
    assert (parameters.channels, parameters.smoothness) == (45, 0.0)
    assert "autofuse-semi" not in [ui.networkBox.itemText(line) for line in range(ui.networkBox.count)]


def test_stages_keep_their_shares_and_fully_labelled_data_its_labels(training):
    from AutoFuseLib.PreparedFolder import readPrepared

    training.load()
    from AutoFuseTrainingLib import Choices

    parameters = training.parameters
    parameters.preset, parameters.steps = "cardiac-semi", 7
    prepared = readPrepared(training.prepared())
    stages = Choices.trainingOf(parameters, prepared).stages
    assert [(stage.steps, stage.pairs) for stage in stages] == [(6, "labelled"), (1, "within-group")]
    parameters.steps = 2
    assert [stage.steps for stage in Choices.trainingOf(parameters, prepared).stages] == [1, 1]
    config = Choices.trainingOf(parameters, prepared)
    assert config.network.classes == 3
    assert "Every case has labels" not in training.ui.presetLabel.text
    parameters.preparedFolder = str(prepared.path)
    assert "Every case has labels" in training.ui.presetLabel.text


def test_the_schedule_for_small_budgets_brings_its_learning_rates_and_losses(training):
    from autofuse_engine.training_presets import preset_config
    from AutoFuseLib.PreparedFolder import readPrepared

    training.load()
    from AutoFuseTrainingLib import Choices

    ui, parameters = training.ui, training.parameters
    parameters.preparedFolder = str(training.prepared())
    prepared = readPrepared(parameters.preparedFolder)
    training.host.choose(ui.presetBox, "Any images with labels, small budget")
    assert (parameters.steps, ui.learningRateBox.value, ui.klSmoothnessBox.value) == (6300, 4e-4, 150)
    assert "first the network learns to segment them, in quick steps" in ui.presetLabel.text
    made = Choices.trainingOf(parameters, prepared)
    assert made == preset_config("short-semi", made.dataset, labels=2)
    ui.learningRateBox.value, ui.klSmoothnessBox.value, parameters.steps = 2e-4, 120, 63
    stages = Choices.trainingOf(parameters, prepared).stages
    assert [stage.steps for stage in stages] == [15, 8, 30, 10]
    assert [stage.learning_rate for stage in stages] == pytest.approx([1e-3, 2e-4, 2e-4, 5e-5])
    assert [stage.learns for stage in stages] == ["segmentation", "segmentation", "everything", "everything"]
    assert Choices.trainingOf(parameters, prepared).losses.kl_smoothness == 120
    training.host.click(ui.estimateButton)
    training.jobs.succeed({"device": "cpu", "seconds_per_step": 1.0, "seconds_in_all": 47.0, "memory_gib": None,
                           "free_gib": None, "fits": True, "remedy": {}})  # fmt: skip
    assert "at most 1.00 s a step, 47 s in all." in ui.trainingStatusLabel.text
    parameters.segmentationWeight = 0.0
    assert "begins with the segmentation, which needs a weight" in ui.startButton.toolTip
    training.host.choose(ui.presetBox, "Brains or other organs, some with labels")
    assert (parameters.steps, ui.learningRateBox.value, ui.klSmoothnessBox.value) == (100_000, 1e-4, 50)
    assert parameters.segmentationWeight == 1.0
    parameters.learningRate = 3e-4
    assert {stage.learning_rate for stage in Choices.trainingOf(parameters, prepared).stages} == {3e-4}
