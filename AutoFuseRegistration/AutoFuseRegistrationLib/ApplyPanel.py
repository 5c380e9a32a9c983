"""The group "Apply to...": put any nodes under the result, or make warped copies of them."""

from __future__ import annotations

from typing import Any

import slicer.util
from slicer.i18n import tr as _

from autofuse_engine.errors import AutoFuseError
from AutoFuseLib import ApplyTo, Placement
from AutoFuseLib.ResultNodes import ResultNodes
from AutoFuseLib.Steps import StepRunner

TO_FIXED, TO_MOVING = "toFixed", "toMoving"


class ApplyPanel:
    """Chooses nodes and direction; the work is done by ``AutoFuseLib.ApplyTo``."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._result: ResultNodes | None = None
        self._runner: StepRunner | None = None
        ui.directionBox.addItem(_("Of the moving volume, to the fixed one"), TO_FIXED)
        ui.directionBox.addItem(_("Of the fixed volume, to the moving one"), TO_MOVING)
        ui.applyNodesButton.connect("clicked()", self._putUnder)
        ui.hardenNodesButton.connect("clicked()", self._copies)
        ui.takeOutButton.connect("clicked()", self._takeOut)
        ui.applyNodesBox.connect("checkedNodesChanged()", self._update)
        ui.directionBox.connect("currentIndexChanged(int)", lambda index: self._update())

    def setResult(self, result: ResultNodes | None) -> None:
        """Act on this result from now on."""
        if self._runner is not None:
            self._runner.stop()
            self._runner = None
        self._result = result
        self._update()

    def _reason(self) -> str:
        if self._result is None:
            return _("There is no result yet.")
        if self._runner is not None:
            return _("The copies are being made.")
        if not self._ui.applyNodesBox.checkedNodes():
            return _("Check one or more nodes.")
        if self._ui.directionBox.currentData == TO_MOVING and self._result.inverse is None:
            return _("This result has no inverse transform: tick it under Outputs and register again.")
        return ""

    def _update(self) -> None:
        reason = self._reason()
        tips = {
            "applyNodesButton": _("Put the nodes under the transform: they move, and can be taken out again."),
            "hardenNodesButton": _("Make new, warped nodes; volumes are resampled, labelmaps by their nearest label."),
            "takeOutButton": _("Put the nodes back to where they were before."),
        }
        for name, tip in tips.items():
            button = getattr(self._ui, name)
            button.enabled = not reason
            button.toolTip = reason or tip

    def _nodes(self) -> list[Any]:
        return list(self._ui.applyNodesBox.checkedNodes())

    def _putUnder(self) -> None:
        self._start(harden=False)

    def _copies(self) -> None:
        self._start(harden=True)

    def _start(self, *, harden: bool) -> None:
        direction = self._ui.directionBox.currentData
        steps = ApplyTo.applySteps(self._result, self._nodes(), harden=harden, direction=direction)
        self._runner = StepRunner(steps, self._done, self._failed)
        self._update()

    def _takeOut(self) -> None:
        for node in self._nodes():
            Placement.takeOut(node)

    def _done(self, nodes: Any) -> None:
        self._runner = None
        self._update()

    def _failed(self, error: Exception) -> None:
        self._runner = None
        self._update()
        if not isinstance(error, AutoFuseError):
            raise error
        slicer.util.errorDisplay(f"{error.text}\n\n{error.hint}".strip())
