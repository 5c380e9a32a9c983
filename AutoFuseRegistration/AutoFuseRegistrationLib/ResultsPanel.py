"""The section Results: the verdict, one row of visual checks, Before / After, the figures."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer
import slicer.util
from slicer.i18n import tr as _

from AutoFuseLib import GatePlot, ReportTable
from AutoFuseLib.ResultNodes import REPORT_ATTRIBUTE, ResultNodes
from AutoFuseLib.Steps import StepRunner
from AutoFuseLib.VisualChecks import VisualChecks

from .ApplyPanel import ApplyPanel
from .ExportPanel import ExportPanel

_VERDICT_COLORS = {"good": "#2e9e4f", "check": "#d98e04", "bad": "#d64541"}
"""Legible on the light and on the dark theme."""

_SHOWN_FIRST = "blend"
_MOST_ROWS = 24
_OPACITY_OF = ("blend", "jacobian", "uncertainty", "regularity")


class ResultsPanel:
    """Shows one result of the scene; the visual checks act on it and give the views back afterwards."""

    def __init__(self, ui: Any, resourcePath: Callable[[str], str], shown: Callable[[], None]) -> None:
        """
        Args:
            ui: the widgets by name.
            resourcePath: path of a file in the module's resources.
            shown: called when another result is shown, or none.
        """
        self._shown: Callable[[], None] = _nothing
        self._ui = ui
        self.result: ResultNodes | None = None
        self.checks: VisualChecks | None = None
        self._runner: StepRunner | None = None
        self._previousLayout: int | None = None
        self._apply = ApplyPanel(ui)
        self._export = ExportPanel(ui)
        self._buttons = {kind: getattr(ui, f"{kind}Button") for kind in VisualChecks.KINDS}
        for kind, button in self._buttons.items():
            button.setIcon(qt.QIcon(resourcePath(f"Icons/AutoFuseCheck-{kind}.png")))
            button.connect("clicked()", lambda kind=kind: self.onCheck(kind))
        ui.resultSelector.addAttribute("vtkMRMLGridTransformNode", REPORT_ATTRIBUTE)
        ui.resultSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._resultChosen)
        ui.beforeButton.connect("clicked()", lambda: self._setAfter(False))
        ui.afterButton.connect("clicked()", lambda: self._setAfter(True))
        ui.opacitySlider.connect("valueChanged(double)", self._opacityChanged)
        ui.showTableButton.connect("clicked()", self._showTable)
        ui.showPlotButton.connect("clicked()", self._showPlot)
        ui.showPlotButton.toolTip = GatePlot.tooltip()
        self._show(None)
        self._shown = shown

    # ------------------------------------------------------------------------------------------------ which result

    def showResult(self, result: ResultNodes) -> None:
        """Show a new result: verdict, figures, and the blend in the views."""
        self._ui.resultsCollapsibleButton.collapsed = False
        self._select(result.transform)
        self._show(result)
        self._startCheck(_SHOWN_FIRST)

    def refresh(self, result: ResultNodes) -> None:
        """The shown result was computed anew, into its own nodes: figures and the visual check that is on follow."""
        if self.result is None or self.result.transform is not result.transform:
            return
        self.result = result
        self._apply.setResult(result)
        self._export.setResult(result)
        self._showFigures(result)
        self._do(self.checks.refreshSteps(result))

    def showNewest(self, results: list[ResultNodes]) -> None:
        """Offer the last of the results of a scene that was loaded, without touching the views."""
        if results and self.result is None:
            self._select(results[0].transform)
            self._show(results[0])

    def forget(self) -> None:
        """The scene goes."""
        self._dropChecks()
        self._show(None)

    def hideChecks(self) -> None:
        """Give the views back."""
        self._stopSteps()
        if self.checks is not None:
            self.checks.hide()
        self._restoreLayout()
        self._showCheck()

    def cleanup(self) -> None:
        """Leave nothing behind."""
        self._dropChecks()

    def _select(self, transform: Any) -> None:
        selector = self._ui.resultSelector
        wasBlocked = selector.blockSignals(True)
        selector.setCurrentNode(transform)
        selector.blockSignals(wasBlocked)

    def _resultChosen(self, node: Any) -> None:
        transform = self.result.transform if self.result is not None else None
        if node is not transform:
            self._show(ResultNodes.fromTransform(node) if node is not None else None)

    def _show(self, result: ResultNodes | None) -> None:
        self._dropChecks()
        self.result = result
        self.checks = VisualChecks(result) if result is not None else None
        self._apply.setResult(result)
        self._export.setResult(result)
        ui, there = self._ui, result is not None
        for widget in (ui.beforeButton, ui.afterButton, ui.applyToGroup, ui.exportGroup):
            widget.enabled = there
        self._showFigures(result)
        self._showAfter(True)
        self._showCheck()
        self._shown()

    def _showFigures(self, result: ResultNodes | None) -> None:
        ui, there = self._ui, result is not None
        ui.showTableButton.enabled = there and result.table is not None
        ui.showPlotButton.visible = there and result.gatePlot is not None
        ui.verdictLabel.text = verdictText(result.report) if there else _("Register two volumes to see a result here.")
        ui.figuresLabel.text = figuresText(result.report, result.segmentNames) if there else ""
        ui.figuresLabel.visible = there

    # ------------------------------------------------------------------------------------------------ visual checks

    def onCheck(self, kind: str) -> None:
        """One of the buttons was pressed; the pressed one again ends the checks."""
        if self.checks is not None and self.checks.current == kind:
            self.hideChecks()
        else:
            self._startCheck(kind)

    def _startCheck(self, kind: str) -> None:
        if self.checks is not None and not self.checks.available(kind):
            self._restoreLayout()
            self._do(self.checks.showSteps(kind))
        else:
            self._showCheck()

    def _do(self, steps: Any) -> None:
        """Run the pieces of a check in turns of the event loop; a new check takes the place of an unfinished one."""
        self._stopSteps()
        self._runner = StepRunner(steps, lambda value: self._showCheck(), self._checkFailed)

    def _checkFailed(self, error: Exception) -> None:
        self._showCheck()
        raise error

    def _stopSteps(self) -> None:
        if self._runner is not None:
            self._runner.stop()
            self._runner = None

    def _dropChecks(self) -> None:
        self._stopSteps()
        checks, self.checks = self.checks, None
        if checks is not None:
            checks.cleanup()

    def _showCheck(self) -> None:
        """Buttons, caption and slider follow the check that is shown."""
        checks = self.checks
        current = checks.current if checks is not None else None
        tips = _tips()
        for kind, button in self._buttons.items():
            reason = _("There is no result yet.") if checks is None else checks.available(kind)
            button.enabled = not reason
            button.checked = kind == current
            button.toolTip = reason or tips[kind]
        ui = self._ui
        ui.checkLabel.text = checks.caption() if current is not None else ""
        ui.checkLabel.visible = current is not None
        hasOpacity = current in _OPACITY_OF
        for widget in (ui.opacityLabel, ui.opacitySlider):
            widget.visible = hasOpacity
        if hasOpacity:
            ui.opacityLabel.text = _("Colours over image:") if current != "blend" else _("Moving over fixed:")
            wasBlocked = ui.opacitySlider.blockSignals(True)
            ui.opacitySlider.value = checks.opacity
            ui.opacitySlider.blockSignals(wasBlocked)

    def _setAfter(self, after: bool) -> None:
        self._showAfter(after)
        if self.checks is not None:
            self._do(self.checks.setAfterSteps(after))

    def _showAfter(self, after: bool) -> None:
        self._ui.afterButton.checked = after
        self._ui.beforeButton.checked = not after

    def _opacityChanged(self, value: float) -> None:
        if self.checks is not None:
            self.checks.setOpacity(value)

    # ------------------------------------------------------------------------------------------------ tables and plots

    def _showTable(self) -> None:
        self._showInLayout(
            self.result.table,
            slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView,
            lambda selection, node: selection.SetActiveTableID(node.GetID()),
            lambda logic: logic.PropagateTableSelection(),
        )

    def _showPlot(self) -> None:
        self._showInLayout(
            self.result.gatePlot,
            slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotView,
            lambda selection, node: selection.SetActivePlotChartID(node.GetID()),
            lambda logic: logic.PropagatePlotChartSelection(),
        )

    def _showInLayout(self, node: Any, layout: int, select: Callable, propagate: Callable) -> None:
        """Show a node in a layout that has a view for it; pressed again, the layout from before comes back."""
        manager = slicer.app.layoutManager()
        if self._previousLayout is not None and manager.layout == layout:
            self._restoreLayout()
            return
        self.hideChecks()
        self._previousLayout = manager.layout
        logic = slicer.app.applicationLogic()
        select(logic.GetSelectionNode(), node)
        propagate(logic)
        manager.setLayout(layout)

    def _restoreLayout(self) -> None:
        if self._previousLayout is not None:
            slicer.app.layoutManager().setLayout(self._previousLayout)
            self._previousLayout = None


def _nothing() -> None:
    """Nobody wants to know."""


def verdictText(report: Any) -> str:
    """The verdict as rich text, its level as a coloured dot."""
    verdict = report.get("verdict") or {}
    color = _VERDICT_COLORS.get(verdict.get("level", ""), "#888888")
    return f'<span style="color:{color}">&#9679;</span> <b>{html.escape(verdict.get("text", ""))}</b>'


def figuresText(report: Any, names: Mapping[int, str]) -> str:
    """The figures as a small table in rich text: without the verdict, single stages, and a long list of segments."""
    rows = ReportTable.rows(report, names)[1:]
    stages = {_("Time, {stage}, s").format(stage=stage) for stage in report.get("seconds") or {} if stage != "total"}
    rows = [row for row in rows if row[0] not in stages]
    if len(rows) > _MOST_ROWS:
        rows = [*rows[:_MOST_ROWS], (_("... more in the table"), "", "", "")]
    titles = ("", _("Before"), _("Aligned"), _("After"))
    lines = [_line(titles, "th")] + [_line(row, "td") for row in rows]
    return f"<table width='100%' cellspacing='0' cellpadding='1'>{''.join(lines)}</table>"


def _line(cells: tuple[str, ...], tag: str) -> str:
    first, *others = (html.escape(cell) for cell in cells)
    ends = "".join(f"<{tag} width='14%' align='right'>{cell}</{tag}>" for cell in others)
    return f"<tr><{tag} align='left'>{first}</{tag}>{ends}</tr>"


def _tips() -> dict[str, str]:
    again = _("Press again to return to the views as they were.")
    return {
        "blend": _("Blend: the moving volume over the fixed one.") + " " + again,
        "flicker": _("Flicker: fixed and moving volume in turns.") + " " + again,
        "checkerboard": _("Checkerboard: squares of both volumes.") + " " + again,
        "difference": _("Difference of the two volumes.") + " " + again,
        "grid": _("Deformed grid.") + " " + again,
        "arrows": _("Arrows: where points go.") + " " + again,
        "contours": _("Contours: lines of equal displacement.") + " " + again,
        "jacobian": _("Jacobian: local change of volume, folds marked.") + " " + again,
        "uncertainty": _("Uncertainty: how sure the model is.") + " " + again,
        "regularity": _("Smoothness weight: where the model keeps the transform smooth.") + " " + again,
    }
