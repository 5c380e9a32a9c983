"""What a person at a terminal sees: progress on stderr, tables on stdout; needs ``rich``, imported on first use."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, TypeVar

from autofuse_engine.configs import AUTOMATIC_MODEL
from autofuse_engine.errors import AutoFuseError, FileError
from autofuse_engine.events import Event, Metric, Progress, Warning, finite
from autofuse_engine.verdict import judge

_Display = TypeVar("_Display", bound="BarDisplay")

_LABELS_SHOWN = 12
_COLOR_OF_LEVEL = {"good": "green", "check": "yellow", "bad": "red"}


def make_streams_safe() -> None:
    """Let no character end the program: consoles with a small code page get a replacement instead."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def require_packages(*names: str) -> None:
    """Refuse to start a command that would fail at its end for lack of a package.

    Raises:
        FileError: ``terminal-packages-missing``, naming those that are absent.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise FileError(
            "terminal-packages-missing",
            f"The terminal command needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} absent.",
            "Run: pip install 'autofuse-engine[cli]'; or add --quiet --no-overview, which work without.",
        )


def print_error(error: AutoFuseError) -> None:
    """What is wrong and what to do about it, on stderr."""
    hint = f"\n{error.hint}" if error.hint else ""
    print(f"Error ({error.code}): {error.text}{hint}", file=sys.stderr)


class BarDisplay(ABC):
    """Shows events on stderr: a bar on a terminal, lines in a log file, nothing but warnings when ``quiet``.

    A context manager whose instance is the ``report`` callable of a use case.
    """

    def __init__(self, *, quiet: bool, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self: _Display) -> _Display:
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bar
            from rich.progress import TextColumn

            columns = (*self._columns(), TextColumn("{task.fields[note]}", markup=False))
            self._bar = Bar(*columns, console=Console(file=self._stream), transient=True, expand=True)
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Warning):
            self.line(f"Warning ({event.code}): {event.text}")
        elif not self._quiet:
            self._show(event)

    def line(self, text: str) -> None:
        """Print a line of text above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)

    @abstractmethod
    def _columns(self) -> Sequence[Any]:
        """The bar's columns of rich, without the note at the end."""

    @abstractmethod
    def _show(self, event: Event) -> None:
        """Show an event other than a warning."""


class ProgressDisplay(BarDisplay):
    """A bar with the stage and its share, or one line a stage."""

    def __init__(self, *, quiet: bool, stream: TextIO | None = None) -> None:
        super().__init__(quiet=quiet, stream=stream)
        self._stage = ""
        self._started = time.monotonic()

    def _columns(self) -> Sequence[Any]:
        from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

        text = TextColumn("{task.description}")
        return SpinnerColumn(), text, BarColumn(bar_width=None), TaskProgressColumn(), TimeElapsedColumn()

    def _show(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Metric) and self._bar is not None:
            note = " ".join(f"{name} {value:.4g}" for name, value in event.values.items())
            self._bar.update(self._task, note=f"step {event.step} {note}")

    def _progress(self, event: Progress) -> None:
        if self._bar is not None:
            note = "" if event.stage != self._stage else None
            self._bar.update(self._task, total=1.0, completed=event.fraction, description=event.stage)
            if event.text or note == "":
                self._bar.update(self._task, note=event.text)
        elif event.stage != self._stage:
            elapsed = time.monotonic() - self._started
            self.line(f"[{elapsed:6.1f} s] {event.stage}")
        self._stage = event.stage


def scaled(report: Callable[[Event], None], start: float, end: float) -> Callable[[Event], None]:
    """A report whose fractions 0..1 appear as ``start``..``end``, for a job that is part of a longer one."""

    def forward(event: Event) -> None:
        if isinstance(event, Progress):
            fraction = start + (end - start) * event.fraction
            event = Progress(stage=event.stage, fraction=fraction, text=event.text)
        report(event)

    return forward


