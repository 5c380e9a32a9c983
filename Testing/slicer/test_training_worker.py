"""The training module with real processes: from a folder of images to a model, with the module gone in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from training_parts import MODULE, ROOT


def writeImages(folder: Path, cases: int = 6) -> Path:
    """Ellipsoids with a core, with labels, on oblique, anisotropic, flipped grids."""
    import numpy as np
    import SimpleITK as sitk

    rng = np.random.default_rng(3)
    shape = (20, 24, 28)
    angle = np.deg2rad(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(cases):
        center = np.array(shape) / 2 + rng.uniform(-1.5, 1.5, 3)
        radius = np.linalg.norm((np.stack(np.indices(shape), -1) - center) / (np.array(shape) * 0.35), axis=-1)
        labels = np.where(radius < 0.5, 2, radius < 1).astype(np.uint8)
        image = (np.array([10, 300, 700])[labels] + rng.integers(0, 20, shape)).astype(np.int16)
        for kind, array in (("images", image), ("labels", labels)):
            picture = sitk.GetImageFromArray(array)
            picture.SetSpacing((2.0, 1.5, 2.5))
            picture.SetDirection((turn @ np.diag([-1, 1, 1])).ravel().tolist())
            sitk.WriteImage(picture, str(folder / kind / f"Fall ü{number}.nrrd"))
    return folder


def stopRuns(folders: list[Path]) -> None:
    """End what a failed test has left running."""
    from autofuse_engine.run_folder import RunFolder
    from autofuse_engine.run_lock import holder, is_locked

    for folder in folders:
        lock = RunFolder(folder).lock
        if is_locked(lock) and "process" in holder(lock):
            os.kill(holder(lock)["process"], signal.SIGTERM)


@pytest.mark.slow
def test_a_training_outlives_the_module_and_becomes_a_model(host, load_module, monkeypatch, tmp_path):
    import slicer

    monkeypatch.setenv("AUTOFUSE_MODELS", str(tmp_path / "Modelle ü"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder, run = tmp_path / "meine Bilder", tmp_path / "Läufe" / "erster Lauf"
    writeImages(folder)
    try:
        module = load_module(MODULE)
        walkThrough(host, load_module, module, folder, run, tmp_path / "fertig")
    finally:
        stopRuns([run])
    assert slicer.mrmlScene is not None


def walkThrough(host, load_module, module, folder, run, prepared):
    """Check, look, prepare, estimate, start, unload while it runs, attach, pause, resume, watch to the end, export."""
    import slicer

    from autofuse_engine import catalog
    from autofuse_engine.run_folder import read_status

    ui, wait = module.widget.ui, host.waitUntil
    parameters = module.widget.logic.getParameterNode()
    parameters.datasetFolder, parameters.preparedFolder = str(folder), str(prepared)
    host.click(ui.checkButton)
    wait(lambda: ui.casesTable.visible, timeout=240)
    assert ui.casesTable.rowCount == 6
    host.click(ui.previewButton)
    wait(lambda: "is shown" in ui.datasetStatusLabel.text, timeout=120)
    labels = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLabelMapVolumeNode")
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert composite.GetLabelVolumeID() == labels.GetID()
    host.choose(ui.alignmentBox, "Centers of the images")
    host.click(ui.prepareButton)
    wait(lambda: (prepared / "manifest.json").exists() and ui.prepareButton.text == "Prepare", timeout=240)
    assert "labels" in ui.datasetStatusLabel.text

    host.choose(ui.presetBox, "Brains or other organs, some with labels")
    parameters.channels, parameters.steps, parameters.validationEvery, parameters.device = 2, 60, 10, "cpu"
    parameters.validationPairs, parameters.runFolder = 1, str(run)
    host.click(ui.estimateButton)
    wait(lambda: ui.estimateButton.text == "Estimate", timeout=240)
    assert "s a step" in ui.trainingStatusLabel.text

    host.click(ui.startButton)
    assert not ui.startButton.enabled
    wait(lambda: (view := module.widget.runs.view) and view.status and view.status.step >= 2, timeout=240)
    host.unload(module.module.name)
    before = read_status(run)
    assert before.state == "running"

    module = load_module(MODULE)
    ui = module.widget.ui
    wait(lambda: module.widget.runs.view and module.widget.runs.view.status.step > before.step, timeout=120)
    assert module.widget.runs.view.folder == run
    host.click(ui.pauseButton)
    wait(lambda: module.widget.runs.view.state == "stopped", timeout=120)
    assert read_status(run).step < 60
    host.click(ui.resumeButton)
    assert module.widget.runs.view.state == "starting"
    wait(lambda: module.widget.runs.view.state == "finished", timeout=240)
    module.widget.runs.tick()
    watcher = module.widget.runs._watcher
    assert watcher.metrics.columns["step"] == list(range(1, 61))
    assert watcher.validation.columns["step"] == [0, 10, 20, 30, 40, 50, 60]

    host.click(ui.pairButton)
    wait(lambda: "warped at step 60" in ui.pairLabel.text, timeout=120)
    ui.exportCollapsibleButton.collapsed = False
    assert ui.modelNameEdit.text == "erster-Lauf"
    host.type(ui.bodyPartEdit, "heart")
    host.type(ui.notForEdit, "children; lungs")
    host.click(ui.exportButton)
    wait(lambda: "is ready" in ui.exportStatusLabel.text, timeout=120)
    (entry,) = [entry for entry in catalog.list_models() if not entry.shipped]
    assert entry.problem == ""
    assert (entry.name, entry.card.intended_use.body_part) == ("erster-Lauf", "heart")
    assert entry.card.not_for == ("children", "lungs")


@pytest.mark.slow
def test_a_training_that_was_killed_is_named_and_goes_on(host, load_module, monkeypatch, tmp_path):
    from autofuse_engine.configs import NetworkConfig
    from autofuse_engine.run_folder import RunFolder
    from autofuse_engine.run_lock import holder
    from autofuse_engine.training_configs import Stage, TrainingConfig
    from Testing.engine.data.prepared_folder import make_prepared

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_prepared(tmp_path / "data", train=4, validation=2, shape=(16, 32, 16))
    run = tmp_path / "run"
    config = TrainingConfig(
        dataset=str(tmp_path / "data"), network=NetworkConfig(channels=2, align_corners=False), device="cpu",
        stages=(Stage(steps=2000),), validation_every=5, validation_pairs=1,
    )  # fmt: skip
    module = load_module(MODULE)
    runs, ui = module.widget.runs, module.widget.ui
    try:
        module.widget.logic.start(config, run)
        runs.choose(run)
        host.waitUntil(lambda: runs.view.status and runs.view.status.step > 8, timeout=240)
        os.kill(holder(RunFolder(run).lock)["process"], getattr(signal, "SIGKILL", signal.SIGTERM))
        host.waitUntil(lambda: runs.view.state == "interrupted", timeout=60)
        assert "ended without a word" in ui.runStatusLabel.text
        assert runs.view.error.code == "training-died"
        host.click(ui.resumeButton)
        host.waitUntil(lambda: runs.view.state == "running", timeout=240)
        host.click(ui.pauseButton)
        host.waitUntil(lambda: runs.view.state == "stopped", timeout=120)
        host.setTesting(False)
        host.messages.answer(True)
        host.click(ui.deleteButton)
        assert not run.exists()
        assert ui.runsTable.rowCount == 0
    finally:
        stopRuns([run])


@pytest.mark.slow
def test_a_training_that_cannot_begin_says_why(host, load_module, tmp_path):
    from autofuse_engine.training_configs import TrainingConfig

    module = load_module(MODULE)
    run = tmp_path / "run"
    module.widget.logic.start(TrainingConfig(dataset=str(tmp_path / "nothing")), run)
    module.widget.runs.choose(run)
    host.waitUntil(lambda: module.widget.runs.view.state == "failed", timeout=240)
    assert module.widget.runs.view.error.code == "prepared-not-found"
    assert "nothing" in module.widget.ui.runStatusLabel.text
    assert module.widget.ui.resumeButton.enabled


@pytest.mark.slow
def test_the_process_of_the_window_never_imports_torch_for_training(tmp_path):
    writeImages(tmp_path / "images here")
    code = f"""
import sys, os
sys.path.insert(0, {str(ROOT)!r})
from Testing.host.session import boot
host = boot()
host.reset()
module = host.loadModule({str(MODULE)!r})
logic = module.widget.logic
logic.run("dataset_check", {{"folder": {str(tmp_path / "images here")!r}}})
logic.run("dataset_prepare", {{"folder": {str(tmp_path / "images here")!r}, "output": {str(tmp_path / "out")!r},
                              "config": {{"alignment": "none"}}}})
parameters = logic.getParameterNode()
parameters.preparedFolder = {str(tmp_path / "out")!r}
parameters.channels = 2
from AutoFuseTrainingLib import Choices
from AutoFuseLib.PreparedFolder import readPrepared
config = Choices.trainingOf(parameters, readPrepared({str(tmp_path / "out")!r}))
assert logic.run("train_trial", {{"config": config.to_dict(), "steps": 1}}).report["fits"]
host.exitApplication()
print("LOADED", sorted({{"torch", "safetensors", "SimpleITK", "rich"}} & set(sys.modules)), flush=True)
os._exit(0)
"""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300, check=False, env=environment
    )
    assert "LOADED []" in done.stdout, done.stdout + done.stderr
