"""The slider Smoothness of a result: let it go, and the same registration runs again with what it shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from .Run import Run, State
from .RunPanel import stageText

_STEPS_PER_TENFOLD = 20
_WAIT_MS = 300
_PROGRESS_STEPS = 1000


class SmoothnessPanel:
    """Shows the smoothness of a result on a logarithmic scale, asks for another one, and shows how that goes.

    A value that is chosen while one is computed takes its place: that computation is cancelled.
    """

    def __init__(self, ui: Any, repeat: Callable[[float], None], cancel: Callable[[], None]) -> None:
        """
        Args:
            ui: the widgets by name.
            repeat: begins the registration with a smoothness; the run is then told by :meth:`showRun`.
            cancel: cancels the run.
        """
        self._ui, self._repeat, self._cancel = ui, repeat, cancel
        self._run: Run | None = None
        self._shown = 1.0
        self._reason = ""
        self._waiting: float | None = None
        self._widgets = (ui.repeatLabel, ui.repeatSlider, ui.repeatValueLabel, ui.repeatScale)
        slider = ui.repeatSlider
        slider.tracking = False
        slider.setRange(-_STEPS_PER_TENFOLD, _STEPS_PER_TENFOLD)
        slider.connect("sliderMoved(int)", self._showValue)
        slider.connect("valueChanged(int)", self._chosen)
        ui.repeatCancelButton.connect("clicked()", self._cancelled)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WAIT_MS)
        self._timer.connect("timeout()", self._start)
        self.hide()

    # ------------------------------------------------------------------------------------------------ what is shown

    @property
    def isRunning(self) -> bool:
        """Whether a registration runs that this slider began."""
        return self._run is not None and self._run.active

    def hide(self) -> None:
        """There is no result, or smoothness would not change it; a run is followed no longer."""
        self._run = None
        self._forget()
        for widget in (*self._widgets, self._ui.repeatRow):
            widget.visible = False

    def show(self, smoothness: float, reason: str) -> None:
        """Show the smoothness of a result.

        Args:
            smoothness: 0.1 to 10.
            reason: why there can be no other one, as a sentence; empty if there can.
        """
        self._forget()
        self._shown = smoothness
        for widget in self._widgets:
            widget.visible = True
        self._ui.repeatRow.visible = False
        self._showSlider(smoothness)
        self.setReason(reason)

    def setReason(self, reason: str) -> None:
        """Why the slider cannot be moved, empty if it can; it is the tooltip of all its parts."""
        self._reason = reason
        tip = reason or _(
            "Smoothness of the transform: larger is smoother and stiffer, smaller follows the images more closely. "
            "Let go, and the same registration runs again with it, from the alignment that was found."
        )
        for widget in self._widgets:
            widget.enabled = not reason
            widget.toolTip = tip
        if reason and self._timer.isActive():
            self._timer.stop()
            self._showSlider(self._shown)

    def showRun(self, run: Run) -> None:
        """Show how the run goes that :attr:`repeat` began, and begin the next one where another value waits."""
        self._run = run
        ui = self._ui
        ui.repeatRow.visible = run.active
        if run.active:
            cancelling = run.state is State.CANCELLING
            bar = ui.repeatBar
            bar.maximum = _PROGRESS_STEPS if run.state is State.RUNNING and run.fraction > 0 else 0
            bar.value = round(run.fraction * _PROGRESS_STEPS) if bar.maximum else 0
            ui.repeatStatusLabel.text = _stateText(run)
            ui.repeatCancelButton.enabled = not cancelling
            return
        self._run = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._repeat(waiting)
        elif run.state is not State.DONE and not self._timer.isActive():
            self._showSlider(self._shown)

    def cleanup(self) -> None:
        """Stop the clock."""
        self._forget()

    # ------------------------------------------------------------------------------------------------ own business

    def _forget(self) -> None:
        self._timer.stop()
        self._waiting = None

    def _chosen(self, position: int) -> None:
        self._showValue(position)
        self._timer.start()

    def _start(self) -> None:
        value = smoothnessAt(self._ui.repeatSlider.value)
        if self.isRunning:
            self._waiting = value
            self._cancel()
        elif value != self._shown:
            self._repeat(value)

    def _cancelled(self) -> None:
        self._forget()
        self._cancel()

    def _showValue(self, position: int) -> None:
        self._ui.repeatValueLabel.text = f"{smoothnessAt(position):g}"

    def _showSlider(self, smoothness: float) -> None:
        slider = self._ui.repeatSlider
        wasBlocked = slider.blockSignals(True)
        slider.value = positionOf(smoothness)
        slider.blockSignals(wasBlocked)
        self._ui.repeatValueLabel.text = f"{smoothness:g}"


def smoothnessAt(position: int) -> float:
    """What a position of the slider means: two digits, 0.1 to 10."""
    return float(f"{10 ** (position / _STEPS_PER_TENFOLD):.2g}")


def positionOf(smoothness: float) -> int:
    """The position of the slider that is nearest."""
    return round(_STEPS_PER_TENFOLD * math.log10(smoothness))


def _stateText(run: Run) -> str:
    known = {
        State.STARTING: _("Preparing the images..."),
        State.IMPORTING: _("Loading the result into the scene..."),
        State.CANCELLING: _("Cancelling..."),
    }
    return known.get(run.state) or stageText(run.stage)
