"""What a running job tells: progress, metrics, warnings, its result or its error.

Use cases receive ``report: Callable[[Event], None]``. The terminal prints events, the worker writes them as one
JSON object a line, 3D Slicer moves its progress bar. The wire form is ``{"id": 7, "event": "progress", ...}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

PROTOCOL = 1
"""Version of the worker protocol, docs/worker-protocol.md; a parent refuses a worker that speaks another one."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events; ``event`` is its name on the wire."""

    event: ClassVar[str] = ""


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """How far a job is: ``stage`` is one of :data:`STAGES`, ``fraction`` of the whole job lies in [0, 1]."""

    event: ClassVar[str] = "progress"
    stage: str
    fraction: float
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Metric(Event):
    """Figures of a running job, for instance the loss at a step."""

    event: ClassVar[str] = "metric"
    stage: str
    step: int
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Warning(Event):
    """Something that the user should know although the job goes on."""

    event: ClassVar[str] = "warning"
    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Result(Event):
    """The job succeeded: ``files`` maps output names to paths, ``report`` holds the figures."""

    event: ClassVar[str] = "result"
    files: Mapping[str, str] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Error(Event):
    """The job failed or was cancelled (code ``cancelled``)."""

    event: ClassVar[str] = "error"
    code: str
    text: str
    hint: str = ""


Report = Callable[[Event], None]
STAGES = ("check", "initial alignment", "network", "refinement", "integration", "outputs", "saving")
READY = "ready"
"""Stage of the greeting, before any job."""

_EVENTS: dict[str, type[Event]] = {kind.event: kind for kind in (Progress, Metric, Warning, Result, Error)}


def silent(event: Event) -> None:
    """Report to nobody; the default of every use case."""


def to_json_line(event: Event, job_id: int) -> str:
    """One line of JSON without line end; non-finite numbers become null, as JSON has none."""
    return json.dumps(finite({"id": job_id, "event": event.event, **asdict(event)}), ensure_ascii=False)


def from_json_line(line: str) -> tuple[int, Event]:
    """Parse a line that :func:`to_json_line` wrote.

    Fields that the event does not have are ignored: they come from a newer worker.

    Raises:
        ValueError: if the line is not an event; such lines are log text.
    """
    try:
        content = json.loads(line)
        kind = _EVENTS[content["event"]]
        names = [item.name for item in fields(kind)]
        return int(content["id"]), kind(**{name: content[name] for name in names if name in content})
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"not an event: {line[:200]!r}") from error


def greeting(version: str, process_id: int) -> Progress:
    """The first event of a worker; it names its own process, as the parent may only know a launcher."""
    text = f"autofuse {version}, protocol {PROTOCOL}, process {process_id}"
    return Progress(stage=READY, fraction=1.0, text=text)


def read_greeting(event: Event) -> tuple[int, int]:
    """Protocol version and process id of a worker that :func:`greeting` announced.

    Raises:
        ValueError: if the event is not a greeting.
    """
    text = event.text if isinstance(event, Progress) and event.stage == READY else ""
    found = re.search(r"\bprotocol (\d+), process (\d+)", text)
    if found is None:
        raise ValueError(f"not the greeting of a worker: {event}")
    return int(found[1]), int(found[2])


def finite(value: Any) -> Any:
    """The same nested value with None for each number that is not finite, as JSON has none."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
