"""One registration from the click to the nodes in the scene: states, progress, cancelling, clean-up."""

from __future__ import annotations

import enum
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from autofuse_engine.errors import AutoFuseError
from autofuse_engine.events import Error, Event, Progress, Result, Warning
from AutoFuseLib import Placement
from AutoFuseLib.ResultNodes import ResultNodes
from AutoFuseLib.Steps import StepRunner, Steps

from . import Inputs, Outputs

_REMAINING_AFTER_S = 3.0
_REMAINING_FROM_FRACTION = 0.15


class State(enum.Enum):
    """What a run is doing."""

    STARTING = "starting"
    RUNNING = "running"
    IMPORTING = "importing"
    CANCELLING = "cancelling"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


ACTIVE = (State.STARTING, State.RUNNING, State.IMPORTING, State.CANCELLING)


class Run:
    """Export, job, import. Everything happens in turns of the event loop; the listener hears of every change.

    Attributes:
        state: what it is doing.
        stage: of the worker's job, while it runs.
        fraction: of the whole job, in [0, 1].
        warnings: sentences that the user should read.
        error: why it failed, else None.
        result: the nodes, when it is done.
        seconds: by part: "export", "compute", "import"; filled as the parts end.
    """

    def __init__(self, worker: Any, inputs: Inputs.Inputs, outputs: Outputs.Requested, listener: Callable[[Run], None]):
        """Begin; the first change is told at the next turn of the event loop.

        Args:
            worker: a ``WorkerProcess``, or what tests put in its place.
            inputs: nodes and configuration.
            outputs: which nodes are wanted, and where.
            listener: called after every change, with this run.
        """
        self.state = State.STARTING
        self.stage = ""
        self.fraction = 0.0
        self.warnings: list[str] = []
        self.error: AutoFuseError | None = None
        self.result: ResultNodes | None = None
        self.seconds: dict[str, float] = {}
        self._worker, self._inputs, self._outputs, self._listener = worker, inputs, outputs, listener
        self._jobId = 0
        self._exported: Inputs.Exported | None = None
        base = Path(slicer.app.temporaryPath) / "AutoFuse"
        base.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="job-", dir=base))
        self._started = self._partStarted = time.monotonic()
        self._steps: StepRunner | None = None
        self._lifted = Placement.Lifted(inputs.nodes)
        self._do(Inputs.exportSteps(inputs, self._folder), self._submit)

    # ------------------------------------------------------------------------------------------------ what users ask

    @property
    def active(self) -> bool:
        """Whether it has not come to its end."""
        return self.state in ACTIVE

    @property
    def canFinishEarly(self) -> bool:
        """Whether there is a search that could end with its best result so far."""
        return self.state is State.RUNNING and self.stage == "refinement"

    def cancel(self) -> None:
        """Stop; the scene stays as it was before the run."""
        if self.state in (State.STARTING, State.IMPORTING):
            self._steps.stop()
            self._end(State.CANCELLED)
        elif self.state is State.RUNNING:
            self._change(State.CANCELLING)
            self._worker.cancel(self._jobId)

    def finishEarly(self) -> None:
        """End the search and go on with the best that it found."""
        if self.canFinishEarly:
            self._worker.finish(self._jobId)

    def abandon(self) -> None:
        """Stop without a word: the scene or the panel goes away."""
        self._listener = _nobody
        self.cancel()

    def remainingSeconds(self) -> float | None:
        """Estimate from the pace so far; None where it would be a guess."""
        elapsed = time.monotonic() - self._started
        if self.state is not State.RUNNING or elapsed < _REMAINING_AFTER_S or self.fraction < _REMAINING_FROM_FRACTION:
            return None
        return elapsed * (1.0 - self.fraction) / self.fraction

    # ------------------------------------------------------------------------------------------------ what happens

    def _do(self, steps: Steps[Any], then: Callable[[Any], None]) -> None:
        self._steps = StepRunner(steps, then, self._fail)

    def _submit(self, exported: Inputs.Exported) -> None:
        self._lifted.putBack()
        self._exported = exported
        self.warnings += exported.warnings
        self._partEnds("export")
        self.state = State.RUNNING
        self._jobId = self._worker.submit("register", exported.spec, self._onEvent, self._onAnswer)
        self._listener(self)

    def _onEvent(self, event: Event) -> None:
        if isinstance(event, Warning):
            self.warnings.append(event.text)
        elif isinstance(event, Progress):
            self.stage, self.fraction = event.stage, event.fraction
        else:
            return
        if self.state is State.RUNNING:
            self._listener(self)

    def _onAnswer(self, event: Event) -> None:
        self._partEnds("compute")
        if self.state is State.CANCELLING or (isinstance(event, Error) and event.code == "cancelled"):
            self._end(State.CANCELLED)
        elif isinstance(event, Result):
            self._change(State.IMPORTING)
            self._do(Outputs.importSteps(event, self._inputs, self._exported, self._outputs), self._finish)
        elif isinstance(event, Error):
            self._fail(AutoFuseError(event.code, event.text, event.hint))

    def _finish(self, result: ResultNodes) -> None:
        self.result = result
        self._partEnds("import")
        self._end(State.DONE)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, AutoFuseError):
            self._showTrace(error)
            error = AutoFuseError(
                "unexpected",
                _("An unexpected error stopped the registration: {error}.").format(error=error),
                _("Please report it with the log of Slicer (Help / Report a bug)."),
            )
        self.error = error
        self._end(State.FAILED)

    @staticmethod
    def _showTrace(error: Exception) -> None:
        import logging

        logging.error("AutoFuse: unexpected error", exc_info=error)

    def _partEnds(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name], self._partStarted = now - self._partStarted, now

    def _change(self, state: State) -> None:
        self.state = state
        self._listener(self)

    def _end(self, state: State) -> None:
        self._lifted.putBack()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._change(state)


def _nobody(run: Run) -> None:
    """Hear nothing."""
