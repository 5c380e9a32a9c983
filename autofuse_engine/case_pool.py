"""Runs one function for many cases in several processes: stops on demand, and leaves no process behind.

Processes are started afresh (``spawn``), as Windows does it, so nothing depends on what the parent has loaded. Each of
them watches its parent and ends with it, even when the parent is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_end
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import TypeVar

from autofuse_engine.errors import AutoFuseError, CancelledError, InputError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Asked = Callable[[], bool]

_LOOK_S = 0.2
_CANCELLED = "The run was cancelled; what is done stays, and the same command goes on from there."
_stop: Event | None = None


class CasePool:
    """Processes that are started when they are first needed and serve until the block ends.

    Args:
        jobs: at most so many processes; with 1 everything happens in this one.
        cancelled: asked several times a second, and passed on to the work.
    """

    def __init__(self, jobs: int, cancelled: Asked = lambda: False) -> None:
        self._jobs = max(1, jobs)
        self._cancelled = cancelled
        self._stop: Event | None = None
        self._processes: ProcessPoolExecutor | None = None

    def __enter__(self) -> CasePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stop is not None:
            self._stop.set()
        if self._processes is not None:
            self._processes.shutdown(wait=True, cancel_futures=True)

    def map(
        self,
        work: Callable[[Item, Asked], Outcome],
        items: Sequence[Item],
        done: Callable[[int, Outcome | AutoFuseError], None],
    ) -> None:
        """Call ``work(item, cancelled)`` for each item and ``done(index, outcome)`` for each result, as they come.

        Args:
            work: a function at the top level of a module; an ``AutoFuseError`` that it raises becomes the outcome.
            items: what can be pickled.
            done: called in this process, in any order of the indices; may raise to stop.

        Raises:
            CancelledError: once ``cancelled()`` is true; results until then were handed to ``done``.
            InputError: ``processes-lost`` if the system killed a process, for lack of memory as a rule.
        """
        if self._jobs == 1 or (len(items) < 2 and self._processes is None):
            for index, item in enumerate(items):
                self._stop_if_asked()
                done(index, _outcome(work, item, self._cancelled))
            return
        try:
            with _children_shielded():
                processes = self._started()
                waiting = {processes.submit(_in_child, work, item): index for index, item in enumerate(items)}
            while waiting:
                self._stop_if_asked()
                finished, _ = wait(waiting, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
                for future in finished:
                    done(waiting.pop(future), future.result())
        except BrokenProcessPool as error:
            raise InputError(
                "processes-lost",
                f"The system ended one of {self._jobs} processes, as it does when memory runs out.",
                "Close other programs, or use fewer processes with --jobs; what is done stays done.",
            ) from error

    def _started(self) -> ProcessPoolExecutor:
        if self._processes is None:
            context = multiprocessing.get_context("spawn")
            self._stop = context.Event()
            self._processes = ProcessPoolExecutor(
                self._jobs, mp_context=context, initializer=_begin, initargs=(self._stop,)
            )
        return self._processes

    def _stop_if_asked(self) -> None:
        if self._cancelled():
            raise CancelledError(_CANCELLED)


def usable_cores() -> int:
    """How many processes run at once on this machine."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@contextmanager
def _children_shielded() -> Iterator[None]:
    """Processes that are started in the block never see Ctrl-C, also not before their first own line runs.

    They inherit the mask. A Ctrl-C in the meantime is not lost: this process gets it when the block ends. Windows has
    no masks; there the signal is ignored from :func:`_begin` on.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outcome(work: Callable[[Item, Asked], Outcome], item: Item, cancelled: Asked) -> Outcome | AutoFuseError:
    try:
        return work(item, cancelled)
    except CancelledError:
        raise CancelledError(_CANCELLED) from None
    except AutoFuseError as error:
        return error


def _in_child(work: Callable[[Item, Asked], Outcome], item: Item) -> Outcome | AutoFuseError:
    return _outcome(work, item, lambda: _stop is not None and _stop.is_set())


def _begin(stop: Event) -> None:
    """What each process does first: one thread for libraries, Ctrl-C left to the parent, an eye on the parent."""
    global _stop
    _stop = stop
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    wait_for_end([sentinel])
    os._exit(1)
