"""A job of the worker as a panel sees it: how far it is, its one answer, and Cancel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autofuse_engine.errors import AutoFuseError, CancelledError
from autofuse_engine.events import Event, Progress, Result, Warning


class Job:
    """One job from its request to its answer; nothing is told after :meth:`abandon`.

    Attributes:
        active: whether the answer is still to come.
        fraction: of the job, in [0, 1].
        text: what is being done, for instance the name of a case.
        stage: of the job, in the engine's words.
        cancelling: whether the user asked to stop it.
        warnings: sentences that the user should read.
        result: files and report, at a good end.
        error: why there is none.
    """

    def __init__(self, worker: Any, name: str, spec: Mapping[str, Any], listener: Callable[[Job], None]) -> None:
        """Ask the worker.

        Args:
            worker: a ``WorkerProcess``, or what tests put in its place.
            name: of the job.
            spec: what docs/worker-protocol.md says for it.
            listener: called after every change, with this job.
        """
        self.name = name
        self.active, self.cancelling = True, False
        self.fraction, self.stage, self.text = 0.0, "", ""
        self.warnings: list[str] = []
        self.result: Result | None = None
        self.error: AutoFuseError | None = None
        self._worker, self._listener = worker, listener
        self._id = worker.submit(name, spec, self._onEvent, self._onAnswer)

    def cancel(self) -> None:
        """Ask the worker to stop; the answer comes as for any end."""
        if self.active and not self.cancelling:
            self.cancelling = True
            self._worker.cancel(self._id)
            self._listener(self)

    def abandon(self) -> None:
        """Stop without a word: the panel goes away."""
        self._listener = _nobody
        self.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether it ended because somebody asked."""
        return isinstance(self.error, CancelledError) or (self.error is not None and self.error.code == "cancelled")

    def _onEvent(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.stage, self.fraction, self.text = event.stage, event.fraction, event.text
        elif isinstance(event, Warning):
            self.warnings.append(event.text)
        self._listener(self)

    def _onAnswer(self, event: Event) -> None:
        self.active = False
        if isinstance(event, Result):
            self.result = event
        else:
            self.error = AutoFuseError(event.code, event.text, event.hint)
        self._listener(self)


def _nobody(job: Job) -> None:
    """Hear nothing."""
