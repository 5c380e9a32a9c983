"""What all tests share: one thread for torch, no models of the user, and an honest exit code."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # sums depend on how many threads share them
os.environ["AUTOFUSE_MODELS"] = str(Path(tempfile.gettempdir()) / "autofuse-tests-know-no-models")

_SESSION: pytest.StashKey[pytest.Session] = pytest.StashKey()


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[_SESSION] = session


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without Python's shutdown where 3D Slicer's libraries are loaded.

    Their C++ objects and those of Qt outlive each other in an order that nobody controls, and the process crashes
    after the last test was judged; the exit code would then be that of the crash instead of that of the tests.
    """
    session = config.stash.get(_SESSION, None)
    if session is not None and "slicer" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(session.exitstatus))
