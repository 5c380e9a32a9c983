"""The list of runs: every state that a folder can tell, its buttons, its curves, and the export."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from training_parts import TrainingHands, ended, writeRun, writeSegmentingRun

HOLDER = """
import sys, time
from pathlib import Path
from autofuse_engine.run_lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def training(host, load_module, monkeypatch, tmp_path):
    return TrainingHands(host, load_module, monkeypatch, tmp_path)


@pytest.fixture
def hold():
    """``hold(folder)`` lets another process hold the lock of a run; gives that process."""
    processes = []

    def start(folder):
        command = [sys.executable, "-c", HOLDER, str(folder / "lock")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def buttons(ui):
    names = ("pause", "resume", "delete")
    return tuple(getattr(ui, f"{name}Button").enabled for name in names)


FAILED = {"event": "error", "code": "training-diverged", "text": "It <diverged>.", "hint": "Lower the learning rate."}


@pytest.mark.parametrize(
    ("ending", "state", "enabled", "texts"),
    [
        (ended(True, 60), "finished", (False, False, True), ["finished", "Best validation score 0.600 at step 60"]),
        (ended(False, 60), "stopped", (False, True, True), ["paused", "Step 60 of 100", "Dice 0.600"]),
        (FAILED, "failed", (False, True, True), ["failed", "It &lt;diverged&gt;.", "Lower the learning rate."]),
        (None, "interrupted", (False, True, True), ["interrupted", "ended without a word", "Press Resume"]),
    ],
)
def test_each_end_of_a_run_is_shown_with_its_buttons(training, ending, state, enabled, texts):
    folder = writeRun(training.tmp / "Läufe" / "eins", training.prepared(), ending=ending)
    training.load()
    training.show(folder)
    assert training.widget.runs.view.state == state
    assert buttons(training.ui) == enabled
    for text in texts:
        assert text in training.ui.runStatusLabel.text
    assert training.ui.runProgressBar.value == 600
    row = [training.ui.runsTable.item(0, column).text() for column in range(5)]
    assert (row[0], row[2], row[3]) == ("eins", "60 / 100", "0.600")


def test_a_run_of_another_process_is_followed_paused_and_found_dead(training, hold):
    folder = writeRun(training.tmp / "run", training.prepared(), done=40)
    process = hold(folder)
    training.load()
    training.show(folder)
    view = training.widget.runs
    assert view.view.state == "running"
    assert "about 30 s left" in training.ui.runStatusLabel.text
    assert buttons(training.ui) == (True, False, False)
    assert "goes on" in training.ui.resumeButton.toolTip or "going on" in training.ui.resumeButton.toolTip
    with (folder / "metrics.csv").open("a", encoding="utf-8") as stream:
        stream.write("41,0.5,c0,c1,0.5\n42,0.4,c0")
    view.tick()
    assert view._watcher.metrics.columns["step"][-1] == 41
    assert "Step 41 of 100" in training.ui.runStatusLabel.text
    training.host.click(training.ui.pauseButton)
    assert (folder / "STOP").exists()
    assert view.view.state == "stopping"
    process.kill()
    process.wait()
    view.tick()
    assert view.view.state == "interrupted"
    assert f"process {process.pid} on" in training.ui.runStatusLabel.text


def test_starting_or_deleting_where_another_process_trains_is_refused(training, hold):
    from autofuse_engine.errors import FileError

    folder = writeRun(training.tmp / "run", training.prepared())
    hold(folder)
    training.load()
    logic = training.widget.logic
    for action in (logic.delete, logic.resume):
        with pytest.raises(FileError) as caught:
            action(folder)
        assert caught.value.code == "run-locked"
    assert (folder / "config.json").exists()
    assert training.launched == []


def test_resume_starts_a_process_in_the_folder(training):
    folder = writeRun(training.tmp / "run", training.prepared(), ending=ended(False, 60))
    training.load()
    training.show(folder)
    old = time.time() - 100
    import os

    os.utime(folder / "events.jsonl", (old, old))
    training.host.click(training.ui.resumeButton)
    assert training.launched == [["train", "run", "--resume", "--run-dir", str(folder), "--quiet", "--json"]]
    assert training.widget.runs.view.state == "starting"
    (folder / "launch.out").write_text(
        json.dumps({"status": "error", "error": {"code": "device-absent", "text": "No GPU.", "hint": "Use the CPU."}}),
        encoding="utf-8",
    )
    training.widget.runs.tick()
    assert training.widget.runs.view.error.code == "device-absent"
    assert "No GPU." in training.ui.runStatusLabel.text


def test_a_process_that_never_said_a_word_is_given_up_after_a_while(training):
    folder = training.tmp / "run"
    folder.mkdir()
    (folder / "launch.json").write_text(json.dumps({"time": time.time() - 1000}), encoding="utf-8")
    training.load()
    training.show(folder)
    assert training.widget.runs.view.error.code == "training-not-started"
    assert "launch.log" in training.ui.runStatusLabel.text


def test_a_process_that_cannot_be_started_is_an_error_and_no_run(training, monkeypatch):
    training.load()
    monkeypatch.setattr("AutoFuseLib.DetachedProcess.startDetached", lambda *arguments: False)
    parameters = training.parameters
    parameters.preparedFolder, parameters.runFolder = str(training.prepared()), str(training.tmp / "run")
    training.host.click(training.ui.startButton)
    assert "could not be started" in training.ui.trainingStatusLabel.text
    assert len(training.host.messages.ofKind("error")) == 1
    assert training.ui.runsTable.rowCount == 0


def test_runs_are_found_again_by_another_slicer_and_beside_each_other(training):
    one = writeRun(training.tmp / "Läufe" / "eins", training.prepared(), ending=ended(True, 60))
    writeRun(training.tmp / "Läufe" / "zwei", training.prepared(), ending=ended(False, 60))
    (training.tmp / "Läufe" / "notes").mkdir()
    training.load()
    training.show(one)
    assert [training.ui.runsTable.item(line, 0).text() for line in range(2)] == ["eins", "zwei"]
    training.host.unload(training.module.module.name)
    training.load()
    assert training.ui.runsTable.rowCount == 2
    assert training.widget.runs.view.folder == one
    training.ui.runsTable.selectRow(1)
    assert training.widget.runs.view.state == "stopped"


def test_a_folder_is_added_if_it_is_a_run(training):
    folder = writeRun(training.tmp / "woanders" / "run", training.prepared(), ending=ended(True, 60))
    training.load()
    training.host.messages.answer(str(training.tmp))
    training.host.click(training.ui.addRunButton)
    assert "holds no training run" in training.host.messages.ofKind("error")[0].text
    training.host.messages.answer(str(folder))
    training.host.click(training.ui.addRunButton)
    assert training.widget.runs.view.folder == folder


def test_deleting_asks_and_leaves_what_is_not_of_the_run(training):
    folder = writeRun(training.tmp / "run", training.prepared(), ending=ended(True, 60))
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "tensorboard").mkdir()
    training.load()
    training.show(folder)
    training.host.setTesting(False)
    training.host.messages.answer(False)
    training.host.click(training.ui.deleteButton)
    assert (folder / "config.json").exists()
    training.host.messages.answer(True)
    training.host.click(training.ui.deleteButton)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert training.ui.runsTable.rowCount == 0
    assert training.ui.runStatusLabel.text.startswith("Start a training above")


