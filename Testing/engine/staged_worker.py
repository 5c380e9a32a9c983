"""A real worker process whose registration is staged: the name of the fixed image says how it behaves.

``slow`` polls for cancellation and for an early finish, ``deaf`` never does, ``noisy`` prints in every way there is,
``broken`` and ``refused`` raise; any other name gives the result of :func:`fake_register` at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

from fake_registration import fake_register

import autofuse_engine.worker_jobs as worker_jobs
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import CancelledError, InputError
from autofuse_engine.events import Progress
from autofuse_engine.registration import RegistrationResult
from autofuse_engine.worker import serve


def staged_register(
    fixed: Volume, moving: Volume, *, report: Any, cancelled: Any, finish_early: Any, **more: Any
) -> RegistrationResult:
    """See the module."""
    report(Progress(stage="check", fraction=0.0, text=fixed.name))
    if fixed.name == "slow":
        for step in range(1000):
            if cancelled():
                raise CancelledError
            if finish_early():
                break
            report(Progress(stage="refinement", fraction=step / 1000))
            time.sleep(0.03)
    elif fixed.name == "deaf":
        time.sleep(60)
    elif fixed.name == "noisy":
        print('{"id": 99, "event": "result", "files": {}, "report": {}}', flush=True)
        os.write(1, b"from a library written in C\n")
        subprocess.run([sys.executable, "-c", "print('from a child process')"], check=True)
        sys.stdin.read()
    elif fixed.name == "broken":
        raise ZeroDivisionError("staged")
    elif fixed.name == "refused":
        raise InputError("image-constant", "The fixed image is 7 everywhere.", "Choose another one.")
    return fake_register(fixed, moving, report=report, cancelled=cancelled, **more)


if __name__ == "__main__":
    worker_jobs.register = staged_register  # pyright: ignore[reportAttributeAccessIssue]
    serve(float(sys.argv[1]))
