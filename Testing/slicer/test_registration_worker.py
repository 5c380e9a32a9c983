"""The registration module with the real worker process: a click, a wait, and nodes that are right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "AutoFuseRegistration" / "AutoFuseRegistration.py"


@pytest.fixture
def panel(host, load_module):
    """The module on the shared worker of this process, which ends with the test."""
    from AutoFuseLib import WorkerProcess

    yield load_module(MODULE)
    WorkerProcess.stopSharedWorker()


@pytest.fixture
def blobs(host):
    """A pair of smooth volumes on oblique, anisotropic, flipped grids that differ by a known move, and that move."""
    import numpy as np
    import slicer.util

    def place(degrees, spacing, origin, flip):
        angle = np.deg2rad(degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        turn = turn @ np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
        matrix = np.eye(4)
        matrix[:3, :3] = turn @ np.diag(spacing) @ np.diag(flip)
        matrix[:3, 3] = origin
        return matrix

    centers = np.array([[0, 0, 0], [14, 6, -8], [-12, 10, 9], [5, -15, 4], [-8, -9, -12]], float)

    def image(matrix, shape, move):
        k, j, i = np.indices(shape)
        points = np.stack([i, j, k, np.ones(shape)], axis=-1) @ matrix.T
        points = points[..., :3] - move
        value = sum(
            np.exp(-((points - center) ** 2).sum(-1) / (2 * (5 + n) ** 2)) * (400 + 100 * n)
            for n, center in enumerate(centers)
        )
        return value.astype(np.float32)

    move = np.array([4.0, -3.0, 2.0])
    nodes = []
    places = {
        "Fixed": (place(20, (2.0, 1.6, 2.4), (-30, -22, -28), (1, 1, 1)), (26, 30, 28), np.zeros(3)),
        "Moving": (place(-15, (1.8, 2.2, 2.0), (26, -34, 30), (-1, 1, -1)), (30, 28, 32), move),
    }
    for name, (matrix, shape, shift) in places.items():
        node = slicer.util.addVolumeFromArray(image(matrix, shape, shift), ijkToRAS=matrix, name=name)
        nodes.append(node)
    return nodes[0], nodes[1], move


@pytest.mark.slow
def test_a_click_registers_a_pair_and_slicer_itself_repeats_the_warp(panel, host, click, wait_until, blobs):
    import numpy as np
    import slicer
    import slicer.util
    from scipy.ndimage import binary_erosion

    fixed, moving, move = blobs
    parentMatrix = np.array([[0, -1, 0, 10], [1, 0, 0, -5], [0, 0, 1, 3], [0, 0, 0, 1]], float)
    parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Table")
    parent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(parentMatrix))
    fixed.SetAndObserveTransformNodeID(parent.GetID())
    moving.SetAndObserveTransformNodeID(parent.GetID())
    widget, ui = panel.widget, panel.widget.ui
    parameters = widget.logic.getParameterNode()
    parameters.fixedVolume, parameters.movingVolume = fixed, moving
    parameters.refinementSteps = 5
    click(ui.registerButton)
    run = widget.logic.run
    wait_until(lambda: not run.active, timeout=240)
    assert run.state.value == "done", run.error
    result = run.result
    metrics = result.report["metrics"]
    assert metrics["after"]["ncc"] > 0.9 > metrics["before"]["ncc"]
    assert result.report["folding_count"] == 0
    center = parentMatrix @ np.array([0.0, 0.0, 0.0, 1.0])
    moved = np.array(result.transform.GetTransformFromParent().TransformPoint(*center[:3])) - center[:3]
    assert np.abs(moved - parentMatrix[:3, :3] @ move).max() < 1.0

    warped = slicer.util.arrayFromVolume(result.warped)
    again = resampledBySlicer(moving, result.warped, result.transform)
    values = slicer.util.arrayFromVolume(moving)
    original, span = values.copy(), np.ptp(values)
    values[:] = 1.0  # borders are cut in other ways: compare what lies inside of the moving volume
    inside = binary_erosion(resampledBySlicer(moving, result.warped, result.transform) > 0.999, iterations=2)
    assert inside.sum() > 5000
    assert np.abs(again - warped)[inside].max() / span < 1e-5

    values[:] = original
    process = widget.logic.worker.processId
    click(ui.registerButton)
    second = widget.logic.run
    wait_until(lambda: not second.active, timeout=240)
    assert second.state.value == "done"
    assert widget.logic.worker.processId == process
    assert np.array_equal(slicer.util.arrayFromVolume(second.result.warped), warped)

    from AutoFuseRegistrationLib.ParameterNode import InitialAlignment

    warped = warped.copy()
    parameters.initialAlignment = InitialAlignment.TRANSFORM
    parameters.initialTransform, parameters.refinementSteps = second.result.transform, 0
    assert not second.result.transform.IsTransformToWorldLinear()
    click(ui.registerButton)
    third = widget.logic.run
    wait_until(lambda: not third.active, timeout=240)
    assert third.state.value == "done", third.error
    assert third.result.report["initial_deformation"] is True
    same = slicer.util.arrayFromVolume(third.result.warped)
    apart = np.abs(same - warped)[inside] / span  # the field was looked up on two more grids
    assert apart.max() < 0.02
    assert apart.mean() < 1e-3


def resampledBySlicer(moving, reference, transform):
    """The moving volume put under its parent and the result, and resampled by Slicer's own logic.

    The reference must lie in the world: for one under a transform, Slicer's logic takes the input's transform instead.
    """
    import slicer
    import slicer.util

    from AutoFuseLib import Placement

    parent = moving.GetParentTransformNode()
    Placement.putUnder(moving, transform)
    node = slicer.app.moduleLogic("Volumes").ResampleVolumeToReferenceVolume(moving, reference)
    node.SetAndObserveTransformNodeID(None)
    Placement.takeOut(moving)
    assert moving.GetParentTransformNode() is parent
    return slicer.util.arrayFromVolume(node).copy()


@pytest.mark.slow
def test_errors_of_the_engine_reach_the_panel_as_they_are(panel, host, click, wait_until, blobs):
    import numpy as np
    import slicer.util

    fixed, moving, _move = blobs
    widget = panel.widget
    parameters = widget.logic.getParameterNode()
    parameters.fixedVolume, parameters.movingVolume = fixed, moving
    values = slicer.util.arrayFromVolume(moving)
    whole = values.copy()
    wrong = {"image-not-finite": np.nan, "image-constant": 3.0}
    for code, value in wrong.items():
        values[:] = whole
        values[slice(None) if code == "image-constant" else (3, 4, 5)] = value
        click(widget.ui.registerButton)
        run = widget.logic.run
        wait_until(lambda run=run: not run.active, timeout=120)
        assert run.error.code == code
        assert "Moving" in widget.ui.statusLabel.text
    assert len(host.messages.ofKind("error")) == 2


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_message_and_the_next_click_works(panel, host, click, wait_until, blobs):
    fixed, moving, _move = blobs
    widget = panel.widget
    parameters = widget.logic.getParameterNode()
    parameters.fixedVolume, parameters.movingVolume = fixed, moving
    parameters.refinementSteps = 400
    click(widget.ui.registerButton)
    run = widget.logic.run
    wait_until(lambda: run.stage == "refinement", timeout=120)
    kill(widget.logic.worker.processId)
    wait_until(lambda: not run.active, timeout=20)
    assert run.error.code == "worker-died"
    assert len(host.messages.ofKind("error")) == 1
    parameters.refinementSteps = 2
    click(widget.ui.registerButton)
    second = widget.logic.run
    wait_until(lambda: not second.active, timeout=240)
    assert second.state.value == "done"


def kill(process: int) -> None:
    """End a process as a crash or the system would."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/PID", str(process)], check=True, capture_output=True)
    else:
        os.kill(process, signal.SIGKILL)