def test_a_damaged_run_is_named_and_can_be_deleted(training):
    folder = writeRun(training.tmp / "run", training.prepared(), ending=ended(True, 60))
    (folder / "config.json").write_text("{", encoding="utf-8")
    training.load()
    training.show(folder)
    assert training.widget.runs.view.error.code == "run-invalid"
    assert buttons(training.ui) == (False, False, True)


def test_curves_follow_the_run_and_become_plot_nodes(training):
    import slicer
    import slicer.util

    folder = writeRun(training.tmp / "run", training.prepared(), ending=ended(True, 60))
    training.load()
    training.show(folder)
    ui = training.ui
    assert ui.curveLabel.visible
    assert ui.logBox.enabled
    training.host.click(ui.plotButton)
    chart = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalPlotView
    assert chart.GetNumberOfPlotSeriesNodes() == 2
    table = chart.GetNthPlotSeriesNode(0).GetTableNode()
    values = slicer.util.arrayFromTableColumn(table, "Loss of each step")
    assert values[3] == pytest.approx(2 / 4**0.5 + 4 * 0.02)
    ui.logBox.checked = True
    assert chart.GetYAxisLogScale()
    ui.smoothingSlider.value = 0.0
    assert chart.GetNumberOfPlotSeriesNodes() == 1
    training.host.click(ui.plotButton)
    assert slicer.app.layoutManager().layout != slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalPlotView
    with (folder / "metrics.csv").open("a", encoding="utf-8") as stream:
        stream.write("61,-0.5,c0,c1,0.5\n")
    training.widget.runs.tick()
    assert not ui.logBox.enabled
    assert "negative" in ui.logBox.toolTip
    assert not chart.GetYAxisLogScale()
    assert slicer.util.arrayFromTableColumn(table, "Loss of each step")[-1] == -0.5
    training.host.choose(ui.curveBox, "Validation")
    training.host.click(ui.plotButton)
    charts = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert len(charts) == 2
    training.host.closeScene()
    training.widget.runs.tick()


