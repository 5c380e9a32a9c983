"""Train a registration network on a prepared dataset, in a run folder from which it can be resumed exactly."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from autofuse_engine import __version__
from autofuse_engine.data.atomic import replacing, write_error
from autofuse_engine.data.manifest import MANIFEST
from autofuse_engine.data.pairs import PairSampler
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.distributed import Processes, joined_processes
from autofuse_engine.errors import AutoFuseError, FileError, InputError
from autofuse_engine.events import Error, Event, Metric, Progress, Report, Result, Warning, silent
from autofuse_engine.run_folder import RunFolder
from autofuse_engine.run_lock import RunLock
from autofuse_engine.run_records import RunRecords
from autofuse_engine.training_configs import TrainingConfig, term_names
from autofuse_engine.training_pairs import ClassTable, PairReader
from autofuse_engine.training_start import TrainingStart, begin_with
from autofuse_engine.training_state import read_state, restore, write_state
from autofuse_engine.training_step import StepFigures, Stepper, network_for_training
from autofuse_engine.validation import ValidationFigures, Validator, figure_names

STAGE = "training"


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        step: steps done.
        finished: whether these are all; False where it was asked to stop.
        best: step, score and figures of the best validation so far, or None.
    """

    step: int
    finished: bool
    best: dict[str, Any] | None


