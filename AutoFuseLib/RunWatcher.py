"""Watches a training through its folder alone, so that any Slicer can: state, figures, curves, log, errors."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from autofuse_engine.errors import AutoFuseError
from autofuse_engine.run_folder import RunFolder, RunStatus, read_status
from autofuse_engine.run_lock import holder
from AutoFuseLib.GrowingTable import GrowingTable

START_SECONDS = 180.0
"""From the start of the process to its first sign of life; loading torch from a slow disk is the longest part."""

ACTIVE = ("starting", "running", "stopping")
_LOG_BYTES = 1 << 15


class LaunchFiles:
    """What Slicer adds to a run folder when it starts a training there."""

    def __init__(self, folder: str | Path) -> None:
        self.request = Path(folder) / "start.json"
        """The configuration that the training is started with."""
        self.record = Path(folder) / "launch.json"
        """When it was started."""
        self.output = Path(folder) / "launch.out"
        """What the process said at its end, JSON."""
        self.log = Path(folder) / "launch.log"
        """Its log."""

    def all(self) -> tuple[Path, ...]:
        """Every file."""
        return self.request, self.record, self.output, self.log


@dataclass(frozen=True, kw_only=True)
class RunView:
    """How a run stands.

    Attributes:
        folder: of the run.
        state: ``starting``, ``stopping``, or one of ``RunStatus``; ``unreadable`` where the folder cannot be read.
        status: its figures; None where it has not begun or cannot be read.
        error: why it failed or cannot be read.
    """

    folder: Path
    state: str
    status: RunStatus | None = None
    error: AutoFuseError | None = None

    @property
    def active(self) -> bool:
        """Whether a process works, or is about to."""
        return self.state in ACTIVE


@dataclass
class RunWatcher:
    """One run; :meth:`look` and :meth:`readCurves` are called again and again."""

    folder: Path
    metrics: GrowingTable = field(init=False)
    validation: GrowingTable = field(init=False)

    def __post_init__(self) -> None:
        run = RunFolder(self.folder)
        self.metrics = GrowingTable(run.metrics, ("step", "loss", "seconds"))
        judged = ("step", "score", "dice", "similarity", "segmentation_dice", "folding_percent")
        self.validation = GrowingTable(run.validation, judged)

    def look(self) -> RunView:
        """The state now."""
        return lookAt(self.folder)

    def readCurves(self) -> bool:
        """Take in what was written since; whether anything was."""
        return any([self.metrics.read(), self.validation.read()])


def lookAt(folder: str | Path) -> RunView:
    """How the run in a folder stands; never raises."""
    folder = Path(folder)
    run, launch = RunFolder(folder), LaunchFiles(folder)
    try:
        status, error = read_status(folder), None
    except AutoFuseError as problem:
        status, error = None, problem
    started = _launched(launch)
    begun = started is None or _hasBegun(run, started)
    if status is not None and status.state == "running":
        state = "starting" if not begun else "stopping" if run.stop.exists() else "running"
        return RunView(folder=folder, state=state, status=status)
    if not begun:
        ended = _answer(launch)
        if ended.get("status") == "error":
            return RunView(folder=folder, state="failed", status=status, error=_errorOf(ended))
        if time.time() - started < START_SECONDS:
            return RunView(folder=folder, state="starting", status=status)
        return RunView(folder=folder, state="failed", status=status, error=_silent(launch))
    if status is None:
        return RunView(folder=folder, state="unreadable", error=error)
    if status.state == "failed":
        error = _errorOf(status.problem or {})
    elif status.state == "interrupted":
        error = _died(run)
    return RunView(folder=folder, state=status.state, status=status, error=error)


def logTail(folder: str | Path, lines: int = 40) -> str:
    """The last things that a run said: its events in words, then the log of its process."""
    told = []
    for line in _tail(RunFolder(folder).events):
        try:
            told.append(_inWords(json.loads(line)))
        except (ValueError, AttributeError):
            continue  # a line that is just being written
    log = _tail(LaunchFiles(folder).log)
    return "\n".join([text for text in told if text][-lines:] + log[-lines:])


def recordLaunch(folder: str | Path) -> None:
    """Note that a process is about to be started.

    Raises:
        OSError: if the folder cannot be written.
    """
    launch = LaunchFiles(folder)
    for path in (launch.output, launch.log):
        path.unlink(missing_ok=True)
    launch.record.write_text(json.dumps({"time": time.time()}), encoding="utf-8")


def _launched(launch: LaunchFiles) -> float | None:
    try:
        return float(json.loads(launch.record.read_text(encoding="utf-8"))["time"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _hasBegun(run: RunFolder, started: float) -> bool:
    """Whether the process has written an event: from there on the events tell how it goes."""
    try:
        return run.events.stat().st_mtime > started and run.events.stat().st_size > 0
    except OSError:
        return False


def _answer(launch: LaunchFiles) -> Mapping[str, Any]:
    try:
        content = json.loads(launch.output.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _errorOf(content: Mapping[str, Any]) -> AutoFuseError:
    content = content.get("error") if isinstance(content.get("error"), Mapping) else content
    code, text, hint = (str(content.get(name) or "") for name in ("code", "text", "hint"))
    return AutoFuseError(code or "unexpected", text or _("The training failed without a word."), hint)


def _silent(launch: LaunchFiles) -> AutoFuseError:
    return AutoFuseError(
        "training-not-started",
        _("The training process ended, or hangs, before its first step."),
        _("Its log is {path}; start it again.").format(path=launch.log),
    )


def _died(run: RunFolder) -> AutoFuseError:
    last = holder(run.lock)
    who = (
        _("process {process} on {computer}").format(**last) if {"process", "computer"} <= last.keys() else _("unknown")
    )
    return AutoFuseError(
        "training-died",
        _("The process of this training ended without a word ({who}), as when the computer is switched off.").format(
            who=who
        ),
        _("Press Resume: it goes on from the last checkpoint."),
    )


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _LOG_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = text.splitlines()
    return lines[1:] if size > _LOG_BYTES else lines


def _inWords(event: Mapping[str, Any]) -> str:
    when = str(event.get("time", "")).replace("T", " ")[:19]
    kind = event.get("event")
    if kind == "metric":
        values = event.get("values") or {}
        figures = ", ".join(f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, (int, float)))
        text = _("step {step}: {figures}").format(step=event.get("step"), figures=figures)
    elif kind == "result":
        text = _("ended after step {step}").format(step=(event.get("report") or {}).get("step"))
    elif kind == "error":
        text = f"{event.get('code')}: {event.get('text')}"
    else:
        text = str(event.get("text") or "")
    return f"{when}  {text}" if text else ""