def print_result(report: Mapping[str, Any], files: Mapping[str, Path], title: str) -> None:
    """The figures of a registration, where its files are, and a sentence on what they mean, on stdout."""
    from rich.console import Console

    console = Console()
    console.print(_metric_table(report, title))
    console.print(_fact_table(report))
    for folder in dict.fromkeys(path.parent for path in files.values()):
        names = ", ".join(name for name, path in files.items() if path.parent == folder)
        console.print(f"Files in {folder}: {names}", highlight=False, markup=False)
    verdict = judge(report)
    console.print(verdict.text, style=f"bold {_COLOR_OF_LEVEL[verdict.level]}", highlight=False, markup=False)


def table(header: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> Any:
    """A rich table; columns that hold only numbers stand right."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for number, name in enumerate(header):
        numeric = bool(rows) and all(isinstance(row[number], (int, float)) for row in rows)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(f"{item:,}" if isinstance(item, int) else str(item)) for item in row))
    return made


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Print such a table to stdout."""
    from rich.console import Console

    Console().print(table(header, rows, title))


def _metric_table(report: Mapping[str, Any], title: str) -> Any:
    metrics = report.get("metrics", {})
    stages = [stage for stage in ("before", "initial", "after") if stage in metrics]
    rows: list[tuple[str, ...]] = []

    def add(name: str, values: Sequence[Any], decimals: int) -> None:
        if any(isinstance(value, (int, float)) for value in values):
            rows.append((name, *(number(value, decimals) for value in values)))

    add("NCC", [metrics[stage].get("ncc") for stage in stages], 4)
    add("Dice, mean", [metrics[stage].get("dice_mean") for stage in stages], 4)
    labels = list(metrics["after"].get("dice") or {}) if "after" in metrics else []
    if 1 < len(labels) <= _LABELS_SHOWN:
        for label in labels:
            add(f"  label {label}", [(metrics[stage].get("dice") or {}).get(label) for stage in stages], 4)
    add("HD95, mean (mm)", [metrics[stage].get("hd95_mean_mm") for stage in stages], 2)
    add("landmark error, mean (mm)", [metrics[stage].get("tre_mean_mm") for stage in stages], 2)
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    made.add_column("figure")
    for stage in stages:
        made.add_column(stage, justify="right")
    for row in rows:
        made.add_row(*row)
    return made


def _fact_table(report: Mapping[str, Any]) -> Any:
    rows: list[tuple[str, str]] = []
    if (percent := report.get("folding_percent")) is not None:
        rows.append(("folding", f"{percent:.4f} % ({report.get('folding_count', 0)} cells)"))
    if inverse := report.get("inverse_consistency_mm"):
        shown = ", ".join(f"{name} {number(inverse.get(name), 3)}" for name in ("mean", "p99", "max"))
        rows.append(("inverse consistency (mm)", shown))
    if grid := report.get("working_grid"):
        spacing = " x ".join(f"{float(side):.2f}" for side in _triple(grid.get("spacing_mm")))
        rows.append(("working grid", f"{' x '.join(str(side) for side in grid.get('shape', ()))} at {spacing} mm"))
    if seconds := report.get("seconds"):
        rows += [(f"seconds, {stage}", f"{value:.2f}") for stage, value in seconds.items()]
    if (memory := report.get("peak_memory_gib")) is not None:
        rows.append(("peak memory (GiB)", f"{memory:.2f}"))
    origin = report.get("provenance", {})
    rows += [(name, str(origin[name])) for name in ("model", "device", "seed") if origin.get(name) is not None]
    choice = report.get("model_choice") or {}
    if choice.get("asked") == AUTOMATIC_MODEL:
        rows.append(("why this model", str(choice.get("reason"))))
    return table(("fact", "value"), rows)


def number(value: Any, decimals: int) -> str:
    """A figure with fixed decimals, or a dash where there is none."""
    finite = isinstance(value, (int, float)) and value == value
    return f"{value:.{decimals}f}" if finite else "-"


def _triple(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON document on stdout, in ASCII so that every console can take it."""
    print(json.dumps(finite(content), indent=2))