def train(
    config: TrainingConfig | None,
    run_folder: str | Path,
    *,
    resume: bool = False,
    report: Report = silent,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Run the training that the configuration describes; under torchrun, together with the other processes.

    Args:
        config: all choices; None resumes with those of the folder. Resuming with others than before is told in a
            warning; the network must be the same.
        run_folder: made where absent; docs/training.md describes what it receives.
        resume: go on from the last checkpoint, or begin where there is none.
        report: receives events, in the first process.
        stop: asked between steps; True writes a checkpoint and ends the run, as does a file ``STOP`` in the folder.

    Raises:
        AutoFuseError: if the dataset, the folder or the device cannot be used, or the training diverges.
    """
    folder = RunFolder(run_folder)
    with ExitStack() as stack:
        if config is None:
            config = folder.read_config()
        processes = stack.enter_context(joined_processes(config.device))
        if processes.first:
            _prepare_folder(folder, resume)
            stack.enter_context(RunLock(folder.lock))
            folder.stop.unlink(missing_ok=True)  # of an earlier run: from now on somebody means this one
        processes.any(False)  # the others wait until the folder is there
        run = _Run(config, folder, processes, report if processes.first else silent)
        changed = run.open(resume)
        if processes.first:
            # A run that begins judges the untrained network first, whatever a killed one has written.
            last_step = run.place.step or -1
            records = stack.enter_context(
                RunRecords(folder, term_names(config.losses, config.network), figure_names(config), last_step)
            )
            run.records = records
        return run.execute(stop, changed)


def _prepare_folder(folder: RunFolder, resume: bool) -> None:
    if folder.config.exists() and not resume:
        raise FileError(
            "run-exists",
            f"The folder {folder.path} holds a training run already.",
            "Go on with it by --resume, or choose another folder.",
        )
    try:
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        for left_over in folder.checkpoints.glob(".autofuse-*"):
            left_over.unlink()
    except OSError as error:
        raise write_error(folder.config, error) from error


@dataclass
class _Place:
    """Where a run stands; stored in each checkpoint."""

    step: int = 0
    skipped: int = 0
    failures_in_a_row: int = 0
    best: dict[str, Any] | None = None


@dataclass
class _Run:
    config: TrainingConfig
    folder: RunFolder
    processes: Processes
    report: Report
    place: _Place = field(default_factory=_Place)
    records: RunRecords | None = None
    start: TrainingStart | None = None
    remarks: list[str] = field(default_factory=list)

    def open(self, resume: bool) -> list[str]:
        """Dataset, network, optimizer and the place where the run goes on; names of what changed since it began."""
        config, processes = self.config, self.processes
        if config.batch % processes.count:
            raise InputError(
                "batch-not-divisible",
                f"A batch of {config.batch} cannot be shared among {processes.count} processes.",
                f"Choose a batch that is a multiple of {processes.count}.",
            )
        dataset = PreparedDataset.open(config.dataset).with_labels_of(config.labelled_percent, config.seed)
        self.dataset = dataset
        self.table = ClassTable([label.value for label in dataset.labels])
        _check_classes(config, dataset)
        self.samplers = [
            PairSampler(dataset, stage.pairs, "train", config.seed + number)
            for number, stage in enumerate(config.stages)
        ]
        pairs = self.samplers[-1].validation_pairs(config.validation_pairs)
        self.validator = Validator(config, dataset, pairs, self.table, processes)
        network = network_for_training(config, processes.device)
        goes_on = resume and self.folder.last.exists()
        if config.start_from is not None and not goes_on:
            self.start, self.remarks = begin_with(
                network, config.network, config.start_from, dataset.labels, dataset.preprocessing
            )
        self.stepper = Stepper(config, network, processes)
        changed = self._restore() if goes_on else []
        if processes.first:
            text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False) + "\n"
            with replacing(self.folder.config) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return changed

    def _restore(self) -> list[str]:
        tensors, facts = read_state(self.folder.last)
        before, now = _with_defaults(facts["config"]), json.loads(json.dumps(self.config.to_dict()))
        changed = sorted(name for name in now if now[name] != before.get(name))
        if "network" in changed:
            raise InputError(
                "run-network-differs",
                f"The run in {self.folder.path} was started with another network.",
                "Resume it with its own, or start a new run in another folder.",
            )
        if facts["dataset"]["manifest_sha256"] != _dataset_facts(self.dataset)["manifest_sha256"]:
            changed.append("content of the dataset")
        restore(self.folder.last, tensors, self.stepper.network, self.stepper.optimizer)
        self.place = _Place(**facts["place"])
        self.start = TrainingStart.from_dict(facts["start"]) if facts.get("start") else None
        self.stepper.failures_in_a_row = self.place.failures_in_a_row
        return changed

    def execute(self, stop: Callable[[], bool], changed: Sequence[str]) -> TrainingResult:
        """Take all steps that are left."""
        try:
            steps = self.config.steps
            begun = "resumed" if self.place.step else "started"
            self._tell(
                Progress(stage=STAGE, fraction=self.place.step / steps, text=f"{begun} at step {self.place.step}")
            )
            if changed:
                names = ", ".join(changed)
                self._tell(Warning(code="run-config-changed", text=f"The run goes on with a different {names}."))
            for text in self.remarks:
                self._tell(Warning(code="training-start-partial", text=text))
            if self.place.step == 0:
                self._validate()
            finished = self._steps(stop)
        except AutoFuseError as error:
            self._tell(Error(code=error.code, text=error.text, hint=error.hint))
            raise
        outcome = {"finished": finished, "step": self.place.step, "best": self.place.best}
        self._tell(Result(report=outcome))
        return TrainingResult(step=self.place.step, finished=finished, best=self.place.best)

    def _steps(self, stop: Callable[[], bool]) -> bool:
        config, processes = self.config, self.processes
        share = config.batch // processes.count
        mine = range(processes.rank * share, (processes.rank + 1) * share)
        written = time.monotonic()
        table = self.table if config.uses_labels else None
        with PairReader(config, self.dataset, self.samplers, table, processes.device) as reader:
            while self.place.step < config.steps:
                if processes.any(processes.first and (stop() or self.folder.stop.exists())):
                    self._write_last()
                    if processes.first:
                        self.folder.stop.unlink(missing_ok=True)
                    return False
                started = time.monotonic()
                step = self.place.step
                names: list[tuple[str, str]] = []

                def read(step: int, number: int, names: list[tuple[str, str]]) -> Any:
                    then: tuple[int, int] | None = (step, number + 1) if number + 1 in mine else (step + 1, mine.start)
                    pair = reader.pair(step, number, then if then[0] < config.steps else None)
                    names.append(pair.names)
                    return pair

                figures = self.stepper.step(step, [partial(read, step, number, names) for number in mine])
                self.place.step += 1
                self.place.skipped += figures.skipped
                self.place.failures_in_a_row = self.stepper.failures_in_a_row
                self._record(figures, names, time.monotonic() - started)
                last = self.place.step == config.steps
                if self.place.step % config.validation_every == 0 or last:
                    self._validate()
                    self._write_last()
                    written = time.monotonic()
                elif processes.first and time.monotonic() - written > 60 * config.checkpoint_minutes:
                    self._write_last()
                    written = time.monotonic()
        return True

    def _record(self, figures: StepFigures, names: Sequence[tuple[str, str]], seconds: float) -> None:
        if self.records is None:
            return
        stage, _ = self.config.stage_at(self.place.step - 1)
        self.records.step(
            {
                "step": self.place.step,
                "stage": stage + 1,
                "learning_rate": self.config.stages[stage].learning_rate,
                "loss": figures.loss,
                **figures.terms,
                "gradient_norm": figures.gradient_norm,
                "skipped": int(figures.skipped),
                "fixed": " ".join(fixed for fixed, _ in names),
                "moving": " ".join(moving for _, moving in names),
                "seconds": round(seconds, 4),
            }
        )
        if figures.skipped:
            text = f"The gradient of step {self.place.step} was not finite: the step was skipped."
            self._tell(Warning(code="step-skipped", text=text))
        values = {"loss": figures.loss} | {name: value for name, value in figures.terms.items() if value is not None}
        self.report(Metric(stage=STAGE, step=self.place.step, values=values))
        fraction = self.place.step / self.config.steps
        self.report(Progress(stage=STAGE, fraction=fraction, text=f"step {self.place.step} of {self.config.steps}"))

    def _validate(self) -> None:
        started = time.monotonic()
        judged: ValidationFigures = self.validator.judge(self.stepper.network)
        row = {"step": self.place.step, "score": judged.score, **judged.figures}
        best = self.place.best
        judges_training = self.place.step > 0 or self.start is not None  # random weights are no model
        if judges_training and (best is None or judged.score > best["score"]):
            self.place.best = row
            self._write(self.folder.best, with_optimizer=False)
        if self.records is not None:
            self.records.validated({**row, "seconds": round(time.monotonic() - started, 4)})
            known = {name: value for name, value in row.items() if name != "step" and value is not None}
            self._tell(Metric(stage="validation", step=self.place.step, values=known))

    def _write_last(self) -> None:
        self._write(self.folder.last, with_optimizer=True)

    def _write(self, path: Path, *, with_optimizer: bool) -> None:
        if not self.processes.first:
            return
        place = self.place
        facts = {
            "engine": __version__,
            "torch": str(torch.__version__),
            "config": self.config.to_dict(),
            "dataset": _dataset_facts(self.dataset),
            "start": None if self.start is None else self.start.to_dict(),
            "place": {
                "step": place.step,
                "skipped": place.skipped,
                "failures_in_a_row": place.failures_in_a_row,
                "best": place.best,
            },
        }
        write_state(path, self.stepper.network, self.stepper.optimizer if with_optimizer else None, facts)

    def _tell(self, event: Event) -> None:
        """Record an event, and report it."""
        if self.records is not None:
            self.records.event(event)
        self.report(event)


def _with_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration with what an older version did not know yet; as it is where it cannot be read."""
    try:
        return json.loads(json.dumps(TrainingConfig.from_dict(content).to_dict()))
    except ValueError:
        return content


def _check_classes(config: TrainingConfig, dataset: PreparedDataset) -> None:
    classes = config.network.classes
    if classes and classes != len(dataset.labels) + 1:
        raise InputError(
            "classes-differ",
            f"The network segments {classes} classes, but the dataset has {len(dataset.labels)} labels and background.",
            f"Set network.classes to {len(dataset.labels) + 1}, or to 0 for a network that does not segment.",
        )


def _dataset_facts(dataset: PreparedDataset) -> dict[str, Any]:
    """What a checkpoint, and the card of a model made from it, say of the data."""
    splits: dict[str, int] = {}
    for case in dataset.cases:
        splits[case.split] = splits.get(case.split, 0) + 1
    labelled = sum(case.split == "train" and case.has_labels for case in dataset.cases)
    return {
        **dict(dataset.manifest.dataset),
        "manifest_sha256": hashlib.sha256((dataset.folder / MANIFEST).read_bytes()).hexdigest(),
        "cases": splits,
        "labelled_training_cases": labelled,
        "shape": list(dataset.shape),
        "labels": [
            {"value": label.value, "name": label.name, "sources": list(label.sources)} for label in dataset.labels
        ],
        "preprocessing": dataset.preprocessing.to_dict(),
    }
