"""Long work in small pieces, so that Slicer's window stays responsive: generators that yield between pieces.

A function whose name ends in ``Steps`` is a generator: it does at most a few dozen milliseconds of work, yields None,
and returns its value at the end. Steps chain with ``value = yield from otherSteps(...)``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import qt
import slicer

Value = TypeVar("Value")
Steps = Generator[None, None, Value]

_TURN_S = 0.02


def exhaust(steps: Steps[Value]) -> Value:
    """Do all pieces at once and give the value; for scripts, where nobody waits at a window."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


class StepRunner:
    """Does the pieces of one generator in turns of Slicer's event loop.

    Pieces run until a turn has lasted about 20 ms; then the event loop gets its turn. A runner is used once.
    """

    def __init__(self, steps: Steps[Any], onDone: Callable[[Any], None], onError: Callable[[Exception], None]) -> None:
        """Begin at the next turn of the event loop.

        Args:
            steps: the generator.
            onDone: receives its value.
            onError: receives what it raised; nothing reaches the event loop.
        """
        self._steps = steps
        self._onDone = onDone
        self._onError = onError
        self._timer = qt.QTimer(slicer.app)  # PythonQt deletes a timer without a parent with its last reference, also
        self._timer.setInterval(0)  # in the middle of its own signal
        self._timer.connect("timeout()", self._turn)
        self._timer.start()

    @property
    def running(self) -> bool:
        """Whether pieces are left."""
        return self._timer is not None

    def stop(self) -> None:
        """Drop the remaining pieces; the generator's ``finally`` clauses run, neither callback does."""
        if self._end():
            self._steps.close()

    def _turn(self) -> None:
        end = time.monotonic() + _TURN_S
        while self._timer is not None and time.monotonic() < end:
            try:
                next(self._steps)
            except StopIteration as done:
                if self._end():
                    self._onDone(done.value)
            except Exception as error:
                if self._end():
                    self._onError(error)

    def _end(self) -> bool:
        if self._timer is None:
            return False
        self._timer.stop()
        self._timer.deleteLater()
        self._timer = None
        return True
