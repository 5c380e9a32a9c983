"""The folder of a training run is its interface: where everything lies, how to stop it, and how it stands.

Standard library only, so that 3D Slicer's own process can watch and stop a training that runs detached from it.
docs/training.md describes each file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from autofuse_engine.errors import FileError
from autofuse_engine.run_lock import is_locked
from autofuse_engine.training_configs import TrainingConfig

RunState = Literal["running", "finished", "stopped", "failed", "interrupted", "new"]
_TAIL_BYTES = 1 << 16
_SEGMENTATION_COST = 0.3
"""Of a step that learns the segmentation alone, in steps that learn everything, as measured on a CPU."""
_TEXT_COLUMNS = ("fixed", "moving")


class RunFolder:
    """Names of everything in a run folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.events = self.path / "events.jsonl"
        self.metrics = self.path / "metrics.csv"
        self.validation = self.path / "validation.csv"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.safetensors"
        self.best = self.checkpoints / "best.safetensors"
        self.stop = self.path / "STOP"
        self.lock = self.path / "lock"
        self.tensorboard = self.path / "tensorboard"

    def read_config(self) -> TrainingConfig:
        """The configuration that the run was started with.

        Raises:
            FileError: ``run-not-found`` or ``run-invalid``.
        """
        try:
            return TrainingConfig.from_dict(json.loads(self.config.read_text(encoding="utf-8")))
        except OSError as error:
            raise FileError(
                "run-not-found",
                f"The folder {self.path} holds no training run: {self.config.name} cannot be read.",
                "Check the path, or start a training there.",
            ) from error
        except (ValueError, TypeError, AttributeError) as error:
            raise FileError(
                "run-invalid",
                f"The configuration {self.config} cannot be used: {error}.",
                "Restore it, or start a new run in another folder.",
            ) from error


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How a run stands.

    Attributes:
        state: ``running``; ``finished`` (all steps done); ``stopped`` (as asked); ``failed`` (with an error);
            ``interrupted`` (its process died); ``new`` (nothing happened yet).
        step: steps that are done and recorded.
        steps: steps of all stages.
        metrics: the last row of ``metrics.csv`` by column, numbers where they are.
        validation: the last row of ``validation.csv`` likewise.
        best: the row of ``validation.csv`` with the best score, or None.
        learns: what the last step taught, or the first one will: ``everything`` or ``segmentation``.
        seconds_left: as the last steps suggest; None where unknown or nothing is left.
        problem: the error of a failed run, or None.
    """

    state: RunState
    step: int
    steps: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)
    best: Mapping[str, Any] | None = None
    learns: str = "everything"
    seconds_left: float | None = None
    problem: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return asdict(self)


def read_status(path: str | Path) -> RunStatus:
    """How the run in a folder stands; reads only the ends of long files.

    Raises:
        FileError: ``run-not-found``, ``run-invalid``, ``run-lock-unsupported``.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    running = is_locked(folder.lock)
    rows = read_rows(folder.metrics, last=50)
    judged = read_rows(folder.validation)
    event = _last_answer(folder.events)
    step = int(rows[-1]["step"]) if rows else 0
    state: RunState = "new" if not rows and not event else "interrupted"
    problem = None
    if running:
        state = "running"
    elif event.get("event") == "result":
        state = "finished" if event.get("report", {}).get("finished") else "stopped"
    elif event.get("event") == "error":
        state, problem = "failed", {name: event.get(name) for name in ("code", "text", "hint")}
    scored = [row for row in judged if isinstance(row.get("score"), float) and row["step"] > 0]
    return RunStatus(
        state=state,
        step=step,
        steps=config.steps,
        metrics=rows[-1] if rows else {},
        validation=judged[-1] if judged else {},
        best=max(scored, key=lambda row: row["score"], default=None),
        learns=config.stages[config.stage_at(min(max(step, 1), config.steps) - 1)[0]].learns,
        seconds_left=_seconds_left(config, rows, step),
        problem=problem,
    )


def _seconds_left(config: TrainingConfig, rows: Sequence[Mapping[str, Any]], step: int) -> float | None:
    """By the pace of the last steps; those that learn the segmentation alone count for less."""
    timed = [row for row in rows if isinstance(row.get("seconds"), float)]
    if not timed or step >= config.steps:
        return None
    paid = _cost(config, step) - _cost(config, step - len(timed))
    return (_cost(config, config.steps) - _cost(config, step)) * sum(row["seconds"] for row in timed) / paid


def _cost(config: TrainingConfig, step: int) -> float:
    """Of all steps before a step, in steps that learn everything."""
    cost, begin = 0.0, 0
    for stage in config.stages:
        each = _SEGMENTATION_COST if stage.learns == "segmentation" else 1.0
        cost += each * min(max(step - begin, 0), stage.steps)
        begin += stage.steps
    return cost


def request_stop(path: str | Path) -> None:
    """Ask the run in a folder to write a checkpoint and stop after the current step.

    Raises:
        FileError: ``run-not-found``, ``run-invalid``, ``run-not-running``, ``output-not-writable``.
    """
    folder = RunFolder(path)
    folder.read_config()
    if not is_locked(folder.lock):
        raise FileError("run-not-running", f"No training runs in {folder.path}.", "There is nothing to stop.")
    try:
        folder.stop.touch()
    except OSError as error:
        raise FileError(
            "output-not-writable", f"The file {folder.stop} cannot be written.", "Check that the folder allows writing."
        ) from error


def read_rows(path: Path, last: int | None = None) -> list[dict[str, Any]]:
    """Rows of a table that a run writes, by column; numbers as ``int`` or ``float``, empty cells None.

    Args:
        path: the table; an absent one has no rows.
        last: only so many rows from the end.
    """
    return [
        {name: text if name in _TEXT_COLUMNS else _value(text) for name, text in row.items()}
        for row in read_cells(path, last)
    ]


def read_cells(path: Path, last: int | None = None) -> list[dict[str, str]]:
    """The same as it is written. A line that is not finished, because the run was killed or is just writing it, and
    one that does not have the header's number of cells, are left out."""
    try:
        with path.open("rb") as stream:
            head = stream.readline()
            size = stream.seek(0, 2)
            start = max(len(head), size - _TAIL_BYTES) if last is not None else len(head)
            stream.seek(start)
            body = stream.read()
    except FileNotFoundError:
        return []
    lines = body.split(b"\n")[:-1]
    if start > len(head):
        lines = lines[1:]
    names = head.decode("utf-8").strip().split(",")
    rows = csv.reader(line.decode("utf-8").rstrip("\r") for line in (lines if last is None else lines[-last:]))
    return [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]


def _value(text: str) -> Any:
    if text == "":
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _last_answer(path: Path) -> dict[str, Any]:
    """The last line of the events, which says how a run ended that does not run any more; empty where unreadable."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES))
            lines = stream.read().split(b"\n")
    except FileNotFoundError:
        return {}
    for line in reversed(lines):
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            return content
    return {}
