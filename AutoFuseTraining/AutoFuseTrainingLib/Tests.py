"""The module's own test: without torch, GPU or network, in less than a minute.

In Slicer: Reload and Test, or ``slicer.selfTests["AutoFuseTraining"]()``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from autofuse_engine.run_folder import RunFolder
from autofuse_engine.training_presets import preset_config

from . import Curves, RunList
from .Logic import AutoFuseTrainingLogic

STEPS = 40


class AutoFuseTrainingTest(ScriptedLoadableModuleTest):
    """Watches a run that is written by hand, and deletes it."""

    def setUp(self) -> None:
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run every test."""
        self.setUp()
        self.test_aRunIsWatchedThroughItsFolder()

    def test_aRunIsWatchedThroughItsFolder(self) -> None:
        """State, figures and curves are those of the files; deleting leaves nothing but what is not of the run."""
        with tempfile.TemporaryDirectory(prefix="AutoFuse-") as place:
            folder = Path(place) / "run"
            self.writeRun(folder)
            logic = AutoFuseTrainingLogic(worker=object())
            view = logic.view(folder)
            assert (view.state, view.status.step) == ("stopped", STEPS)
            assert RunList.isRun(folder)
            from AutoFuseLib.RunWatcher import RunWatcher

            watcher = RunWatcher(folder)
            assert watcher.readCurves()
            single, smooth = Curves.curvesOf(watcher, Curves.LOSS, 0.5)
            assert single.y[0] == smooth.y[0] == 1.0
            assert len(single.x) == STEPS
            (folder / "notes.txt").write_text("mine", encoding="utf-8")
            logic.delete(folder)
            assert [path.name for path in folder.iterdir()] == ["notes.txt"]
        self.delayDisplay("A run was watched and deleted.")

    @staticmethod
    def writeRun(folder: Path) -> None:
        """A run that was paused after some steps, as its files tell it."""
        run = RunFolder(folder)
        run.checkpoints.mkdir(parents=True)
        config = preset_config("brain-unsupervised", str(folder.parent / "prepared"))
        run.config.write_text(json.dumps(config.to_dict()), encoding="utf-8")
        rows = [f"{step},{1 / step},0.5" for step in range(1, STEPS + 1)]
        run.metrics.write_text("\n".join(["step,loss,seconds", *rows, ""]), encoding="utf-8")
        run.validation.write_text(f"step,score,dice\n0,0.3,0.3\n{STEPS},0.6,0.6\n", encoding="utf-8")
        answer = {"event": "result", "report": {"finished": False, "step": STEPS}}
        run.events.write_text(json.dumps(answer) + "\n", encoding="utf-8")
