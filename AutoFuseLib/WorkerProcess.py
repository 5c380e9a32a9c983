"""Runs jobs of the engine in a child process, so that torch never enters Slicer's own.

The child is started by the first job, stays warm for the next ones, leaves after its idle time, and is started again
when it is needed. docs/worker-protocol.md is the language that is spoken. One job at a time is sent; the others wait
here, so that a child that dies takes no more than the job that it was running.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

from autofuse_engine.events import Error, Event
from AutoFuseLib import WorkerErrors
from AutoFuseLib.WorkerChild import Ending, Patience, WorkerChild
from AutoFuseLib.WorkerCommand import makeCommand
from AutoFuseLib.WorkerJob import Job
from AutoFuseLib.WorkerLog import WorkerLog

SHARED_NAME = "autoFuseWorker"
"""The attribute of ``slicer.modules`` where both modules find the one worker; a reload of code leaves it alone."""

EXIT_SECONDS = 0.9


class WorkerProcess:
    """The queue of jobs and the child that does them. No widgets, no dialogs, no waiting."""

    def __init__(
        self,
        program: str | None = None,
        arguments: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        logFolder: str | Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Nothing is started before the first job.

        Args:
            program: default ``PythonSlicer``.
            arguments: default ``-m autofuse_engine worker``.
            environment: variables beside those of Slicer and the worker's usual ones.
            logFolder: default ``AutoFuse`` in Slicer's temporary folder.
            patience: how long cancelling and ending may take.
        """
        self._command = (program, arguments, environment)
        self._logFolder = Path(logFolder) if logFolder else Path(slicer.app.temporaryPath) / "AutoFuse"
        self._patience = patience or Patience()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._child: WorkerChild | None = None
        self._leaving: list[WorkerChild] = []
        self._deliveries: deque[tuple[Callable[[Event], None], Event]] = deque()
        self._lastId = 0
        self._logPath: Path | None = None
        self._owner = qt.QObject()
        self._turn = self._timer(self._onTurn)
        self._cancelTimer = self._timer(self._onCancelIgnored)

    # ------------------------------------------------------------------------------------------------------- state

    @property
    def state(self) -> str:
        """``stopped``, ``starting`` or ``ready``."""
        if self._child is None:
            return "stopped"
        return "ready" if self._child.ready else "starting"

    @property
    def logPath(self) -> Path | None:
        """The log file of the child, or of the last one; None before the first."""
        return self._logPath

    @property
    def processId(self) -> int:
        """The id of the worker's own process, 0 while there is none that has reported itself."""
        return self._child.processId if self._child else 0

    # ----------------------------------------------------------------------------------------------------- requests

    def submit(
        self,
        job: str,
        spec: Mapping[str, Any],
        onEvent: Callable[[Event], None],
        onAnswer: Callable[[Event], None],
    ) -> int:
        """Put a job into the queue and start the child if there is none.

        Args:
            job: name of the job, for instance ``register``.
            spec: what docs/worker-protocol.md says for it.
            onEvent: receives each Progress, Metric and Warning.
            onAnswer: receives exactly one Result or Error, never before this function has returned. What a callback
                raises goes to ``sys.excepthook`` and disturbs nothing.

        Returns:
            The id of the job, above 0, higher than all before.

        Raises:
            ValueError: if the spec cannot be written as JSON.
        """
        try:
            json.dumps(spec, allow_nan=False)
        except TypeError as error:
            raise ValueError(f"the spec of a job holds only what JSON can say: {error}") from error
        self._lastId += 1
        self._waiting.append(Job(self._lastId, job, spec, onEvent, onAnswer))
        self._turn.start(0)
        return self._lastId

    def cancel(self, jobId: int) -> None:
        """Stop a job: it is answered with the code ``cancelled``; harmless when it was answered already.

        A job that runs is asked; after 1.8 s its process is terminated, and killed 1 s later. Waiting jobs go on in
        a new child.
        """
        for job in [job for job in self._waiting if job.id == jobId]:
            self._waiting.remove(job)
            self._answer(job, WorkerErrors.cancelled())
        running = self._running
        if running is not None and running.id == jobId and not running.cancelling:
            running.cancelling = True
            self._child.say({"cancel": jobId})
            self._cancelTimer.start(int(self._patience.cancel * 1000))

    def finish(self, jobId: int) -> None:
        """Let a job end its search early and give the best that it has; harmless when it was answered already."""
        for job in (*self._waiting, *([self._running] if self._running else [])):
            if job.id == jobId and not job.finishEarly:
                job.finishEarly = True
                if job is self._running:
                    self._child.say({"finish": jobId})

    def stop(self) -> None:
        """Cancel all jobs and let the child end; the next job starts another one. Returns at once."""
        child = self._letGo()
        if child is not None:
            child.leave()

    def stopNow(self) -> None:
        """The same for Slicer's exit: within 1 s, waiting for it, all jobs answered, no process left."""
        self._letGo()
        children = list(self._leaving)
        for child in children:
            child.endNow(EXIT_SECONDS / len(children))
        self._turn.stop()
        self._deliver()

    # ------------------------------------------------------------------------------------------------------- inside

    def _timer(self, slot: Callable[[], None]) -> qt.QTimer:
        timer = qt.QTimer(self._owner)
        timer.setSingleShot(True)
        timer.connect("timeout()", slot)
        return timer

    def _onTurn(self) -> None:
        self._advance()
        self._deliver()

    def _advance(self) -> None:
        """Send the next job, or start the child that will do it."""
        if self._running is not None or not self._waiting:
            return
        if self._child is None:
            self._startChild()
        elif self._child.ready:
            job = self._running = self._waiting.popleft()
            self._child.say({"id": job.id, "job": job.name, "spec": job.spec})
            if job.finishEarly:
                self._child.say({"finish": job.id})

    def _startChild(self) -> None:
        try:
            command = makeCommand(*self._command)
        except FileNotFoundError as error:
            self._answerWaiting(WorkerErrors.notStarted(f"{error} does not exist"))
            return
        try:
            log = WorkerLog(self._logFolder)
        except OSError as error:
            logging.warning("AutoFuse cannot write a log of its worker: %s", error)
            log = None
        self._logPath = log.path if log else None
        self._child = WorkerChild(self._owner, command, log, self._patience, self._onEvent, self._onEnd)
        self._child.start()

    def _letGo(self) -> WorkerChild | None:
        """Answer all jobs and part with the child."""
        jobs = ([self._running] if self._running else []) + list(self._waiting)
        self._running = None
        self._waiting.clear()
        self._cancelTimer.stop()
        for job in jobs:
            self._answer(job, WorkerErrors.cancelled())
        child, self._child = self._child, None
        if child is not None:
            self._leaving.append(child)
        return child

    # ---------------------------------------------------------------------------------------------- from the child

    def _onEvent(self, child: WorkerChild, jobId: int, event: Event) -> None:
        if child is not self._child:
            return
        job = self._running
        if job is not None and job.id == jobId:
            job.heard = True
            if event.event in ("result", "error"):
                self._running = None
                self._cancelTimer.stop()
                self._answer(job, self._checked(job, event))
            else:
                self._deliveries.append((job.onEvent, event))
        elif job is not None and jobId == 0 and isinstance(event, Error) and event.code == "request-invalid":
            self._running = None  # it could not even read the id
            self._answer(job, event)
        self._advance()
        self._deliver()

    def _checked(self, job: Job, event: Event) -> Event:
        """The answer, if it is one: a cancelled job has no result, and a result has its files."""
        if job.cancelling:
            return WorkerErrors.cancelled()
        if event.event == "result":
            absent = [name for name, path in event.files.items() if not Path(path).is_file()]
            if absent:
                return WorkerErrors.resultIncomplete(absent, self._logPath)
        return event

    def _onEnd(self, child: WorkerChild, ending: Ending) -> None:
        if child is not self._child:
            self._leaving = [other for other in self._leaving if other is not child]
            return
        self._child = None
        self._cancelTimer.stop()
        job, self._running = self._running, None
        if job is not None:
            if job.cancelling:
                self._answer(job, WorkerErrors.cancelled())
            elif ending.clean and not job.heard and not job.sentAgain:
                job.sentAgain = True  # it left, as it does when idle, while the job was on its way
                self._waiting.appendleft(job)
            else:
                self._answer(job, ending.error)
        if ending.hopeless:
            self._answerWaiting(ending.error)
        self._turn.start(0)

    def _onCancelIgnored(self) -> None:
        if self._child is not None and self._running is not None and self._running.cancelling:
            self._child.terminate()

    # ------------------------------------------------------------------------------------------------ to the caller

    def _answerWaiting(self, error: Error) -> None:
        while self._waiting:
            self._answer(self._waiting.popleft(), error)

    def _answer(self, job: Job, event: Event) -> None:
        """Answer at the next turn at the latest; the job is in no list any more."""
        self._deliveries.append((job.onAnswer, event))
        self._turn.start(0)

    def _deliver(self) -> None:
        """Call back, in order, once the state is consistent; callbacks may submit, cancel, stop, or run dialogs."""
        while self._deliveries:
            function, event = self._deliveries.popleft()
            try:
                function(event)
            except Exception:
                sys.excepthook(*sys.exc_info())


def sharedWorker() -> WorkerProcess:
    """The one worker of this Slicer, which both modules use; it ends with Slicer."""
    worker = getattr(slicer.modules, SHARED_NAME, None)
    if worker is None:
        worker = WorkerProcess()
        setattr(slicer.modules, SHARED_NAME, worker)
        slicer.app.connect("aboutToQuit()", stopSharedWorker)
    return worker


def stopSharedWorker() -> None:
    """End the shared worker now, if there is one; the next ``sharedWorker()`` is a new one."""
    worker = getattr(slicer.modules, SHARED_NAME, None)
    if worker is not None:
        delattr(slicer.modules, SHARED_NAME)
        worker.stopNow()
