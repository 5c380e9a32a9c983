"""What the training module can do without a widget, also from a script: prepare, start, watch, stop, export."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from autofuse_engine.errors import AutoFuseError, FileError, InputError
from autofuse_engine.events import Result
from autofuse_engine.run_folder import RunFolder, request_stop
from autofuse_engine.training_configs import TrainingConfig
from AutoFuseLib import Dependencies, DetachedProcess
from AutoFuseLib.RunWatcher import LaunchFiles, RunView, lookAt, recordLaunch
from AutoFuseLib.WorkerProcess import WorkerProcess

from . import RunList
from .Jobs import Job
from .ParameterNode import AutoFuseTrainingParameterNode

_TURN_S = 0.005


class AutoFuseTrainingLogic(ScriptedLoadableModuleLogic):
    """Trains networks in processes of their own.

    From a script::

        logic = slicer.util.getModuleLogic("AutoFuseTraining")
        report = logic.run("dataset_check", {"folder": "/data/hearts"}).report
        logic.run("dataset_prepare", {"folder": "/data/hearts", "output": "/data/prepared", "config": {}})
        logic.start(preset_config("brain-unsupervised", "/data/prepared"), "/data/runs/first")
        print(logic.view("/data/runs/first").state)
    """

    def __init__(self, worker: Any = None) -> None:
        """
        Args:
            worker: runs the jobs; None for a worker process of this module's own, so that a long preparation does not
                keep a registration waiting. Tests give another one.
        """
        ScriptedLoadableModuleLogic.__init__(self)
        self._worker = worker
        self._ownsPackages = worker is None
        self._jobs: list[Job] = []

    @property
    def worker(self) -> Any:
        """What runs the jobs; made on first use."""
        if self._worker is None:
            self._worker = WorkerProcess()
        return self._worker

    def getParameterNode(self) -> AutoFuseTrainingParameterNode:
        """The choices of the current scene."""
        return AutoFuseTrainingParameterNode(super().getParameterNode())

    def missingPackages(self) -> list[str]:
        """Python packages that must be installed before anything is computed."""
        return Dependencies.missing() if self._ownsPackages else []

    # ------------------------------------------------------------------------------------------------ jobs

    def ask(self, name: str, spec: Mapping[str, Any], listener: Callable[[Job], None]) -> Job:
        """Begin a job of the worker; docs/worker-protocol.md names them.

        Args:
            name: of the job.
            spec: what it needs.
            listener: called after every change.
        """
        self._jobs = [job for job in self._jobs if job.active]
        job = Job(self.worker, name, spec, listener)
        self._jobs.append(job)
        return job

    def run(self, name: str, spec: Mapping[str, Any]) -> Result:
        """Do a job and wait for its end; the window stays responsive. For scripts.

        Raises:
            AutoFuseError: if the job failed.
        """
        self.requirePackages()
        job = self.ask(name, spec, lambda job: None)
        while job.active:
            slicer.app.processEvents()
            time.sleep(_TURN_S)
        if job.error is not None:
            raise job.error
        return job.result

    def requirePackages(self) -> None:
        """Refuse to go on where torch is missing.

        Raises:
            InputError: ``packages-missing``.
        """
        missing = self.missingPackages()
        if missing:
            raise InputError(
                "packages-missing",
                _("Python packages are missing: {names}.").format(names=", ".join(missing)),
                _("Press Check once in the module AutoFuse Training, which offers to install them."),
            )

    def stop(self, now: bool = False) -> None:
        """End the worker and drop its jobs without a word; trainings go on.

        Args:
            now: wait until it is gone, for Slicer's exit.
        """
        for job in self._jobs:
            job.abandon()
        self._jobs = []
        worker = self._worker
        if worker is not None and self._ownsPackages:
            self._worker = None
            worker.stopNow() if now else worker.stop()

    # ------------------------------------------------------------------------------------------------ trainings

    @staticmethod
    def runs() -> list[Path]:
        """Folders of the known runs."""
        return RunList.known()

    @staticmethod
    def view(folder: str | Path) -> RunView:
        """How the run in a folder stands."""
        return lookAt(folder)

    def start(self, config: TrainingConfig, folder: str | Path) -> None:
        """Start a training that outlives Slicer.

        Args:
            config: of the training.
            folder: of the new run; made where absent.

        Raises:
            FileError: ``run-exists``, ``run-locked``, ``output-not-writable``, ``training-not-started``.
            InputError: ``packages-missing``.
        """
        self.requirePackages()
        folder = Path(folder).absolute()
        self._refuseActive(folder)
        if RunFolder(folder).config.exists():
            raise FileError(
                "run-exists",
                _("The folder {folder} holds a training run already.").format(folder=folder),
                _("Resume it, or choose another folder."),
            )
        request = LaunchFiles(folder).request
        try:
            folder.mkdir(parents=True, exist_ok=True)
            request.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise _notWritable(folder) from error
        self._launch(folder, [str(request)])

    def resume(self, folder: str | Path) -> None:
        """Let a run go on from its last checkpoint; one that never began begins.

        Raises:
            FileError: ``run-locked``, ``run-not-found``, ``output-not-writable``, ``training-not-started``.
            InputError: ``packages-missing``.
        """
        self.requirePackages()
        folder = Path(folder).absolute()
        self._refuseActive(folder)
        request = LaunchFiles(folder).request
        began = RunFolder(folder).config.exists()
        if not began and not request.exists():
            RunFolder(folder).read_config()  # raises what is wrong
        self._launch(folder, ["--resume"] if began else [str(request)])

    def pause(self, folder: str | Path) -> None:
        """Ask a run to write a checkpoint and end after its current step.

        Raises:
            FileError: ``run-not-running``, or what reading the folder raises.
        """
        request_stop(folder)

    def delete(self, folder: str | Path) -> None:
        """Remove a run's files from disk, and its folder if nothing else lies there.

        Raises:
            FileError: ``run-locked`` while it runs; ``output-not-writable``.
        """
        folder = Path(folder).absolute()
        self._refuseActive(folder)
        run, launch = RunFolder(folder), LaunchFiles(folder)
        try:
            for part in (run.checkpoints, run.tensorboard):
                if part.is_dir():
                    shutil.rmtree(part)
            for path in (run.config, run.events, run.metrics, run.validation, run.stop, run.lock, *launch.all()):
                path.unlink(missing_ok=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        except OSError as error:
            raise _notWritable(folder) from error
        RunList.forget(folder)

    def _refuseActive(self, folder: Path) -> None:
        if lookAt(folder).active:
            raise FileError(
                "run-locked",
                _("A training runs in {folder}.").format(folder=folder),
                _("Stop it first, or choose another folder."),
            )

    def _launch(self, folder: Path, options: list[str]) -> None:
        launch = LaunchFiles(folder)
        arguments = ["train", "run", *options, "--run-dir", str(folder), "--quiet", "--json"]
        try:
            recordLaunch(folder)
        except OSError as error:
            raise _notWritable(folder) from error
        try:
            started = DetachedProcess.startDetached(arguments, launch.output, launch.log)
        except FileNotFoundError:
            started = False
        if not started:
            launch.record.unlink(missing_ok=True)
            raise FileError(
                "training-not-started",
                _("The training process could not be started."),
                _("Restart Slicer; if it stays, install Slicer and the extension again."),
            )
        RunList.remember(folder)


def _notWritable(folder: Path) -> AutoFuseError:
    return FileError(
        "output-not-writable",
        _("The folder {folder} cannot be written.").format(folder=folder),
        _("Check that it allows writing and that the disk has room, or choose another folder."),
    )
