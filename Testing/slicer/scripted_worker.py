"""A worker process that needs no torch: the name of a job says how it behaves, the first argument how it starts."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from autofuse_engine.events import Error, Event, Metric, Progress, Result, greeting, to_json_line
from autofuse_engine.events import Warning as WarningEvent

DEAF_CHILD = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
requests: queue.Queue[dict[str, Any]] = queue.Queue()
cancelled: set[int] = set()
finished: set[int] = set()
closed = threading.Event()


def send(job_id: int, event: Event) -> None:
    sys.stdout.buffer.write(to_json_line(event, job_id).encode("utf-8") + b"\n")
    sys.stdout.buffer.flush()


def raw(data: bytes, pause_s: float = 0.0) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    time.sleep(pause_s)


def read() -> None:
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "cancel" in request:
            cancelled.add(request["cancel"])
        elif "finish" in request:
            finished.add(request["finish"])
        else:
            requests.put(request)
    closed.set()
    if "--stays" not in sys.argv:
        os._exit(0)


def slow(job_id: int) -> None:
    for step in range(6000):
        if job_id in cancelled:
            send(job_id, Error(code="cancelled", text="Stopped.", hint=""))
            return
        if job_id in finished:
            send(job_id, Result(report={"step": step}))
            return
        send(job_id, Progress(stage="refinement", fraction=step / 6000))
        time.sleep(0.02)


def noise(job_id: int) -> None:
    """Everything but events, then an event that arrives byte by byte."""
    raw(b'\xff\xfe not UTF-8\n{"id": 1\n[]\n\n{"id": 1, "event": "teleport"}\n' + b"[" * 20000 + b"\n")
    sys.stderr.write("stderr: Größe 5 µm\n")
    sys.stderr.flush()
    progress = to_json_line(Progress(stage="check", fraction=0.5, text="Größe µ 中"), job_id)
    for byte in progress.encode("utf-8") + b"\r\n":
        raw(bytes([byte]), 0.001)
    raw(to_json_line(Result(report={"long": "ä" * 1_500_000}), job_id).encode("utf-8") + b"\n")


def deaf(job_id: int) -> None:
    """Neither a request nor a polite signal ends it, and it has a child of its own that is like it."""
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", DEAF_CHILD], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    child.stdout.readline()  # pyright: ignore[reportOptionalMemberAccess]
    send(job_id, Metric(stage="deaf", step=child.pid, values={"parent": os.getpid()}))
    time.sleep(600)


def dying(job_id: int) -> None:
    """Answers only when its process is told to end, and takes its time to do so."""

    def answer(*_: Any) -> None:
        send(job_id, Error(code="cancelled", text="Stopped.", hint=""))
        time.sleep(0.2)
        os._exit(1)

    signal.signal(signal.SIGTERM, answer)
    send(job_id, Progress(stage="dying", fraction=0.1))
    time.sleep(600)


def leave_once(job_id: int, spec: dict[str, Any]) -> None:
    """As an idle worker that left just when the job was sent; the next process does the job, unless told otherwise."""
    marker = Path(spec["marker"])
    if spec.get("always") or not marker.exists():
        marker.write_text("here", encoding="utf-8")
        os._exit(0)
    send(job_id, Result(report={"pid": os.getpid()}))


def run(job_id: int, name: str, spec: dict[str, Any]) -> None:
    if name == "echo":
        send(job_id, Progress(stage="check", fraction=0.5))
        send(job_id, WarningEvent(code="less-memory", text="Less."))
        send(job_id, Result(report={"spec": spec, "pid": os.getpid()}, files=spec.get("files", {})))
    elif name == "slow":
        slow(job_id)
    elif name == "late":  # too far to stop: the result comes although the job was cancelled
        send(job_id, Progress(stage="saving", fraction=0.9))
        while job_id not in cancelled:
            time.sleep(0.01)
        send(job_id, Result())
    elif name == "noise":
        noise(job_id)
    elif name == "deaf":
        deaf(job_id)
    elif name == "dying":
        dying(job_id)
    elif name == "leave once":
        leave_once(job_id, spec)
    elif name == "exit":
        send(job_id, Progress(stage="check", fraction=0.1))
        raw(b"the last words, without an end of line")
        os._exit(spec["code"])
    elif name == "crash":
        send(job_id, Progress(stage="check", fraction=0.1))
        os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    elif name == "environment":
        send(job_id, Result(report={"environment": dict(os.environ), "path": sys.path, "pid": os.getpid()}))
    elif name == "refuse":
        send(0, Error(code="request-invalid", text="What?", hint="Nothing."))


def main() -> None:
    start = sys.argv[1] if len(sys.argv) > 1 else ""
    if start == "exits":
        sys.exit(3)
    if start == "silent":
        time.sleep(600)
    if start == "late":
        sys.stdin.buffer.read()
    first = greeting("0", os.getpid())
    if start == "foreign":
        first = Progress(stage="ready", fraction=1.0, text=f"autofuse 9, protocol 77, process {os.getpid()}")
    send(0, first)
    if start == "packages":
        send(0, Error(code="packages-missing", text="No module named 'torch'.", hint="Install it."))
        sys.exit(1)
    threading.Thread(target=read, daemon=True).start()
    idle_s = float(start) if start.replace(".", "").isdigit() else 60.0
    while True:
        try:
            request = requests.get(timeout=idle_s)
        except queue.Empty:
            os._exit(0)
        run(request["id"], request["job"], request["spec"])


if __name__ == "__main__":
    main()
