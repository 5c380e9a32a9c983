"""What the tests of the training module share: its panel over a fake worker, runs written by hand, tiny datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autofuse_engine.events import Error, Progress, Result, Warning

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "AutoFuseTraining" / "AutoFuseTraining.py"


class FakeJobs:
    """Takes jobs as ``WorkerProcess`` does; the test answers each."""

    state = "ready"
    logPath: Path | None = None

    def __init__(self) -> None:
        self.jobs: list[tuple[str, Mapping[str, Any]]] = []
        self.cancelled: list[int] = []
        self.stops: list[str] = []
        self._callbacks: dict[int, Any] = {}

    def submit(self, job: str, spec: Mapping[str, Any], onEvent: Any, onAnswer: Any) -> int:
        json.dumps(spec, allow_nan=False)
        self.jobs.append((job, spec))
        self._callbacks[len(self.jobs)] = (onEvent, onAnswer)
        return len(self.jobs)

    def cancel(self, jobId: int) -> None:
        self.cancelled.append(jobId)

    def stop(self) -> None:
        self.stops.append("stop")

    def stopNow(self) -> None:
        self.stops.append("now")

    def progress(self, stage: str, fraction: float, text: str = "") -> None:
        self._callbacks[len(self.jobs)][0](Progress(stage=stage, fraction=fraction, text=text))

    def warn(self, text: str) -> None:
        self._callbacks[len(self.jobs)][0](Warning(code="labels-cut", text=text))

    def succeed(self, report: Mapping[str, Any], files: Mapping[str, str] | None = None) -> None:
        self._callbacks.pop(len(self.jobs))[1](Result(report=report, files=files or {}))

    def fail(self, code: str, text: str = "It failed.", hint: str = "Cure it.") -> None:
        self._callbacks.pop(len(self.jobs))[1](Error(code=code, text=text, hint=hint))


class TrainingHands:
    """The module's panel in the hands of a test."""

    def __init__(self, host: Any, loadModule: Any, monkeypatch: Any, tmp: Path) -> None:
        self.host, self._loadModule, self.tmp = host, loadModule, tmp
        self.jobs = FakeJobs()
        self.launched: list[list[str]] = []
        monkeypatch.setattr("AutoFuseLib.Dependencies.missing", lambda: [])
        monkeypatch.setenv("AUTOFUSE_MODELS", str(tmp / "Modelle"))

        def launch(arguments: Any, output: Path, log: Path, environment: Any = None) -> bool:
            self.launched.append(list(arguments))
            return True

        monkeypatch.setattr("AutoFuseLib.DetachedProcess.startDetached", launch)
        self.module: Any = None

    def load(self) -> Any:
        """Open the module over the fake worker."""
        self.module = self._loadModule(MODULE)
        self.widget.logic._worker = self.jobs
        return self.module

    @property
    def widget(self) -> Any:
        return self.module.widget

    @property
    def ui(self) -> Any:
        return self.module.widget.ui

    @property
    def parameters(self) -> Any:
        return self.widget.logic.getParameterNode()

    def show(self, folder: Path) -> None:
        """Watch the run in a folder, as after Add."""
        import AutoFuseTrainingLib.RunList as RunList

        RunList.remember(folder)
        self.widget.runs.choose(folder)

    def images(self) -> Path:
        """A folder that looks like a dataset to the panel."""
        folder = self.tmp / "meine Bilder"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        return folder

    def prepared(self, labels: int = 2, train: int = 4) -> Path:
        """A prepared dataset as its manifest tells it."""
        folder = self.tmp / "fertig gemacht"
        folder.mkdir(exist_ok=True)
        mark = {"labelmap": {"file": "x"} if labels else None}
        cases = [{"name": f"c{number}", "split": "train", "group": f"p{number}", **mark} for number in range(train)]
        content = {
            "format": "autofuse-prepared-dataset",
            "version": 1,
            "shape": [32, 48, 64],
            "preprocessing": {"spacing_mm": [1.5, 2.0, 2.5]},
            "labels": [{"value": number + 1, "name": f"part {number}"} for number in range(labels)],
            "cases": [*cases, {"name": "judge", "split": "validation"}],
            "dataset": {"name": "Hearts <A>", "licence": "CC-BY-4.0", "reference": "A. Müller et al."},
        }
        (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
        return folder


def writeSegmentingRun(folder: Path, dataset: Path, done: int) -> Path:
    """A run whose first 40 steps learn the segmentation alone; after each 20 steps it was judged."""
    from autofuse_engine.configs import NetworkConfig
    from autofuse_engine.run_folder import RunFolder
    from autofuse_engine.training_configs import Stage, TrainingConfig

    run = RunFolder(writeRun(folder, dataset, done=done, ending=ended(False, done)))
    stages = (Stage(steps=40, pairs="labelled", learns="segmentation"), Stage(steps=60, pairs="labelled"))
    config = TrainingConfig(dataset=str(dataset), network=NetworkConfig(classes=3), stages=stages)
    run.config.write_text(json.dumps(config.to_dict()), encoding="utf-8")
    rows = [f"{step},{2.0 / step},{'' if step <= 40 else -0.1},{2.0 / step},0.1" for step in range(1, done + 1)]
    run.metrics.write_text("\n".join(["step,loss,similarity,fixed_segmentation,seconds", *rows, ""]), encoding="utf-8")
    judged = [f"{step},0.61,0.61,0.5,{0.1 + 0.01 * step}" for step in range(0, done + 1, 20)]
    head = "step,score,dice,similarity,segmentation_dice"
    run.validation.write_text("\n".join([head, *judged, ""]), encoding="utf-8")
    return folder


def writeRun(folder: Path, dataset: Path, *, steps: int = 100, done: int = 60, ending: Any = None) -> Path:
    """A run as its files tell it.

    Args:
        folder: of the run.
        dataset: that it was started with.
        steps: of all stages.
        done: rows of the metrics.
        ending: the last event; None for a process that said nothing more.
    """
    from autofuse_engine.run_folder import RunFolder
    from autofuse_engine.training_configs import Stage, TrainingConfig

    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    run.last.write_bytes(b"weights")
    run.best.write_bytes(b"weights")
    config = TrainingConfig(dataset=str(dataset), stages=(Stage(steps=steps),))
    run.config.write_text(json.dumps(config.to_dict()), encoding="utf-8")
    rows = [f"{step},{2.0 / step**0.5 + (step % 7) * 0.02},c0,c1,0.5" for step in range(1, done + 1)]
    run.metrics.write_text("\n".join(["step,loss,fixed,moving,seconds", *rows, ""]), encoding="utf-8")
    judged = [
        f"{step},{0.3 + 0.005 * step},{0.3 + 0.005 * step},{0.5 + 0.002 * step}" for step in range(0, done + 1, 20)
    ]
    run.validation.write_text("\n".join(["step,score,dice,similarity", *judged, ""]), encoding="utf-8")
    events: list[Any] = [{"event": "progress", "stage": "training", "fraction": 0.0, "text": "started at step 0"}]
    events += [{"event": "metric", "stage": "validation", "step": 20, "values": {"score": 0.4}}]
    events += [ending] if ending else []
    lines = [json.dumps({"time": "2026-01-02T03:04:05+00:00", **event}) for event in events]
    run.events.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return folder


def ended(finished: bool, step: int) -> dict[str, Any]:
    """The last event of a run that came to a good end."""
    return {"event": "result", "files": {}, "report": {"finished": finished, "step": step, "best": None}}


def checkReport(problems: bool = False) -> dict[str, Any]:
    """What a check answers."""
    found = []
    if problems:
        text = "The labelmap of anna lies on another grid than its image."
        found = [
            {"severity": "error", "code": "labels-grid-differs", "text": text, "hint": "Resample.", "cases": ["anna"]},
            {"severity": "warning", "code": "few-cases", "text": "3 cases are few.", "hint": "", "cases": []},
        ]
    cases = [
        {"name": name, "split": split, "size": [20, 24, 28], "spacing_mm": [2.0, 1.5, 2.5],
         "label_voxels": {"1": 100, "7": 20}, "problems": found[:1] if name == "anna" else []}
        for name, split in (("anna", "train"), ("ben", "train"), ("carla", "validation"))
    ]  # fmt: skip
    return {
        "path": "somewhere", "layout": "folder", "about": {"name": "Hearts <A>"}, "cases": cases,
        "labels": [{"value": value, "name": name, "cases": 3, "mean_ml": 2.0} for value, name in ((1, "rim"), (7, ""))],
        "problems": found, "splits": {"train": 2, "validation": 1}, "labelled_cases": 3,
        "counts": {"error": int(problems), "warning": int(problems), "info": 0},
    }  # fmt: skip
