"""The curves of the chosen run, in the panel and as plot nodes; and a validation pair in the slice views."""

from __future__ import annotations

import html
import shutil
import tempfile
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from autofuse_engine.errors import AutoFuseError
from autofuse_engine.run_folder import RunFolder
from AutoFuseLib.RunWatcher import RunWatcher

from . import CurvePlot, Curves, Texts
from .CurvePicture import drawCurves
from .DatasetPanel import Ask
from .Jobs import Job
from .Pictures import Pictures

_HEIGHT, _LEAST_WIDTH = 180, 280
_OVERLAY = 0.5


class CurvePanel:
    """Shows what a run has come to."""

    def __init__(self, ui: Any, ask: Ask) -> None:
        """
        Args:
            ui: the widgets by name.
            ask: begins a job of the worker.
        """
        self._ui, self._ask = ui, ask
        self._watcher: RunWatcher | None = None
        self._drawnOn = ""
        self._curves: tuple[str, list[Curves.Curve], bool] = (Curves.LOSS, [], False)
        self._layout: int | None = None
        self._job: Job | None = None
        self._number = -1
        self._folder: Path | None = None
        self._pictures = Pictures("pair")
        ui.curveBox.addItem(_("Loss"), Curves.LOSS)
        ui.curveBox.addItem(_("Validation"), Curves.VALIDATION)
        ui.curveBox.connect("currentIndexChanged(int)", self._chosen)
        ui.logBox.connect("toggled(bool)", self._chosen)
        ui.smoothingSlider.connect("valueChanged(double)", self._chosen)
        ui.smoothingSlider.toolTip = _("How far the line runs behind the single steps: 0 shows each as it is.")
        ui.plotButton.connect("clicked()", self.onPlot)
        ui.pairButton.connect("clicked()", self.onPair)
        self._draw()

    def setWatcher(self, watcher: RunWatcher | None) -> None:
        """Show this run from now on."""
        self._watcher = watcher
        self._number = -1
        self._showPairText("")
        if watcher is not None:
            watcher.readCurves()
        self._draw()

    def update(self) -> None:
        """Take in what the run has written since."""
        if self._watcher is not None and (self._watcher.readCurves() or self._background() != self._drawnOn):
            self._draw()
        self._showButtons()

    def forget(self) -> None:
        """The scene goes."""
        self._pictures.forget()
        self._layout = None

    def exit(self) -> None:
        """The user leaves the module: the layout from before comes back."""
        self._restoreLayout()

    def cleanup(self) -> None:
        """Leave nothing behind."""
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._pictures.cleanup()
        self._dropFolder()

    # ------------------------------------------------------------------------------------------------ curves

    def _chosen(self, value: Any = None) -> None:
        self._draw()

    def _draw(self) -> None:
        ui = self._ui
        kind = ui.curveBox.itemData(ui.curveBox.currentIndex)
        curves = Curves.curvesOf(self._watcher, kind, ui.smoothingSlider.value) if self._watcher is not None else []
        reason = Curves.whyNotLogarithmic(curves)
        ui.logBox.enabled = not reason
        ui.logBox.toolTip = reason or _("Logarithmic scale of the values.")
        logarithmic = ui.logBox.checked and not reason
        ui.curveLabel.visible = bool(curves)
        self._drawnOn = self._background()
        if curves:
            width = max(_LEAST_WIDTH, ui.runStatusLabel.width)
            ui.curveLabel.setPixmap(drawCurves(curves, width, _HEIGHT, ui.curveLabel.palette, logarithmic))
            if CurvePlot.findChart(kind) is not None:
                self._fillChart(kind, curves, logarithmic)
        self._curves = (kind, curves, logarithmic)
        self._showButtons()

    def _background(self) -> str:
        """Changes with the theme."""
        return self._ui.curveLabel.palette.color(qt.QPalette.Base).name()

    def _fillChart(self, kind: str, curves: list[Curves.Curve], logarithmic: bool) -> Any:
        return CurvePlot.fillChart(kind, self._watcher.folder.name, curves, logarithmic)

    def onPlot(self) -> None:
        """Show the curves in a layout with a plot view; pressed again, the layout from before comes back."""
        manager, layout = slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalPlotView
        kind, curves, logarithmic = self._curves
        if self._layout is not None and manager.layout == layout:
            self._restoreLayout()
            return
        chart = self._fillChart(kind, curves, logarithmic)
        self._layout = manager.layout
        logic = slicer.app.applicationLogic()
        logic.GetSelectionNode().SetActivePlotChartID(chart.GetID())
        logic.PropagatePlotChartSelection()
        manager.setLayout(layout)

    def _restoreLayout(self) -> None:
        if self._layout is not None:
            slicer.app.layoutManager().setLayout(self._layout)
            self._layout = None

    def _showButtons(self) -> None:
        ui, watcher = self._ui, self._watcher
        none = _("Choose a run.") if watcher is None else ""
        empty = "" if self._hasCurves() else _("This run has no figures yet.")
        ui.plotButton.enabled = not (none or empty)
        ui.plotButton.toolTip = none or empty or _("Show the curves beside the images; press again to go back.")
        checkpoint = watcher is not None and RunFolder(watcher.folder).last.exists()
        reason = none or ("" if checkpoint else _("This run has written no checkpoint yet."))
        if self._job is not None:
            reason = _("The pair is being computed.")
        ui.pairButton.enabled = not reason
        ui.pairButton.toolTip = reason or _(
            "Warp the next validation pair by the last checkpoint and show it over the fixed image. "
            "Move the foreground slider of the slice views to compare."
        )

    def _hasCurves(self) -> bool:
        return bool(self._curves[1])

    # ------------------------------------------------------------------------------------------------ a pair

    def onPair(self) -> None:
        """Show the next validation pair."""
        self._dropFolder()
        base = Path(slicer.app.temporaryPath) / "AutoFuse"
        base.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="pair-", dir=base))
        self._number += 1
        spec = {"run": str(self._watcher.folder), "number": self._number, "output": str(self._folder)}
        try:
            self._job = self._ask("train_pair", spec, self._onJob)
        except AutoFuseError as error:
            self._showPairText(Texts.errorText(error))
            return
        self._showPairText(html.escape(_("Computing on the CPU...")))
        self._showButtons()

    def _onJob(self, job: Job) -> None:
        if job.active:
            return
        self._job = None
        if job.error is not None:
            self._failed(job.error)
        else:
            report, files = job.result.report, job.result.files
            fixed, moving = report["names"]
            names = {"fixed": fixed, "moving": moving, "warped": _("{name} warped").format(name=moving)}
            arrays = {role: (Path(files[role]), report["ras_from_ijk"], name, False) for role, name in names.items()}
            text = _("{moving}, warped at step {step}, over {fixed}.").format(
                moving=moving, fixed=fixed, step=report["step"]
            )
            self._pictures.load(arrays, lambda nodes: self._shown(nodes, text), self._failed)
        self._showButtons()

    def _shown(self, nodes: dict[str, Any], text: str) -> None:
        self._pictures.showInViews(nodes["fixed"], foreground=nodes["warped"], opacity=_OVERLAY)
        self._showPairText(html.escape(text))
        self._dropFolder()

    def _failed(self, error: Exception) -> None:
        self._dropFolder()
        if not isinstance(error, AutoFuseError):
            raise error
        self._showPairText(Texts.errorText(error))

    def _showPairText(self, text: str) -> None:
        self._ui.pairLabel.text = text
        self._ui.pairLabel.visible = bool(text)

    def _dropFolder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
