"""How the worker process is started: program, arguments, environment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import qt
import slicer

import autofuse_engine

ARGUMENTS = ("-m", "autofuse_engine", "worker")
ENVIRONMENT = {
    "THP_MEM_ALLOC_ENABLE": "1",  # huge pages: torch is 1.1 to 1.2 times faster on Linux CPUs
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads leave the processor to Slicer
    "PYTHONUNBUFFERED": "1",  # the log is there when the process crashes
    "PYTHONFAULTHANDLER": "1",  # a crash in a library leaves Python's stack in the log
    "PYTHONUTF8": "1",
    "PYTHONIOENCODING": "utf-8",
}


@dataclass(frozen=True)
class WorkerCommand:
    """A command line and what it adds to the environment of Slicer."""

    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    def processEnvironment(self) -> qt.QProcessEnvironment:
        """Slicer's own environment, in which its libraries are found, with the additions."""
        environment = qt.QProcessEnvironment.systemEnvironment()
        for name, value in self.environment.items():
            environment.insert(name, value)
        return environment


def makeCommand(
    program: str | None = None, arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> WorkerCommand:
    """The command of the worker, or of a stand-in.

    Args:
        program: default ``PythonSlicer``.
        arguments: default those that start the worker.
        environment: added to the defaults, or replaces them by name.

    Raises:
        FileNotFoundError: if the program does not exist.
    """
    found = findPythonSlicer() if program is None else shutil.which(program)
    if found is None:
        raise FileNotFoundError(program or "PythonSlicer")
    added = {**ENVIRONMENT, "PYTHONPATH": pythonPath(), **(environment or {})}
    return WorkerCommand(found, tuple(ARGUMENTS if arguments is None else arguments), added)


def pythonPath() -> str:
    """The module search path with the folder of the engine that Slicer loaded first, so that both are one version."""
    folder = str(Path(autofuse_engine.__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([folder, *(entry for entry in inherited if entry and entry != folder)])


def findPythonSlicer() -> str | None:
    """Slicer's Python: Slicer puts it on the path; otherwise it lies in the ``bin`` folder.

    Not ``sys.executable``, which may be Slicer itself.
    """
    return shutil.which("PythonSlicer") or shutil.which("PythonSlicer", path=str(Path(slicer.app.slicerHome) / "bin"))
