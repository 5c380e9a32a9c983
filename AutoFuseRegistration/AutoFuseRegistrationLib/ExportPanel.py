"""The group "Export...": transform, inverse and report as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer.util
from slicer.i18n import tr as _

from autofuse_engine.errors import AutoFuseError
from AutoFuseLib import Export
from AutoFuseLib.ResultNodes import ResultNodes

_FOLDER_SETTING = "AutoFuse/ExportFolder"
_FIGURE_ENDING, _TABLE_ENDING = ".png", ".csv"


class ExportPanel:
    """Asks for a file, then writes it."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._result: ResultNodes | None = None
        ui.exportTransformButton.connect("clicked()", lambda: self._exportTransform("transform"))
        ui.exportInverseButton.connect("clicked()", lambda: self._exportTransform("inverse"))
        ui.exportReportButton.connect("clicked()", self._exportReport)

    def setResult(self, result: ResultNodes | None) -> None:
        """Export this result from now on."""
        self._result = result
        self._ui.exportInverseButton.enabled = result is not None and result.inverse is not None

    def _exportTransform(self, role: str) -> None:
        node = getattr(self._result, role)
        filters = _("ITK transform (*.h5);;Displacement field (*.nii.gz);;Displacement field (*.nrrd)")
        path = self._ask(_("Export transform"), f"{node.GetName()}.h5", filters)
        if path is not None:
            self._write(lambda: Export.exportTransform(node, path), path)

    def _exportReport(self) -> None:
        filters = _("Figures (*.json);;Table (*.csv);;Picture (*.png)")
        path = self._ask(_("Export report"), f"{self._result.transform.GetName()}.json", filters)
        if path is None:
            return
        if path.suffix.lower() == _FIGURE_ENDING:
            from AutoFuseLib import ReportFigure

            self._write(lambda: ReportFigure.writeFigure(self._result, path), path)
        elif path.suffix.lower() == _TABLE_ENDING:
            names = self._result.segmentNames
            self._write(lambda: Export.exportReportCsv(self._result.report, path, names), path)
        else:
            self._write(lambda: Export.exportReportJson(self._result.report, path), path)

    @staticmethod
    def _ask(title: str, name: str, filters: str) -> Path | None:
        settings = qt.QSettings()
        folder = str(settings.value(_FOLDER_SETTING, "") or "")
        suggestion = str(Path(folder) / name) if folder else name
        chosen = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, suggestion, filters)
        if not chosen:
            return None
        path = Path(chosen)
        settings.setValue(_FOLDER_SETTING, str(path.parent))
        return path

    @staticmethod
    def _write(write: Callable[[], Any], path: Path) -> None:
        try:
            with slicer.util.WaitCursor():
                write()
        except AutoFuseError as error:
            slicer.util.errorDisplay(f"{error.text}\n\n{error.hint}".strip())
            return
        slicer.util.showStatusMessage(_("Written: {path}").format(path=path), 5000)
