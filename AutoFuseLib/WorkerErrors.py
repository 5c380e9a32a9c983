"""The errors that a worker process cannot tell itself, as the events that jobs are answered with."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from slicer.i18n import tr as _

from autofuse_engine.errors import CancelledError
from autofuse_engine.events import PROTOCOL, Error


def cancelled() -> Error:
    """The user stopped the job; the same words as the engine's own."""
    error = CancelledError()
    return Error(code=error.code, text=error.text, hint=error.hint)


def notStarted(reason: str, logPath: Path | None = None) -> Error:
    """The process did not come to life."""
    text = _("The AutoFuse worker process could not be started: {reason}.").format(reason=reason.rstrip("."))
    cure = _("Restart Slicer; if it stays, install Slicer and the extension again.")
    return Error(code="worker-not-started", text=text, hint=_withLog(cure, logPath))


def died(exitCode: int, crashed: bool, logPath: Path | None) -> Error:
    """The process ended in the middle of a job."""
    text = _("The AutoFuse worker process ended unexpectedly ({how}); nothing in the scene was lost.")
    cure = _("Try again: a new one is started.")
    if _signalOf(exitCode, crashed) == "SIGKILL":
        cure = _("Perhaps the memory ran out: close other programs or choose a coarser spacing; then try again.")
    return Error(code="worker-died", text=text.format(how=howItEnded(exitCode, crashed)), hint=_withLog(cure, logPath))


def unresponsive(seconds: float, logPath: Path | None) -> Error:
    """The process was started and said nothing."""
    text = _("The AutoFuse worker process did not answer within {seconds:g} s and was ended.").format(seconds=seconds)
    cure = _("Try again; the first start on a slow disk takes longer.")
    return Error(code="worker-unresponsive", text=text, hint=_withLog(cure, logPath))


def otherProtocol(received: int, logPath: Path | None) -> Error:
    """Slicer's side and the engine come from different versions."""
    text = _("The AutoFuse worker process speaks protocol {received}, this module speaks {own}.")
    cure = _("Two versions of AutoFuse are mixed: remove the other one, then restart Slicer.")
    return Error(
        code="worker-protocol", text=text.format(received=received, own=PROTOCOL), hint=_withLog(cure, logPath)
    )


def resultIncomplete(names: list[str], logPath: Path | None) -> Error:
    """Files that the result names are absent."""
    text = _("The result of the AutoFuse worker process lacks files: {names}.").format(names=", ".join(names))
    cure = _("Check that the disk of Slicer's temporary folder is not full, and try again.")
    return Error(code="result-incomplete", text=text, hint=_withLog(cure, logPath))


def howItEnded(exitCode: int, crashed: bool) -> str:
    """Exit code or signal in words; a launcher reports its child's signal as 128 + number."""
    name = _signalOf(exitCode, crashed)
    if name:
        return _("signal {name}").format(name=name)
    shown = f"0x{exitCode & 0xFFFFFFFF:08X}" if os.name == "nt" and not 0 <= exitCode < 256 else str(exitCode)
    return _("exit code {code}").format(code=shown)


def _signalOf(exitCode: int, crashed: bool) -> str:
    if os.name == "nt":
        return ""
    number = exitCode if crashed else exitCode - 128
    return signal.Signals(number).name if number in {int(known) for known in signal.Signals} else ""


def _withLog(cure: str, logPath: Path | None) -> str:
    return cure if logPath is None else cure + " " + _("Details are in {path}.").format(path=logPath)
