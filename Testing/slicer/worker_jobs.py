"""What the tests of the worker process share: a worker of scripted jobs, and a record of what it answered."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("scripted_worker.py")


class Record:
    """The events of one job."""

    def __init__(self) -> None:
        self.id = 0
        self.events: list[Any] = []
        self.answers: list[Any] = []

    @property
    def answer(self) -> Any:
        (only,) = self.answers
        return only


class Client:
    """A WorkerProcess with the event loop that it needs."""

    def __init__(self, worker: Any, waitUntil: Callable[..., Any]) -> None:
        self.worker = worker
        self._waitUntil = waitUntil

    def submit(self, job: str, spec: dict[str, Any] | None = None) -> Record:
        record = Record()
        record.id = self.worker.submit(job, spec or {}, record.events.append, record.answers.append)
        return record

    def answered(self, *records: Record, timeout: float = 60) -> Any:
        """Wait for all; gives the answer of the last one."""
        self._waitUntil(lambda: all(record.answers for record in records), timeout=timeout)
        return records[-1].answer

    def heard(self, record: Record, timeout: float = 60) -> Any:
        """Wait for an event of a job that runs; gives the first one."""
        self._waitUntil(lambda: record.events, timeout=timeout)
        return record.events[0]

    def run(self, job: str, spec: dict[str, Any] | None = None, timeout: float = 60) -> Any:
        return self.answered(self.submit(job, spec), timeout=timeout)

    def idle(self, seconds: float = 0.3) -> None:
        """Let the event loop run for a while, in case something comes that must not come."""
        import time

        end = time.monotonic() + seconds
        self._waitUntil(lambda: time.monotonic() > end, timeout=seconds + 5)


@contextlib.contextmanager
def scriptedClients(waitUntil: Callable[..., Any], folder: Path) -> Iterator[Callable[..., Client]]:
    """Makes clients of ``scripted_worker.py`` by its arguments; all are stopped at the end."""
    from AutoFuseLib.WorkerChild import Patience
    from AutoFuseLib.WorkerProcess import WorkerProcess

    workers = []

    def build(*arguments: str, **options: Any) -> Client:
        patience = Patience(start=options.pop("start", 60), cancel=0.3, leave=0.3, kill=0.3)
        options = {"arguments": [str(SCRIPT), *arguments], "logFolder": folder / "Größe 5 µ log", **options}
        workers.append(WorkerProcess(patience=patience, **options))
        return Client(workers[-1], waitUntil)

    yield build
    for worker in workers:
        worker.stopNow()


def running(processId: int) -> bool:
    """Whether a process runs; one that ended and was not fetched by its parent does not."""
    if os.name == "nt":
        from AutoFuseLib.WindowsProcesses import isRunning

        return isRunning(processId)
    from AutoFuseLib.ProcessTree import tableOfPs

    entry = tableOfPs([processId]).get(processId)
    return entry is not None and not entry.ended