def test_a_run_that_learns_to_segment_says_so_and_is_not_praised_for_a_dice_that_stays(training):
    training.load()
    ui, folder = training.ui, training.tmp / "run"
    writeSegmentingRun(folder, training.prepared(), done=20)
    training.show(folder)
    assert "loss 0.1000, Dice 0.610" in ui.runStatusLabel.text
    assert "learns to segment so far" in ui.runStatusLabel.text
    assert "Dice of its segmentation 0.300." in ui.runStatusLabel.text
    assert "Best validation" not in ui.runStatusLabel.text
    from AutoFuseTrainingLib.Curves import VALIDATION, curvesOf

    from AutoFuseLib.RunWatcher import RunWatcher

    watcher = RunWatcher(folder)
    watcher.readCurves()
    assert [curve.name for curve in curvesOf(watcher, VALIDATION, 0.9)] == ["Dice", "Similarity", "Segmentation"]
    assert curvesOf(watcher, VALIDATION, 0.9)[-1].y == pytest.approx((0.1, 0.3))
    training.host.choose(ui.curveBox, "Validation")
    assert ui.curveLabel.visible
    writeSegmentingRun(folder, training.prepared(), done=60)
    training.widget.runs.tick()
    assert "so far" not in ui.runStatusLabel.text
    assert "Best validation score 0.610 at step 20" in ui.runStatusLabel.text


def test_a_table_that_is_written_anew_is_read_anew(tmp_path):
    from AutoFuseLib.GrowingTable import GrowingTable

    path = tmp_path / "metrics.csv"
    table = GrowingTable(path, ("step", "loss"))
    assert not table.read()
    path.write_text("step,loss\n1,0.5\n2,\n3,0.2", encoding="utf-8")
    assert table.read()
    assert table.columns["step"] == [1.0, 2.0]
    assert table.columns["loss"][1] != table.columns["loss"][1]
    with path.open("a", encoding="utf-8") as stream:
        stream.write("5\n")
    assert table.read()
    assert table.columns["loss"][2] == 0.25
    new = tmp_path / "new.csv"
    new.write_text("step,loss\n1,0.5\n2,0.4\n4,9\n5,8\n", encoding="utf-8")
    new.replace(path)
    assert table.read()
    assert table.columns["step"] == [1.0, 2.0, 4.0, 5.0]


def test_smoothing_begins_at_the_first_value_and_thinning_keeps_the_mean(training):
    training.load()
    from AutoFuseTrainingLib.Curves import _thinned, smoothed

    assert smoothed([2.0, 4.0], 0.5) == pytest.approx([2.0, (0.25 * 2 + 0.5 * 4) / 0.75])
    steps = list(range(10_001))
    x, y = _thinned(steps, [float(step) for step in steps])
    assert len(x) <= 1002
    assert (x[0], x[-1]) == (0, 10_000)
    assert x == y


