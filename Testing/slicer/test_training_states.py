"""The training panel: what each state shows, what each button says, and what the engine is asked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from training_parts import ROOT, TrainingHands, checkReport, ended, writeRun


@pytest.fixture
def training(host, load_module, monkeypatch, tmp_path):
    return TrainingHands(host, load_module, monkeypatch, tmp_path)


def test_no_signal_is_misspelt(training, capfd):
    training.load()
    assert "No such" not in capfd.readouterr().err
    assert not training.host.qtWarnings


def test_every_widget_of_the_panel_explains_itself(training):
    training.load()
    silent = [
        name
        for name, widget in vars(training.ui).items()
        if hasattr(widget, "toolTip")
        and not widget.toolTip
        and not name.startswith("qt_")
        and widget.className() not in ("QLabel", "ctkCollapsibleButton", "QWidget", "qMRMLWidget")
    ]
    assert not silent


def test_the_panel_opens_with_the_defaults_of_the_engine(training):
    from autofuse_engine.training_presets import preset_config

    training.load()
    parameters = training.parameters
    parameters.preparedFolder = str(training.prepared())
    from AutoFuseTrainingLib import Choices

    from AutoFuseLib.PreparedFolder import readPrepared

    made = Choices.trainingOf(parameters, readPrepared(parameters.preparedFolder))
    assert made == preset_config("brain-unsupervised", made.dataset)
    assert training.ui.stepsBox.value == 100_000
    assert training.ui.learningRateBox.value == pytest.approx(1e-4)


def test_each_step_says_what_it_waits_for(training):
    training.load()
    ui, parameters = training.ui, training.parameters
    assert not ui.checkButton.enabled
    assert ui.checkButton.toolTip == "Choose the folder of your images."
    assert ui.previewButton.toolTip == "Check the dataset first."
    assert "prepared dataset" in ui.startButton.toolTip
    parameters.datasetFolder = str(training.tmp / "nirgends")
    assert "does not exist" in ui.checkButton.toolTip
    ui.datasetFolderEdit.currentPath = str(training.images())
    assert parameters.datasetFolder == str(training.images())
    assert ui.checkButton.enabled
    assert "written to" in ui.prepareButton.toolTip
    parameters.preparedFolder = parameters.datasetFolder
    assert "folder of its own" in ui.prepareButton.toolTip
    parameters.preparedFolder = str(training.tmp / "new")
    assert ui.prepareButton.enabled
    assert "holds no prepared dataset" in ui.startButton.toolTip
    parameters.labelsFile = str(training.tmp / "none.csv")
    assert "none.csv does not exist" in ui.prepareButton.toolTip
    parameters.preparedFolder = str(training.prepared())
    assert ui.estimateButton.enabled
    assert "Choose the folder that the run" in ui.startButton.toolTip
    parameters.runFolder = str(training.tmp / "runs" / "one")
    assert ui.startButton.enabled


def test_a_check_shows_cases_labels_and_problems_with_their_cures(training):
    training.load()
    ui, host = training.ui, training.host
    training.parameters.datasetFolder = str(training.images())
    host.click(ui.checkButton)
    assert training.jobs.jobs == [("dataset_check", {"folder": str(training.images())})]
    assert ui.checkButton.text == "Cancel"
    assert "cancel it" in ui.prepareButton.toolTip
    training.jobs.progress("check", 0.25, "anna")
    assert (ui.datasetProgressBar.value, ui.datasetProgressBar.visible) == (250, True)
    assert "anna" in ui.datasetStatusLabel.text
    training.jobs.succeed(checkReport(problems=True))
    assert not ui.datasetProgressBar.visible
    assert "Hearts &lt;A&gt;" in ui.datasetLabel.text
    assert "cannot be used as it is" in ui.datasetLabel.text
    assert "2 for training, 1 for validation; 3 with labels" in ui.datasetLabel.text
    assert "rim (3), 7 (3)" in ui.datasetLabel.text
    assert "another grid than its image" in ui.problemsLabel.text
    assert "Resample." in ui.problemsLabel.text
    table = ui.casesTable
    row = [table.item(0, column).text() for column in range(table.columnCount)]
    assert row == ["anna", "train", "20 x 24 x 28", "2 x 1.5 x 2.5", "2", "labels-grid-differs"]
    training.parameters.datasetFolder = str(training.tmp)
    assert not table.visible


def test_a_folder_that_is_no_dataset_is_a_sentence_without_a_window(training):
    training.load()
    training.parameters.datasetFolder = str(training.images())
    training.host.click(training.ui.checkButton)
    training.jobs.fail("dataset-not-found", "The folder is <no> dataset.", "Put images into images/.")
    assert "The folder is &lt;no&gt; dataset." in training.ui.datasetStatusLabel.text
    assert training.ui.checkButton.text == "Check"
    assert not training.host.messages.ofKind("error")


def test_a_case_is_shown_in_the_slice_views_with_its_labels(training):
    import numpy as np
    import slicer
    import slicer.util

    training.load()
    training.parameters.datasetFolder = str(training.images())
    training.host.click(training.ui.checkButton)
    training.jobs.succeed(checkReport())
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    place = [[0.0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 2.5, 3], [0, 0, 0, 1]]
    for _repeat in range(2):
        training.host.click(training.ui.previewButton)
        job, spec = training.jobs.jobs[-1]
        assert job == "dataset_case"
        assert spec["case"] in ("anna", "ben", "carla")
        files = {name: str(Path(spec["output"]) / f"{name}.npy") for name in ("image", "labels")}
        np.save(files["image"], array)
        np.save(files["labels"], (array > 60).astype(np.uint8))
        report = {"case": spec["case"], "ras_from_ijk": {"image": place, "labels": place}, "label_names": {}}
        training.jobs.succeed(report, files)
        training.host.waitUntil(lambda: "is shown" in training.ui.datasetStatusLabel.text)
        assert not Path(spec["output"]).exists()
        training.widget.dataset._showStatus("")
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert sorted(node.GetClassName() for node in nodes) == ["vtkMRMLLabelMapVolumeNode", "vtkMRMLScalarVolumeNode"]
    image = next(node for node in nodes if node.GetClassName() == "vtkMRMLScalarVolumeNode")
    assert np.array_equal(slicer.util.arrayFromVolume(image), array)
    matrix = slicer.util.arrayFromVTKMatrix(_ijkToRas(image))
    assert np.allclose(matrix, place)
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert composite.GetBackgroundVolumeID() == image.GetID()
    assert composite.GetLabelOpacity() == 0.5


def _ijkToRas(node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def test_preparing_says_what_the_panel_says_and_is_cancelled(training):
    training.load()
    ui, host, parameters = training.ui, training.host, training.parameters
    parameters.datasetFolder, parameters.preparedFolder = str(training.images()), str(training.tmp / "new")
    host.choose(ui.alignmentBox, "Rigid search")
    host.type(ui.preparedSpacingBox, "2.5")
    ui.useWindowBox.checked = True
    host.type(ui.windowLowBox, "-800")
    host.click(ui.prepareButton)
    job, spec = training.jobs.jobs[-1]
    assert job == "dataset_prepare"
    config = spec["config"]
    assert (config["alignment"], config["spacing_mm"]) == ("rigid", (2.5, 2.5, 2.5))
    assert config["intensity_window"] == (-800.0, 1000.0)
    host.click(ui.prepareButton)
    assert training.jobs.cancelled == [1]
    assert ui.prepareButton.text == "Cancelling..."
    training.jobs.fail("cancelled")
    assert "goes on from there" in ui.datasetStatusLabel.text
    host.click(ui.prepareButton)
    training.jobs.warn("The size cuts labels off.")
    training.jobs.succeed({"folder": str(training.prepared()), "cases": 5, "shape": [32, 48, 64]})
    assert "64 x 48 x 32 voxels of 1.5 x 2 x 2.5 mm; 2 labels" in ui.datasetStatusLabel.text
    assert "cuts labels off" in ui.datasetStatusLabel.text


@pytest.mark.parametrize(
    ("choices", "made", "sentence"),
    [
        ({"preset": "brain-semi"}, {"labels": 0}, "fewer than two training cases have some"),
        ({"preset": "brain-semi", "network": "voxelmorph-diff", "channels": 16}, {}, "cannot learn from labels"),
        ({"preset": "cardiac-unsupervised"}, {}, "no patient has two"),
        ({}, {"train": 1}, "at least two cases"),
        ({"preset": "brain-semi", "steps": 1}, {}, "at least as many steps"),
        ({"network": "voxelmorph-1", "channels": 16}, {}, "smoothness above 0"),
        ({"network": "voxelmorph-diff", "channels": 15}, {}, "multiple of 4"),
        ({"learningRate": 0.0}, {}, "learning_rate is above 0"),
    ],
)
def test_what_cannot_be_trained_is_told_before_it_starts(training, choices, made, sentence):
    training.load()
    parameters = training.parameters
    parameters.preparedFolder = str(training.prepared(**made))
    parameters.runFolder = str(training.tmp / "run")
    for name, value in choices.items():
        setattr(parameters, name, value)
    assert sentence in training.ui.startButton.toolTip
    assert not training.ui.startButton.enabled
    assert not training.ui.estimateButton.enabled


def test_an_estimate_tells_time_and_memory_or_what_would_fit(training):
    training.load()
    ui, host = training.ui, training.host
    training.parameters.preparedFolder = str(training.prepared())
    training.parameters.steps = 7200
    report = {"device": "cuda:0", "parameters": 5, "seconds_per_step": 0.5, "seconds_in_all": 3600.0,
              "memory_gib": 4.0, "free_gib": 8.0, "measured": True, "fits": True, "remedy": {}}  # fmt: skip
    host.click(ui.estimateButton)
    assert training.jobs.jobs[-1][0] == "train_trial"
    assert training.jobs.jobs[-1][1]["config"]["stages"][0]["steps"] == 7200
    training.jobs.progress("trial", 0.3, "step 1")
    assert "Trying some steps... step 1" in ui.trainingStatusLabel.text
    assert ui.startButton.toolTip == "Wait for the end of the trial, or cancel it."
    training.jobs.succeed(report)
    assert (
        "0.50 s a step, 1 h 0 min in all; a step needs 4.3 GB of 8.6 GB that are free." in ui.trainingStatusLabel.text
    )
    host.click(ui.estimateButton)
    remedy = {"recompute": True, "network.channels": 8}
    training.jobs.succeed({**report, "seconds_per_step": None, "fits": False, "measured": False, "remedy": remedy})
    assert "does not suffice" in ui.trainingStatusLabel.text
    assert "compute activations twice (Advanced), 8 channels" in ui.trainingStatusLabel.text
    host.click(ui.estimateButton)
    host.click(ui.estimateButton)
    training.jobs.fail("cancelled")
    assert ui.trainingStatusLabel.text == "Cancelled."
    host.click(ui.estimateButton)
    training.jobs.fail("worker-died", "The process ended.")
    assert "The process ended." in ui.trainingStatusLabel.text


def test_start_hands_the_configuration_to_a_process_of_its_own(training):
    training.load()
    parameters, run = training.parameters, training.tmp / "Läufe" / "eins"
    parameters.preparedFolder, parameters.runFolder, parameters.channels = str(training.prepared()), str(run), 4
    training.host.click(training.ui.startButton)
    start = str(run / "start.json")
    assert training.launched == [["train", "run", start, "--run-dir", str(run), "--quiet", "--json"]]
    content = json.loads((run / "start.json").read_text(encoding="utf-8"))
    assert content["network"]["channels"] == 4
    assert training.widget.runs.view.state == "starting"
    assert "starting" in training.ui.runStatusLabel.text
    assert not training.ui.startButton.enabled
    assert "A training runs in" in training.ui.startButton.toolTip
    assert not training.ui.deleteButton.enabled
    training.host.messages.clear()


def test_a_run_folder_that_cannot_be_written_is_told_before_and_after(training):
    training.load()
    parameters = training.parameters
    blocked = training.tmp / "file"
    blocked.write_text("x", encoding="utf-8")
    parameters.preparedFolder, parameters.runFolder = str(training.prepared()), str(blocked / "run")
    from autofuse_engine.errors import FileError
    from autofuse_engine.training_configs import TrainingConfig

    with pytest.raises(FileError) as caught:
        training.widget.logic.start(TrainingConfig(dataset="x"), blocked / "run")
    assert caught.value.code == "output-not-writable"
    parameters.runFolder = str(blocked)
    assert "is a file" in training.ui.startButton.toolTip
    writeRun(training.tmp / "old", training.prepared(), ending=ended(True, 60))
    parameters.runFolder = str(training.tmp / "old")
    assert "holds a run already" in training.ui.startButton.toolTip
    with pytest.raises(FileError) as caught:
        training.widget.logic.start(TrainingConfig(dataset="x"), training.tmp / "old")
    assert caught.value.code == "run-exists"
    assert training.launched == []


def test_the_module_file_and_the_lists_of_cmake_name_every_file():
    text = (ROOT / "AutoFuseTraining" / "CMakeLists.txt").read_text(encoding="utf-8")
    listed = set(re.findall(r"AutoFuseTrainingLib/\w+\.py", text))
    there = {
        f"AutoFuseTrainingLib/{path.name}" for path in (ROOT / "AutoFuseTraining/AutoFuseTrainingLib").glob("*.py")
    }
    assert listed == there


def test_the_scene_keeps_every_choice_and_a_reload_keeps_the_panel_alive(training):
    training.load()
    training.parameters.preset = "brain-semi"
    training.parameters.runFolder = str(training.tmp / "Läufe")
    training.host.closeScene()
    assert training.ui.presetBox.currentIndex == 0
    assert training.parameters.runFolder == ""
    training.parameters.datasetFolder = str(training.images())
    training.host.click(training.ui.checkButton)
    training.host.closeScene()
    training.jobs.succeed(checkReport())
    training.module = training.host.reload(training.module)
    assert training.jobs.cancelled == []
    assert training.ui.checkButton.text == "Check"


def test_a_reload_in_the_middle_of_a_job_cancels_it_without_a_word(training):
    training.load()
    training.parameters.datasetFolder = str(training.images())
    training.host.click(training.ui.checkButton)
    training.module = training.host.reload(training.module)
    assert training.jobs.cancelled == [1]
    assert training.jobs.stops == ["stop"]
    training.jobs.succeed(checkReport())
    assert not training.ui.casesTable.visible


def test_missing_packages_are_asked_for_once_as_in_the_other_module(training, monkeypatch):
    asked = []
    training.load()
    monkeypatch.setattr("AutoFuseLib.Dependencies.missing", lambda: ["torch"])
    from AutoFuseLib.Dependencies import DependencyDeclinedError

    def ensure() -> None:
        asked.append(True)
        raise DependencyDeclinedError("dependencies-declined", "It was declined.", "Press again.")

    monkeypatch.setattr("AutoFuseLib.Dependencies.ensure", ensure)
    training.parameters.datasetFolder = str(training.images())
    training.host.click(training.ui.checkButton)
    assert asked == [True]
    assert "It was declined." in training.ui.datasetStatusLabel.text
    assert training.jobs.jobs == []
    assert training.ui.checkButton.text == "Check"


def test_the_module_tests_itself(training):
    training.host.runModuleTest(training.load())
