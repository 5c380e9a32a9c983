"""``autofuse worker``: a long-lived process that takes jobs as JSON lines and answers with events as JSON lines.

docs/worker-protocol.md is the reference. This file is the process: pipes, queue, cancelling and leaving. What a job
does stands in ``worker_jobs.py``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

from autofuse_engine import __version__
from autofuse_engine.errors import AutoFuseError, CancelledError, InputError
from autofuse_engine.events import Error, Event, greeting, to_json_line

GRACE_S = 1.0
"""After stdin closed, a job that does not notice its cancellation has this long before the process ends."""


@dataclass(frozen=True, eq=False)
class Job:
    """One request."""

    id: int
    name: str
    spec: Mapping[str, Any]
    cancelled: threading.Event = field(default_factory=threading.Event)
    finish_early: threading.Event = field(default_factory=threading.Event)


def serve(idle_seconds: float = 300.0) -> NoReturn:
    """Serve jobs, then end the process: when stdin closes, or when nothing happened for ``idle_seconds``.

    Raises:
        InputError: ``options-invalid`` for a waiting time that is not above zero.
    """
    if not idle_seconds > 0:
        raise InputError(
            "options-invalid", f"--idle-seconds is above 0, received {idle_seconds:g}.", "Give a number of seconds."
        )
    requests, answers = _take_pipes()
    outbox = Outbox(answers)
    inbox = Inbox(outbox)
    threading.Thread(target=inbox.read, args=(requests,), name="stdin", daemon=True).start()
    outbox.send(0, greeting(__version__, os.getpid()))
    jobs = _load_jobs(outbox)
    while (job := inbox.next(min(idle_seconds, threading.TIMEOUT_MAX))) is not None:
        _run(jobs, job, outbox)
        inbox.finished(job)
    sys.stderr.flush()
    os._exit(0)  # not a plain return: a thread that is blocked in reading stdin can crash Python's own shutdown


def _load_jobs(outbox: Outbox) -> Any:
    """The jobs, loaded after the greeting as this imports torch; without its packages the process says so and ends."""
    try:
        from autofuse_engine.worker_jobs import Jobs
    except (ImportError, OSError) as error:  # OSError: a library of torch that the system cannot load
        traceback.print_exc()
        sys.stderr.flush()
        text = f"The worker cannot load a Python package that it needs: {error}."
        hint = "Install torch 2.2 or newer, safetensors, numpy and SimpleITK into the Python that runs the worker."
        outbox.send(0, Error(code="packages-missing", text=text, hint=hint))
        os._exit(1)
    return Jobs()


class Outbox:
    """Writes whole lines to the answers' pipe, from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, job_id: int, event: Event) -> None:
        """Write one event; ends the process when nobody can read it any more."""
        line = to_json_line(event, job_id).encode("utf-8", errors="replace") + b"\n"
        with self._lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):
                os._exit(0)

    def refuse(self, job_id: int, text: str) -> None:
        """Answer a request that cannot be understood."""
        hint = "See docs/worker-protocol.md."
        self.send(job_id, Error(code="request-invalid", text=text, hint=hint))


class Inbox:
    """The queue of jobs, filled by the thread that reads stdin."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False

    def read(self, stream: BinaryIO) -> None:
        """Take requests until the stream ends, then let the process end. Runs in its own thread."""
        for line in stream:
            text = line.decode("utf-8", errors="replace").strip()
            if text:
                self._take(text)
        self._close()

    def next(self, idle_seconds: float) -> Job | None:
        """Wait for a job; None when stdin closed or no job came in that time."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting, timeout=idle_seconds)
            if self._closed or not self._waiting:
                return None
            self._running = self._waiting.popleft()
            return self._running

    def finished(self, job: Job) -> None:
        """The job was answered; its id may be used again."""
        with self._changed:
            if self._running is job:
                self._running = None

    def _take(self, text: str) -> None:
        try:
            request = json.loads(text)
        except json.JSONDecodeError as error:
            self._outbox.refuse(0, f"A request is not JSON ({error.msg} at column {error.colno}).")
            return
        if not isinstance(request, dict):
            self._outbox.refuse(0, f"A request is an object, received {text[:80]}.")
        elif "cancel" in request:
            self._cancel(request["cancel"])
        elif "finish" in request:
            self._finish(request["finish"])
        else:
            self._enqueue(request)

    def _enqueue(self, request: Mapping[str, Any]) -> None:
        job_id, name, spec = request.get("id"), request.get("job"), request.get("spec", {})
        if type(job_id) is not int or job_id < 1:
            self._outbox.refuse(0, f"A request has an id, a whole number above 0, received {job_id!r}.")
        elif not isinstance(name, str) or not isinstance(spec, dict):
            self._outbox.refuse(job_id, f"Request {job_id} needs a job (text) and a spec (object).")
        else:
            with self._changed:
                busy = {job.id for job in (*self._waiting, *([self._running] if self._running else []))}
                if job_id not in busy:
                    self._waiting.append(Job(job_id, name, spec))
                    self._changed.notify()
            if job_id in busy:
                self._outbox.refuse(0, f"The id {job_id} belongs to a job that is not finished.")

    def _cancel(self, job_id: Any) -> None:
        """A job that runs is told; one that waits is answered at once; any other was answered already."""
        with self._changed:
            if self._running is not None and self._running.id == job_id:
                self._running.cancelled.set()
                return
            waiting = next((job for job in self._waiting if job.id == job_id), None)
            if waiting is not None:
                self._waiting.remove(waiting)
        if waiting is not None:
            self._outbox.send(waiting.id, error_event(CancelledError()))

    def _finish(self, job_id: Any) -> None:
        """A job that searches shall go on with the best that it has; one that waits will hardly search at all."""
        with self._changed:
            for job in (*self._waiting, *([self._running] if self._running else [])):
                if job.id == job_id:
                    job.finish_early.set()

    def _close(self) -> None:
        with self._changed:
            self._closed = True
            self._waiting.clear()
            if self._running is not None:
                self._running.cancelled.set()
            self._changed.notify()
        time.sleep(GRACE_S)
        os._exit(0)


def error_event(error: BaseException) -> Error:
    """What a failed job answers; unexpected errors have the code ``unexpected``."""
    if isinstance(error, AutoFuseError):
        return Error(code=error.code, text=error.text, hint=error.hint)
    text = f"{type(error).__name__}: {error}"
    return Error(code="unexpected", text=text, hint="This is a defect; the worker's log has the details.")


def _run(jobs: Any, job: Job, outbox: Outbox) -> None:
    try:
        stops = {"cancelled": job.cancelled.is_set, "finish_early": job.finish_early.is_set}
        answer = jobs.run(job.name, job.spec, report=lambda event: outbox.send(job.id, event), **stops)
    except AutoFuseError as error:
        outbox.send(job.id, error_event(error))
    except Exception as error:
        traceback.print_exc()
        outbox.send(job.id, error_event(error))
    else:
        outbox.send(job.id, answer)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Private copies of stdin and stdout; what anyone else prints goes to stderr, what anyone reads is empty.

    Works below Python, by file descriptor, so that C++ libraries and child processes are caught too.
    """
    sys.stdout.flush()
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers
