"""One worker process: its start, the lines that it says and hears, its log, and its end.

Everything happens through signals of ``QProcess``; nothing here waits, except ``endNow`` when Slicer exits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import qt

from autofuse_engine.events import PROTOCOL, Error, Event, from_json_line, read_greeting
from AutoFuseLib import WorkerErrors
from AutoFuseLib.LineBuffer import LineBuffer
from AutoFuseLib.ProcessTree import makeProcessTree
from AutoFuseLib.WorkerCommand import WorkerCommand
from AutoFuseLib.WorkerLog import WorkerLog


@dataclass(frozen=True)
class Patience:
    """How long the steps towards an end may take, seconds."""

    start: float = 120.0
    """From the start of the process to its greeting; loading from a slow disk is the longest part."""

    cancel: float = 1.8
    """From asking a job to stop to the end of its process, so that the user waits less than 2 s."""

    leave: float = 2.0
    """From the closing of stdin to the end of the process; the worker allows a running job 1 s."""

    kill: float = 1.0
    """From the polite signal to the one that cannot be refused."""


@dataclass(frozen=True)
class Ending:
    """How a child ended."""

    error: Error
    """What a job is answered that was lost with it."""

    clean: bool
    """Whether it left on its own, with exit code 0."""

    hopeless: bool
    """Whether the next child would end in the same way."""


class WorkerChild:
    """A process from its start to its end; used once."""

    def __init__(
        self,
        owner: qt.QObject,
        command: WorkerCommand,
        log: WorkerLog | None,
        patience: Patience,
        onEvent: Callable[[WorkerChild, int, Event], None],
        onEnd: Callable[[WorkerChild, Ending], None],
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            owner: the Qt object that the process belongs to, so that it lives until Qt deletes it at a safe moment.
            command: what to start.
            log: where stderr goes, and lines of stdout that are no events; None for nowhere.
            patience: times.
            onEvent: receives each event with the id of its job, also the greeting (id 0), after which ``ready`` holds.
            onEnd: called once.
        """
        self.ready = False
        """Whether it takes jobs: it has greeted, and nobody has told it to end."""
        self.processId = 0
        """The worker's own, from its greeting; not that of the launcher."""
        self._command = command
        self._log = log
        self._patience = patience
        self._onEvent = onEvent
        self._onEnd = onEnd
        self._lines = LineBuffer()
        self._tree: Any = None
        self._reason: Error | None = None
        self._greeted = False
        self._over = False
        self._next: Callable[[], None] | None = None
        self._process = qt.QProcess(owner)
        self._timer = qt.QTimer(self._process)
        self._timer.setSingleShot(True)
        _connect(self._timer, "timeout()", self._onTimer)
        _connect(self._process, "started()", self._onStarted)
        _connect(self._process, "readyReadStandardOutput()", self._onOutput)
        _connect(self._process, "readyReadStandardError()", self._onErrorOutput)
        _connect(self._process, "finished(int,QProcess::ExitStatus)", self._onFinished)
        _connect(self._process, "errorOccurred(QProcess::ProcessError)", self._onProcessError)

    def start(self) -> None:
        """Start the process; where it cannot be started, ``onEnd`` may be called before this returns."""
        self._process.setProcessEnvironment(self._command.processEnvironment())
        self._after(self._patience.start, self._startTookTooLong)
        self._process.start(self._command.program, list(self._command.arguments))

    @property
    def logPath(self) -> Any:
        """The log's ``pathlib.Path``, None without a log."""
        return self._log.path if self._log else None

    def say(self, message: Mapping[str, Any]) -> None:
        """Write one line to the worker; lost if it has just left, which ``onEnd`` tells."""
        if self._process.state() == qt.QProcess.NotRunning:
            return
        self._process.write(json.dumps(message, allow_nan=False).encode("ascii") + b"\n")

    # ---------------------------------------------------------------------------------------------------- the end

    def leave(self) -> None:
        """Let it end: stdin closes, then the polite signal, then the other one."""
        self.ready = False
        self._lookBelow()
        self._process.closeWriteChannel()
        self._after(self._patience.leave, self.terminate)

    def terminate(self) -> None:
        """End the process and all below it, politely first."""
        self.ready = False
        self._lookBelow()
        if self._tree is not None:
            self._tree.terminate()
        self._after(self._patience.kill, self._kill)

    def endNow(self, seconds: float) -> None:
        """The same as ``leave`` within that time, waiting for it."""
        self._lookBelow()
        self._process.closeWriteChannel()
        for end in (lambda: None, self._terminateTree, self._killTree):
            end()
            until = time.monotonic() + seconds / 3
            while self._runs() and time.monotonic() < until:
                if not self._process.waitForFinished(10):
                    time.sleep(0.005)
        self._abandon()

    def _runs(self) -> bool:
        return self._process.state() != qt.QProcess.NotRunning or (self._tree is not None and self._tree.alive())

    def _terminateTree(self) -> None:
        if self._runs() and self._tree is not None:
            self._tree.terminate()

    def _killTree(self) -> None:
        if self._tree is not None:
            self._tree.kill()  # first: below a launcher that is gone, nothing new can be found
        self._process.kill()

    def _kill(self) -> None:
        self._killTree()
        self._after(self._patience.kill, self._abandon)

    def _abandon(self) -> None:
        """The system does not report its end: nobody shall wait for it any longer."""
        self._finish(Ending(self._reason or WorkerErrors.died(9, True, self.logPath), False, self._reason is not None))

    # ---------------------------------------------------------------------------------------------------- signals

    def _onStarted(self) -> None:
        self._lookBelow()

    def _lookBelow(self) -> None:
        """Remember the processes below the launcher while it lives."""
        if self._tree is None and self._process.processId() > 0:
            self._tree = makeProcessTree(int(self._process.processId()))
        if self._tree is not None:
            self._tree.add(self.processId)

    def _onOutput(self) -> None:
        for line in self._lines.feed(self._process.readAllStandardOutput().data()):
            self._onLine(line)

    def _onErrorOutput(self) -> None:
        data = self._process.readAllStandardError().data()
        if self._log:
            self._log.write(data)

    def _onLine(self, line: str) -> None:
        try:
            jobId, event = from_json_line(line)
        except ValueError:
            if self._log and line:
                self._log.writeText(line + "\n")
            return
        if jobId == 0:
            self._onOwnEvent(event)
        if not self._over:
            self._onEvent(self, jobId, event)

    def _onOwnEvent(self, event: Event) -> None:
        """The greeting, or the reason why no job will run."""
        if isinstance(event, Error):
            if event.code != "request-invalid":
                self._reason = Error(code=event.code, text=event.text, hint=event.hint)
            return
        try:
            protocol, processId = read_greeting(event)
        except ValueError:
            return
        self._greeted = True
        self.processId = processId
        self._lookBelow()
        waited = self._next == self._startTookTooLong
        if waited:
            self._timer.stop()
        if protocol == PROTOCOL:
            self.ready = waited  # otherwise it was told to end meanwhile
        else:
            self._reason = WorkerErrors.otherProtocol(protocol, self.logPath)
            self.terminate()

    def _startTookTooLong(self) -> None:
        self._reason = WorkerErrors.unresponsive(self._patience.start, self.logPath)
        self.terminate()

    def _onProcessError(self) -> None:
        if self._process.error() == qt.QProcess.FailedToStart:
            reason = self._process.errorString()
            self._finish(Ending(WorkerErrors.notStarted(reason, self.logPath), False, True))

    def _onFinished(self) -> None:
        if self._over:
            return
        exitCode, crashed = self._process.exitCode(), self._process.exitStatus() == qt.QProcess.CrashExit
        self._onOutput()
        self._onLine(self._lines.rest())
        self._onErrorOutput()
        if self._tree is not None and self._tree.alive():
            self._tree.kill()  # the launcher is gone, and what it started without it
        if self._log:
            self._log.writeText(f"[{WorkerErrors.howItEnded(exitCode, crashed)}]\n")
        clean = exitCode == 0 and not crashed
        error = self._reason
        if error is None and not self._greeted:
            error = WorkerErrors.notStarted(WorkerErrors.howItEnded(exitCode, crashed), self.logPath)
        hopeless = error is not None
        self._finish(Ending(error or WorkerErrors.died(exitCode, crashed, self.logPath), clean, hopeless))

    def _finish(self, ending: Ending) -> None:
        if self._over:
            return
        self._over = True
        self.ready = False
        self._timer.stop()
        self._next = None
        if self._log:
            self._log.close()
        if self._process.state() == qt.QProcess.NotRunning:  # Qt's destructor would wait for one that runs
            self._process.deleteLater()
        self._onEnd(self, ending)

    # ------------------------------------------------------------------------------------------------------ timer

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this later instead of what was planned; nothing is planned for a process that ended."""
        if self._over:
            return
        self._next = action
        self._timer.start(int(seconds * 1000))

    def _onTimer(self) -> None:
        action, self._next = self._next, None
        if action is not None and not self._over:
            action()


def _connect(sender: qt.QObject, signal: str, slot: Callable[..., None]) -> None:
    """Connect, and say so where Slicer's Qt does not know the signal: ``connect`` alone gives False.

    Raises:
        RuntimeError: if there is no such signal.
    """
    if not sender.connect(signal, slot):
        raise RuntimeError(f"This version of Qt has no signal {signal} of {sender.className()}.")
