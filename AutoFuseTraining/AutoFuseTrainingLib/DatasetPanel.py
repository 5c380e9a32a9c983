"""The section Dataset: check a folder, look at a case, prepare."""

from __future__ import annotations

import html
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from autofuse_engine.dataset_configs import DATASET_ALIGNMENTS
from autofuse_engine.errors import AutoFuseError
from AutoFuseLib.PreparedFolder import readPrepared

from . import Choices, Texts
from .Boxes import TextBoxes
from .Jobs import Job
from .Pictures import Pictures

Ask = Callable[[str, dict[str, Any], Callable[[Job], None]], Job]
_PROGRESS_STEPS = 1000


class DatasetPanel:
    """One job at a time: while it runs, its button is Cancel."""

    def __init__(
        self,
        ui: Any,
        boxes: TextBoxes,
        ask: Ask,
        showError: Callable[[AutoFuseError], None],
        prepared: Callable[[], None],
    ) -> None:
        """
        Args:
            ui: the widgets by name.
            boxes: connects combo boxes and paths to parameters.
            ask: begins a job of the worker; raises what keeps it from that.
            showError: shows an error in a window.
            prepared: called when a dataset has been prepared.
        """
        self._ui, self._ask, self._showError, self._prepared = ui, ask, showError, prepared
        self._parameters: Any = None
        self._job: Job | None = None
        self._button: Any = None
        self._report: dict[str, Any] | None = None
        self._reportFolder = ""
        self._items: list[Any] = []
        self._pictures = Pictures("dataset")
        self._folder: Path | None = None
        boxes.addPath(ui.datasetFolderEdit, "datasetFolder")
        boxes.addPath(ui.preparedFolderEdit, "preparedFolder")
        boxes.addPath(ui.labelsFileEdit, "labelsFile")
        boxes.addCombo(ui.alignmentBox, "alignment", {name: _alignmentName(name) for name in DATASET_ALIGNMENTS})
        ui.checkButton.connect("clicked()", self.onCheck)
        ui.previewButton.connect("clicked()", self.onPreview)
        ui.prepareButton.connect("clicked()", self.onPrepare)
        ui.casesTable.connect("cellDoubleClicked(int,int)", self.onCase)
        ui.datasetStatusLabel.connect("linkActivated(QString)", _open)
        ui.casesTable.setColumnCount(len(Texts.caseTitles()))
        ui.casesTable.setHorizontalHeaderLabels(list(Texts.caseTitles()))
        self._showReport(None)
        self._showStatus("")
        ui.datasetProgressBar.visible = False

    def setParameterNode(self, parameters: Any) -> None:
        """Show and change this node from now on; None between scenes."""
        self._parameters = parameters
        self.update()

    def update(self) -> None:
        """Buttons say why they cannot be pressed; a report of another folder disappears."""
        parameters, ui = self._parameters, self._ui
        if self._report is not None and parameters is not None and parameters.datasetFolder != self._reportFolder:
            self._showReport(None)
        busy = _("Wait for the end of the current work, or cancel it.") if self._job is not None else ""
        notChecked = _("Check the dataset first.") if self._report is None else ""
        states = (
            (ui.checkButton, _("Check"), Choices.whyNotCheck(parameters),
             _("Read every image and list all that is wrong.")),
            (ui.previewButton, _("Show a case"), notChecked,
             _("Show a random case in the slice views, with its labels.")),
            (ui.prepareButton, _("Prepare"), Choices.whyNotPrepare(parameters),
             _("Bring every image onto one grid. It can be cancelled at any time, and goes on where it was.")),
        )  # fmt: skip
        for button, text, reason, tip in states:
            if self._job is not None and button is self._button:
                cancelling = self._job.cancelling
                button.text = _("Cancelling...") if cancelling else _("Cancel")
                button.enabled, button.toolTip = not cancelling, _("Stop; what is done stays.")
            else:
                reason = busy or reason
                button.text, button.enabled, button.toolTip = text, not reason, reason or tip
        for widget in (ui.windowLowBox, ui.windowHighBox):
            widget.enabled = parameters is not None and parameters.useWindow

    def forget(self) -> None:
        """The scene goes; work on files goes on."""
        self._pictures.forget()

    def cleanup(self) -> None:
        """Leave nothing behind."""
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._pictures.cleanup()
        self._dropFolder()

    # ------------------------------------------------------------------------------------------------ buttons

    def onCheck(self) -> None:
        """Check, or Cancel, was pressed."""
        if self._cancelled(self._ui.checkButton):
            return
        self._showReport(None)
        self._reportFolder = self._parameters.datasetFolder
        self._ui.datasetFolderEdit.addCurrentPathToHistory()
        self._begin(self._ui.checkButton, "dataset_check", {"folder": self._reportFolder})

    def onPreview(self) -> None:
        """Show a random case."""
        if not self._cancelled(self._ui.previewButton) and self._report is not None:
            readable = [case["name"] for case in self._report["cases"] if case.get("size")]
            if readable:
                self._preview(random.choice(readable))

    def onCase(self, line: int, column: int) -> None:
        """A case of the table was double-clicked."""
        if self._job is None and self._report is not None:
            self._preview(self._report["cases"][line]["name"])

    def onPrepare(self) -> None:
        """Prepare, or Cancel, was pressed."""
        if self._cancelled(self._ui.prepareButton):
            return
        parameters = self._parameters
        try:
            config = Choices.preparationOf(parameters).to_dict()
        except AutoFuseError as error:
            self._showStatus(Texts.errorText(error))
            return
        spec = {"folder": parameters.datasetFolder, "output": parameters.preparedFolder, "config": config}
        self._ui.preparedFolderEdit.addCurrentPathToHistory()
        if parameters.labelsFile:
            spec["labels"] = parameters.labelsFile
        self._begin(self._ui.prepareButton, "dataset_prepare", spec)

    def _preview(self, case: str) -> None:
        self._dropFolder()
        base = Path(slicer.app.temporaryPath) / "AutoFuse"
        base.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="case-", dir=base))
        spec = {"folder": self._reportFolder, "case": case, "output": str(self._folder)}
        self._begin(self._ui.previewButton, "dataset_case", spec)

    def _cancelled(self, button: Any) -> bool:
        """Whether the button meant Cancel, which is done then."""
        if self._job is not None and self._button is button:
            self._job.cancel()
            return True
        return self._job is not None

    def _begin(self, button: Any, name: str, spec: dict[str, Any]) -> None:
        self._button = button
        try:
            self._job = self._ask(name, spec, self._onJob)
        except AutoFuseError as error:
            self._showStatus(Texts.errorText(error))
            self._showError(error)
            return
        self._onJob(self._job)

    # ------------------------------------------------------------------------------------------------ what happens

    def _onJob(self, job: Job) -> None:
        bar = self._ui.datasetProgressBar
        bar.visible = job.active
        if job.active:
            bar.maximum = _PROGRESS_STEPS if job.fraction > 0 else 0
            bar.value = round(job.fraction * _PROGRESS_STEPS) if bar.maximum else 0
            text = _("Cancelling...") if job.cancelling else Texts.stageName(job.stage)
            self._showStatus(html.escape(f"{text} {job.text}".strip()))
        else:
            self._job = None
            self._ended(job)
        self.update()

    def _ended(self, job: Job) -> None:
        if job.cancelled:
            self._showStatus(_("Cancelled. What is done stays; the same button goes on from there."))
        elif job.error is not None:
            self._showStatus(Texts.errorText(job.error))
            if job.name != "dataset_check":
                self._showError(job.error)
        elif job.name == "dataset_check":
            self._showStatus("")
            self._showReport(dict(job.result.report))
        elif job.name == "dataset_case":
            self._showCase(job)
        else:
            warnings = "".join(f"<br><i>{html.escape(warning)}</i>" for warning in job.warnings)
            prepared = readPrepared(job.result.report["folder"])
            self._showStatus(f"{Texts.dot('good')} {html.escape(Texts.preparedText(prepared))}{warnings}")
            self._prepared()

    def _showCase(self, job: Job) -> None:
        places, files = job.result.report["ras_from_ijk"], job.result.files
        name = job.result.report["case"]
        wanted = {"image": (name, False)} | (
            {"labels": (_("{name} labels").format(name=name), True)} if "labels" in files else {}
        )
        arrays = {role: (Path(files[role]), places[role], text, isLabel) for role, (text, isLabel) in wanted.items()}

        def shown(nodes: dict[str, Any]) -> None:
            self._pictures.showInViews(nodes["image"], label=nodes.get("labels"))
            self._showStatus(html.escape(_("{name} is shown in the slice views.").format(name=name)))
            self._dropFolder()

        self._pictures.load(arrays, shown, self._failed)

    def _failed(self, error: Exception) -> None:
        self._dropFolder()
        if not isinstance(error, AutoFuseError):
            raise error
        self._showStatus(Texts.errorText(error))

    def _showReport(self, report: dict[str, Any] | None) -> None:
        self._report = report
        ui, table = self._ui, self._ui.casesTable
        for widget in (ui.datasetLabel, ui.problemsLabel, table):
            widget.visible = report is not None
        self._items = []
        table.setRowCount(0)
        if report is None:
            return
        ui.datasetLabel.text = Texts.datasetText(report)
        ui.problemsLabel.text = Texts.problemsText(report)
        ui.problemsLabel.visible = bool(report["problems"])
        table.setRowCount(len(report["cases"]))
        for line, case in enumerate(report["cases"]):
            for column, text in enumerate(Texts.caseRow(case)):
                item = qt.QTableWidgetItem(text)
                self._items.append(item)
                table.setItem(line, column, item)
        table.resizeColumnsToContents()

    def _showStatus(self, text: str) -> None:
        self._ui.datasetStatusLabel.text = text
        self._ui.datasetStatusLabel.visible = bool(text)

    def _dropFolder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _alignmentName(name: str) -> str:
    return {
        "none": _("None: positions are right"),
        "centers": _("Centers of the images"),
        "moments": _("Centers and axes of mass"),
        "rigid": _("Rigid search"),
        "affine": _("Affine search"),
    }.get(name, name)


def _open(path: str) -> None:
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(path))
