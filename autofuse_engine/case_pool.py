"""Runs one function for many cases in several processes: stops on demand, and leaves no process behind.

Processes are started afresh (``spawn``), as Windows does it, so nothing depends on what the parent has loaded. Each of
them watches its parent and ends with it, even when the parent is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_end
from multiprocessing.synchronize import Event
from typing import TypeVar

from autofuse_engine.errors import AutoFuseError, CancelledError, InputError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Asked = Callable[[], bool]

_LOOK_S = 0.2
_stop: Event | None = None


def map_cases(
    work: Callable[[Item, Asked], Outcome],
    items: Sequence[Item],
    *,
    jobs: int,
    done: Callable[[int, Outcome | AutoFuseError], None],
    cancelled: Asked = lambda: False,
) -> None:
    """Call ``work(item, cancelled)`` for each item and ``done(index, outcome)`` for each result, as they come.

    Args:
        work: a function at the top level of a module; an ``AutoFuseError`` that it raises becomes the outcome.
        items: what can be pickled.
        jobs: at most so many processes; with 1 everything happens in this one.
        done: called in this process, in any order of the indices; may raise to stop.
        cancelled: asked several times a second, and passed on to ``work``.

    Raises:
        CancelledError: once ``cancelled()`` is true; results until then were handed to ``done``.
        InputError: ``processes-lost`` if the system killed a process, for lack of memory as a rule.
    """
    jobs = max(1, min(jobs, len(items)))
    if jobs == 1:
        for index, item in enumerate(items):
            if cancelled():
                raise CancelledError(_CANCELLED)
            done(index, _outcome(work, item, cancelled))
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(stop,))
    try:
        waiting = {pool.submit(_in_child, work, item): index for index, item in enumerate(items)}
        _collect(waiting, done, cancelled)
    except BrokenProcessPool as error:
        raise InputError(
            "processes-lost",
            f"The system ended one of {jobs} processes, as it does when memory runs out.",
            "Close other programs, or use fewer processes with --jobs; what is done stays done.",
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def usable_cores() -> int:
    """How many processes run at once on this machine."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


_CANCELLED = "The run was cancelled; what is done stays, and the same command goes on from there."


def _collect(
    waiting: dict[Future, int], done: Callable[[int, Outcome | AutoFuseError], None], cancelled: Asked
) -> None:
    while waiting:
        if cancelled():
            raise CancelledError(_CANCELLED)
        finished, _ = wait(waiting, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
        for future in finished:
            done(waiting.pop(future), future.result())


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
