"""Ctrl-C in two steps: the first one asks the running job to stop, the second one stops it."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from autofuse_engine.errors import CancelledError


class Interruption:
    """A context manager whose instance is the ``cancelled`` callable of a use case.

    While it is active, the first Ctrl-C (or SIGTERM) makes the instance return True, the second one raises
    KeyboardInterrupt wherever the program is, and a third one ends the process. Outside of the main thread, where
    Python allows no signal handlers, it never returns True.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether the user asked to stop."""
        return self._asked

    def check(self) -> None:
        """Stop here if the user asked to.

        Raises:
            CancelledError: in that case.
        """
        if self._asked:
            raise CancelledError

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        self._asked = True
        print("\nStopping after the current step; press Ctrl-C again to stop at once.", file=sys.stderr, flush=True)
