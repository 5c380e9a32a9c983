"""What a person at a terminal sees of a training: a bar with the loss, or one line every so many steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from autofuse_engine.events import Event, Metric, Progress
from autofuse_engine.run_folder import RunStatus
from autofuse_engine.terminal import BarDisplay, number, print_table


class TrainingDisplay(BarDisplay):
    """Shows the events of a training: a bar with the steps, or one line each so many steps.

    Args:
        quiet: show warnings only.
        every: one line each so many steps where there is no terminal.
        stream: where to; None means stderr.
    """

    def __init__(self, *, quiet: bool, every: int = 50, stream: TextIO | None = None) -> None:
        super().__init__(quiet=quiet, stream=stream)
        self._every = every
        self._last: tuple[int, float] | None = None

    def _columns(self) -> Sequence[Any]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        times = TimeElapsedColumn(), TimeRemainingColumn()
        return TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(), *times

    def _show(self, event: Event) -> None:
        if isinstance(event, Metric) and event.stage == "validation":
            self.line(f"step {event.step}: validation {_figures(event.values)}")
        elif isinstance(event, Metric):
            self._step(event)
        elif isinstance(event, Progress) and event.text.startswith(("started", "resumed")):
            self.line(event.text)
        elif isinstance(event, Progress) and self._bar is not None and event.fraction > 0 and self._last is not None:
            total = round(self._last[0] / event.fraction)
            self._bar.update(self._task, description="training", completed=self._last[0], total=total)

    def _step(self, event: Metric) -> None:
        now = time.monotonic()
        if self._bar is not None:
            self._last = (event.step, now)
            self._bar.update(self._task, note=_figures(event.values, ("loss", "similarity")))
        elif self._last is None or event.step % self._every == 0:
            pace = ""
            if self._last is not None:
                pace = f", {(now - self._last[1]) / (event.step - self._last[0]):.2f} s a step"
            self.line(f"step {event.step}: {_figures(event.values)}{pace}")
            self._last = (event.step, now)


def print_status(status: RunStatus, title: str) -> None:
    """How a run stands, as a table on stdout."""
    rows = [("state", status.state), ("steps", f"{status.step} of {status.steps}")]
    if status.seconds_left is not None:
        rows.append(
            ("time left", duration(status.seconds_left) + ("" if status.state == "running" else " once resumed"))
        )
    if status.learns == "segmentation":
        rows.append(("learns", "the segmentation alone so far: dice stays that of the alignment"))
    left_out = {"step", "stage", "fixed", "moving", "skipped", "seconds", "learning_rate"}
    rows += [(name, number(value, 4)) for name, value in status.metrics.items() if name not in left_out]
    for name, row in (("last validation", status.validation), ("best validation", status.best)):
        if row:
            known = {key: value for key, value in row.items() if key not in ("step", "seconds") and value is not None}
            rows.append((name, f"step {row['step']}: {_figures(known)}"))
    if status.problem:
        rows.append(("error", f"{status.problem['text']} {status.problem['hint']}"))
    print_table(("run", "value"), rows, title)


def duration(seconds: float) -> str:
    """Such as ``2 h 05 min`` or ``3 min 20 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _figures(values: Mapping[str, float], names: tuple[str, ...] | None = None) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if names is None or name in names)