@pytest.mark.slow
def test_the_process_of_the_window_never_imports_torch():
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from Testing.host.session import boot
host = boot()
host.reset()
import importlib.util, pathlib
spec = importlib.util.spec_from_file_location("fixtures", {str(Path(__file__).parent / "conftest.py")!r})
fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixtures)
import slicer
from AutoFuseLib import WorkerProcess
panel = fixtures.RegistrationPanel(host, host.loadModule, None)
fixed, moving = panel.makePair()
panel.load()
panel.widget.logic.getParameterNode().refinementSteps = 1
host.click(panel.ui.registerButton)
host.waitUntil(lambda: not panel.run.active, 240)
assert panel.run.state.value == "done", panel.run.error
WorkerProcess.stopSharedWorker()
loaded = {{"torch", "safetensors", "matplotlib", "rich"}} & set(sys.modules)
print("LOADED", sorted(loaded), flush=True)
import os
os._exit(0)
"""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=400, check=False, env=environment
    )
    assert "LOADED []" in done.stdout, done.stdout + done.stderr


def test_the_module_tests_itself(host, load_module):
    module = load_module(MODULE)
    host.runModuleTest(module)


def test_a_script_registers_without_the_panel(host, load_module):
    import slicer

    from AutoFuseLib.FakeWorker import FakeWorker

    module = load_module(MODULE, show=False)
    source = module.source
    fixed, moving, _shift = source.AutoFuseRegistrationTest.makePair()
    logic = source.AutoFuseRegistrationLogic(worker=FakeWorker((6.0, -6.0, 2.5), automatic=True))
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode")
    result = logic.register(fixed, moving, wantJacobian=False)
    assert result.jacobian is None
    assert result.transform.GetScene() is slicer.mrmlScene
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode") == before
    with pytest.raises(ValueError, match="smoothnes"):
        logic.register(fixed, moving, smoothnes=2)


def test_the_sample_pair_is_offered(host, load_module):
    import slicer

    load_module(MODULE)
    host.completeStartup()
    (source,) = slicer.modules.sampleDataSources["AutoFuse"]
    assert source.nodeNames == ["MRBrainTumor1", "MRBrainTumor2"]
    assert all(len(checksum) == 71 for checksum in source.checksums)
    assert Path(source.thumbnailFileName).is_file()
