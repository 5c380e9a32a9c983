"""Starts the engine's command line as a process of its own, which goes on when Slicer ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import qt

from AutoFuseLib.WorkerCommand import makeCommand


def startDetached(
    arguments: Sequence[str], outputPath: Path, errorPath: Path, environment: Mapping[str, str] | None = None
) -> bool:
    """Start ``PythonSlicer -m autofuse_engine ARGUMENTS`` and let go of it.

    Args:
        arguments: of the command line, after the program's name.
        outputPath: receives what the process prints; written anew. Its folder becomes the working folder.
        errorPath: receives its log, likewise.
        environment: variables beside those that the worker has too.

    Returns:
        Whether the system started it; what becomes of it is told by what it writes.

    Raises:
        FileNotFoundError: if ``PythonSlicer`` does not exist.
    """
    command = makeCommand(None, ["-m", "autofuse_engine", *arguments], environment)
    process = qt.QProcess()
    process.setProgram(command.program)
    process.setArguments(list(command.arguments))
    process.setProcessEnvironment(command.processEnvironment())
    process.setWorkingDirectory(str(outputPath.parent))
    process.setStandardInputFile(qt.QProcess.nullDevice())
    process.setStandardOutputFile(str(outputPath))
    process.setStandardErrorFile(str(errorPath))
    return bool(process.startDetached())
