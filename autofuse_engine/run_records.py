"""What a run writes as it goes: one row a step, one row a validation, one line an event; cut back when it resumes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from autofuse_engine.data.atomic import replacing, write_error
from autofuse_engine.events import Event, to_json_line
from autofuse_engine.run_folder import RunFolder, read_cells
from autofuse_engine.tensorboard_log import TensorboardLog

STEP_COLUMNS = ("step", "stage", "learning_rate", "loss")
LAST_COLUMNS = ("gradient_norm", "skipped", "fixed", "moving", "seconds")


class Table:
    """A CSV file that grows by whole rows; numbers are written so that they read back bit for bit.

    Args:
        path: the file.
        columns: its header; the first one is ``step``.
        last_step: rows of later steps are removed: they will be computed again.
    """

    def __init__(self, path: Path, columns: Sequence[str], last_step: int) -> None:
        self._path, self._columns = path, tuple(columns)
        kept = [row for row in read_cells(path) if int(row["step"]) <= last_step]
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            stream.write(_line(self._columns))
            for row in kept:
                stream.write(_line([row.get(name) for name in self._columns]))
        self._stream = path.open("a", encoding="utf-8", newline="")

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row; columns that it lacks stay empty.

        Raises:
            FileError: ``disk-full``, ``output-not-writable``.
        """
        _write(self._stream, _line([row.get(name) for name in self._columns]), self._path)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class RunRecords:
    """All records of a run; a context manager.

    Args:
        folder: of the run.
        terms: names of the loss terms, one column each.
        figures: names of the validation figures, likewise.
        last_step: of the checkpoint from which the run goes on; -1 for a run that begins.
    """

    def __init__(self, folder: RunFolder, terms: Sequence[str], figures: Sequence[str], last_step: int) -> None:
        self._metrics = Table(folder.metrics, (*STEP_COLUMNS, *terms, *LAST_COLUMNS), last_step)
        self._validation = Table(folder.validation, ("step", "score", *figures, "seconds"), last_step)
        self._curves = TensorboardLog(folder.tensorboard, last_step)
        self._events_path = folder.events
        self._events = folder.events.open("a", encoding="utf-8", newline="\n")
        if folder.events.stat().st_size:
            self._events.write("\n")  # ends a line that a killed process left unfinished

    def __enter__(self) -> RunRecords:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._metrics, self._validation, self._events, self._curves):
            stream.close()

    def step(self, row: Mapping[str, Any]) -> None:
        """One row of ``metrics.csv``."""
        self._metrics.add(row)
        self._curves.add("training", row["step"], row)

    def validated(self, row: Mapping[str, Any]) -> None:
        """One row of ``validation.csv``."""
        self._validation.add(row)
        self._curves.add("validation", row["step"], row)

    def event(self, event: Event) -> None:
        """One line of ``events.jsonl``, with the time."""
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        line = json.dumps({"time": time, **json.loads(to_json_line(event, 0))}, ensure_ascii=False)
        _write(self._events, f"{line}\n", self._events_path)


def _line(values: Sequence[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(
        ["" if value is None else repr(value) if isinstance(value, float) else value for value in values]
    )
    return buffer.getvalue()


def _write(stream: IO[str], text: str, path: Path) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        raise write_error(path, error) from error