def test_a_validation_pair_is_laid_over_the_fixed_image(training):
    import numpy as np
    import slicer

    folder = writeRun(training.tmp / "run", training.prepared(), ending=ended(False, 60))
    training.load()
    training.show(folder)
    for number in range(2):
        training.host.click(training.ui.pairButton)
        job, spec = training.jobs.jobs[-1]
        assert (job, spec["number"], spec["run"]) == ("train_pair", number, str(folder))
        assert training.ui.pairButton.toolTip == "The pair is being computed."
        files = {role: f"{spec['output']}/{role}.npy" for role in ("fixed", "moving", "warped")}
        for path in files.values():
            np.save(path, np.random.default_rng(1).random((4, 5, 6), np.float32))
        report = {"ras_from_ijk": np.diag([1.5, 2, 2.5, 1]).tolist(), "names": ["anna", "ben"], "step": 60, "pairs": 2}
        training.jobs.succeed(report, files)
        training.host.waitUntil(lambda: "ben, warped at step 60, over anna." in training.ui.pairLabel.text)
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    names = [slicer.mrmlScene.GetNodeByID(identifier).GetName() for identifier in
             (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())]  # fmt: skip
    assert names == ["anna", "ben warped"]
    training.host.click(training.ui.pairButton)
    training.jobs.fail("run-checkpoint-invalid", "The checkpoint is damaged.")
    assert "damaged" in training.ui.pairLabel.text


def test_the_log_shows_what_the_run_and_its_process_said(training):
    folder = writeRun(training.tmp / "run", training.prepared(), ending=FAILED)
    (folder / "launch.log").write_text("Traceback: ü\n", encoding="utf-8")
    training.load()
    training.ui.logCollapsibleButton.collapsed = False
    training.show(folder)
    text = training.ui.logText.toPlainText()
    assert "2026-01-02 03:04:05  step 20: score 0.4" in text
    assert "training-diverged: It <diverged>." in text
    assert text.endswith("Traceback: ü")


def test_export_asks_for_the_card_that_the_panel_shows(training):
    folder = writeRun(training.tmp / "erster Lauf!", training.prepared(), ending=ended(True, 60))
    training.load()
    ui = training.ui
    assert ui.exportButton.toolTip == "Choose a run above."
    training.show(folder)
    ui.exportCollapsibleButton.collapsed = False
    assert ui.modelNameEdit.text == "erster-Lauf"
    assert (ui.licenceEdit.text, ui.attributionEdit.text) == ("CC-BY-4.0", "A. Müller et al.")
    training.host.type(ui.modelNameEdit, "../up")
    assert "Give the model a name" in ui.exportButton.toolTip
    training.host.type(ui.modelNameEdit, "heart-1")
    training.host.type(ui.bodyPartEdit, "heart")
    training.host.type(ui.modalityEdit, "MR")
    training.host.type(ui.notForEdit, "children; ; lungs")
    training.widget.runs.tick()
    ui.halfBox.checked = True
    training.host.click(ui.exportButton)
    job, spec = training.jobs.jobs[-1]
    assert job == "train_export"
    assert spec["intended_use"] == {"modality": "MR", "body_part": "heart", "spacing_mm": 1.5}
    assert (spec["not_for"], spec["storage"], spec["checkpoint"]) == (["children", "lungs"], "float16", "best")
    assert (spec["overwrite"], spec["title"], spec["try_labels"]) == (False, "Trained on Hearts <A>", True)
    assert ui.exportStatusLabel.text == "Exporting..."
    training.jobs.progress("label trial", 0.25)
    assert ui.exportStatusLabel.text.endswith("help its refinement... 25 %")
    training.jobs.warn("It could not be tried: no <labels>.")
    training.jobs.succeed({"name": "heart-1"}, {"weights": "x", "card": "y"})
    assert "choose it in the module AutoFuse Registration" in ui.exportStatusLabel.text
    assert "no &lt;labels&gt;" in ui.exportStatusLabel.text
    (folder / "checkpoints" / "best.safetensors").unlink()
    training.widget.runs.tick()
    assert "no such checkpoint" in ui.exportButton.toolTip
    training.host.choose(ui.checkpointBox, "Last")
    training.host.click(ui.exportButton)
    training.jobs.fail("model-not-finite", "The weights are not finite.")
    assert "not finite" in ui.exportStatusLabel.text
