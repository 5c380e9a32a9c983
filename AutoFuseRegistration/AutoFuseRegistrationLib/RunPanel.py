"""The Register button, the progress bar and the line below it: what runs, how long it still takes, what went wrong."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer.util
from slicer.i18n import tr as _

from autofuse_engine.errors import AutoFuseError

from .Run import Run, State

_PROGRESS_STEPS = 1000
_CLOCK_MS = 500


class RunPanel:
    """Shows the state of a run; while one is active, Register is Cancel."""

    def __init__(
        self, ui: Any, register: Callable[[], None], cancel: Callable[[], None], finish: Callable[[], None]
    ) -> None:
        """
        Args:
            ui: the widgets by name.
            register: called when the user presses Register.
            cancel: called when the user presses Cancel.
            finish: called when the user wants the result so far.
        """
        self._ui, self._register, self._cancel = ui, register, cancel
        self._run: Run | None = None
        self._reason = ""
        self._clock = qt.QTimer()
        self._clock.setInterval(_CLOCK_MS)
        self._clock.connect("timeout()", self._tick)
        ui.registerButton.connect("clicked()", self._clicked)
        ui.finishButton.connect("clicked()", finish)
        ui.finishButton.toolTip = _("End the search and take the best transform that it found.")
        ui.statusLabel.connect("linkActivated(QString)", self._openLog)
        self.showIdle()

    def setReason(self, reason: str) -> None:
        """Why Register cannot be pressed, empty if it can."""
        self._reason = reason
        if self._run is None or not self._run.active:
            self._showRegister()

    def showIdle(self, text: str = "") -> None:
        """Nothing runs."""
        self._run = None
        self._clock.stop()
        self._ui.progressBar.visible = False
        self._ui.finishButton.visible = False
        self._showText(text)
        self._showRegister()

    def show(self, run: Run, logPath: Path | None) -> None:
        """Show what the run is doing or how it ended."""
        self._run = run
        if run.active:
            self._showActive(run)
            return
        warnings = list(run.warnings)
        self.showIdle()
        if run.state is State.DONE:
            self._showText(_("Done in {seconds:.0f} s.").format(seconds=sum(run.seconds.values())), warnings)
        elif run.state is State.CANCELLED:
            self._showText(_("Cancelled. The scene is as it was before."))
        else:
            self.showError(run.error, logPath)

    def showError(self, error: AutoFuseError, logPath: Path | None) -> None:
        """Show an error in the panel, and in a window with the details."""
        self.showIdle()
        parts = [f"<b>{html.escape(error.text)}</b>", html.escape(error.hint)]
        if logPath is not None:
            parts.append(f'<a href="{html.escape(str(logPath))}">{html.escape(_("Open the log"))}</a>')
        self._ui.statusLabel.text = "<br>".join(part for part in parts if part)
        self._ui.statusLabel.visible = True
        details = _("Code: {code}").format(code=error.code)
        if logPath is not None:
            details += "\n" + _("Log file: {path}").format(path=logPath)
        slicer.util.errorDisplay(f"{error.text}\n\n{error.hint}".strip(), detailedText=details)

    def cleanup(self) -> None:
        """Stop the clock."""
        self._clock.stop()

    # ------------------------------------------------------------------------------------------------ own business

    def _clicked(self) -> None:
        if self._run is not None and self._run.active:
            self._cancel()
        else:
            self._register()

    def _showRegister(self) -> None:
        button = self._ui.registerButton
        button.text = _("Register")
        button.enabled = not self._reason
        button.toolTip = self._reason or _("Find the transform that takes the moving volume onto the fixed one.")

    def _showActive(self, run: Run) -> None:
        self._clock.start()
        button = self._ui.registerButton
        cancelling = run.state is State.CANCELLING
        button.text = _("Cancelling...") if cancelling else _("Cancel")
        button.enabled = not cancelling
        button.toolTip = _("Stop the registration; the scene stays as it is.")
        self._ui.finishButton.visible = run.canFinishEarly
        bar = self._ui.progressBar
        bar.visible = True
        bar.maximum = _PROGRESS_STEPS if run.state is State.RUNNING and run.fraction > 0 else 0
        bar.value = round(run.fraction * _PROGRESS_STEPS) if bar.maximum else 0
        self._tick()

    def _tick(self) -> None:
        run = self._run
        if run is None or not run.active:
            return
        text = {
            State.STARTING: _("Preparing the images..."),
            State.IMPORTING: _("Loading the result into the scene..."),
            State.CANCELLING: _("Cancelling..."),
        }.get(run.state) or stageText(run.stage)
        remaining = run.remainingSeconds()
        if remaining is not None:
            text += " " + _("About {seconds:.0f} s left.").format(seconds=max(1.0, remaining))
        self._showText(text, run.warnings)

    def _showText(self, text: str, warnings: list[str] | None = None) -> None:
        lines = [html.escape(text)] + [f"<i>{html.escape(warning)}</i>" for warning in warnings or []]
        self._ui.statusLabel.text = "<br>".join(line for line in lines if line)
        self._ui.statusLabel.visible = bool(text or warnings)

    @staticmethod
    def _openLog(path: str) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(path))


def stageText(stage: str) -> str:
    """A stage of the worker's job in the user's words."""
    return {
        "": _("Starting the worker process; the first time takes some seconds..."),
        "check": _("Checking the images..."),
        "initial alignment": _("Initial alignment..."),
        "network": _("Network..."),
        "refinement": _("Refinement..."),
        "integration": _("Computing transform and inverse..."),
        "outputs": _("Warping and judging..."),
        "saving": _("Handing over the result..."),
    }.get(stage, stage)
