"""The section Runs: the list of trainings, how the chosen one stands, its buttons and its curves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
import slicer.util
from slicer.i18n import tr as _

from autofuse_engine.errors import AutoFuseError
from autofuse_engine.run_folder import RunFolder
from AutoFuseLib.RunWatcher import LaunchFiles, RunView, RunWatcher, logTail

from . import RunList, Texts
from .CurvePanel import CurvePanel
from .Logic import AutoFuseTrainingLogic

_PROGRESS_STEPS = 1000
_CLOCK_MS = 1000
_LIST_EVERY = 5
"""Ticks between two looks at the whole list; the chosen run is looked at in every one."""


class RunsPanel:
    """Watches runs through their folders; a clock looks once a second while the module is open."""

    def __init__(
        self,
        ui: Any,
        logic: AutoFuseTrainingLogic,
        curves: CurvePanel,
        chosen: Callable[[RunView | None], None],
        showError: Callable[[AutoFuseError], None],
    ) -> None:
        """
        Args:
            ui: the widgets by name.
            logic: starts, stops and deletes.
            curves: draws what the chosen run has come to.
            chosen: called with the chosen run after each look.
            showError: shows an error in a window.
        """
        self._ui, self._logic, self._curves, self._told, self._showError = ui, logic, curves, chosen, showError
        self.view: RunView | None = None
        self._watcher: RunWatcher | None = None
        self._folders: list[Path] = []
        self._items: list[list[Any]] = []
        self._views: dict[Path, tuple[Any, RunView]] = {}
        self._filling = False
        self._ticks = 0
        self._shown = ""
        self._clock = qt.QTimer(slicer.app)
        self._clock.setInterval(_CLOCK_MS)
        self._clock.connect("timeout()", self.tick)
        self._whatRunsHave = (
            *(ui.runsTable, ui.pauseButton, ui.resumeButton, ui.openFolderButton, ui.deleteButton),
            *(ui.curveTitleLabel, ui.curveBox, ui.logBox, ui.smoothingLabel, ui.smoothingSlider),
            *(ui.plotButton, ui.pairButton, ui.logCollapsibleButton),
        )
        titles = (_("Run"), _("State"), _("Step"), _("Score"), _("Folder"))
        ui.runsTable.setColumnCount(len(titles))
        ui.runsTable.setHorizontalHeaderLabels(list(titles))
        ui.runsTable.connect("itemSelectionChanged()", self._selected)
        ui.pauseButton.connect("clicked()", self.onPause)
        ui.resumeButton.connect("clicked()", self.onResume)
        ui.openFolderButton.connect("clicked()", self.onOpenFolder)
        ui.addRunButton.connect("clicked()", self.onAdd)
        ui.deleteButton.connect("clicked()", self.onDelete)
        self._show()

    def enter(self) -> None:
        """The panel is seen: look, and go on looking."""
        self.refresh()
        self._clock.start()

    def exit(self) -> None:
        """The panel is not seen."""
        self._clock.stop()

    def cleanup(self) -> None:
        """Leave nothing behind."""
        self._clock.stop()
        self._clock.deleteLater()

    # ------------------------------------------------------------------------------------------------ the list

    def choose(self, folder: Path) -> None:
        """Watch the run in a folder."""
        self.refresh()
        if folder in self._folders:
            self._ui.runsTable.selectRow(self._folders.index(folder))
            self._watch(folder)

    def refresh(self) -> None:
        """Look for runs, and at each of them."""
        folders = RunList.known()
        if folders != self._folders:
            self._fill(folders)
        for line, folder in enumerate(folders):
            self._showLine(line, self._viewOf(folder))
        if self._watcher is not None and self._watcher.folder not in folders:
            self._watch(None)
        if self._watcher is None and folders:
            self._ui.runsTable.selectRow(0)
            self._watch(folders[0])
        self._look()

    def tick(self) -> None:
        """A second has passed."""
        self._ticks += 1
        if self._ticks % _LIST_EVERY == 0:
            self.refresh()
        else:
            self._look()

    def _viewOf(self, folder: Path) -> RunView:
        """How a run stands; one that rests is looked at again when its files change."""
        stamp = _stamp(folder)
        before = self._views.get(folder)
        if before is None or before[0] != stamp or before[1].active:
            self._views[folder] = before = (stamp, self._logic.view(folder))
        return before[1]

    def _fill(self, folders: list[Path]) -> None:
        table, self._filling = self._ui.runsTable, True
        self._folders = folders
        columns = table.columnCount
        self._items = [[qt.QTableWidgetItem("") for _column in range(columns)] for _folder in folders]
        table.setRowCount(len(folders))
        for line, folder in enumerate(folders):
            for column, item in enumerate(self._items[line]):
                item.setToolTip(str(folder))
                table.setItem(line, column, item)
        if self._watcher is not None and self._watcher.folder in folders:
            table.selectRow(folders.index(self._watcher.folder))
        self._filling = False

    def _showLine(self, line: int, view: RunView) -> None:
        status = view.status
        best = status.best if status is not None else None
        texts = (
            view.folder.name,
            Texts.stateName(view.state),
            "" if status is None else f"{status.step} / {status.steps}",
            "" if best is None else f"{best['score']:.3f}",
            str(view.folder.parent),
        )
        for item, text in zip(self._items[line], texts, strict=True):
            if item.text() != text:
                item.setText(text)
                self._ui.runsTable.resizeColumnsToContents()

    def _selected(self) -> None:
        line = self._ui.runsTable.currentRow()
        if not self._filling and 0 <= line < len(self._folders):
            folder = self._folders[line]
            if self._watcher is None or self._watcher.folder != folder:
                self._watch(folder)

    def _watch(self, folder: Path | None) -> None:
        self._watcher = RunWatcher(folder) if folder is not None else None
        self.view = None
        self._curves.setWatcher(self._watcher)
        self._look()

    def _look(self) -> None:
        self.view = self._watcher.look() if self._watcher is not None else None
        self._curves.update()
        self._show()
        self._told(self.view)

    # ------------------------------------------------------------------------------------------------ the chosen run

    def _show(self) -> None:
        ui, view = self._ui, self.view
        ui.runStatusLabel.text = (
            Texts.runText(view)
            if view is not None
            else _("Start a training above, or add the folder of one that runs already.")
        )
        for widget in self._whatRunsHave:
            widget.visible = view is not None
        status = view.status if view is not None else None
        ui.runProgressBar.visible = status is not None
        if status is not None:
            ui.runProgressBar.value = round(_PROGRESS_STEPS * status.step / status.steps)
        none = _("Choose a run.") if view is None else ""
        active = view is not None and view.active
        ended = _("This run is finished.") if view is not None and view.state == "finished" else ""
        runs = _("This run is going on.") if active else ""
        notRunning = "" if view is not None and view.state == "running" else _("This run is not going on.")
        unreadable = _("This folder cannot be read.") if view is not None and view.state == "unreadable" else ""
        for button, reason, tip in (
            (ui.pauseButton, none or notRunning, _("Write a checkpoint after the current step and end the process.")),
            (ui.resumeButton, none or runs or ended or unreadable, _("Go on from the last checkpoint, exactly.")),
            (ui.deleteButton, none or runs, _("Remove the files of this run from disk, after a question.")),
            (ui.openFolderButton, none, _("Open the folder of this run.")),
        ):
            button.enabled, button.toolTip = not reason, reason or tip
        if not ui.logCollapsibleButton.collapsed:
            self._showLog()

    def _showLog(self) -> None:
        text = logTail(self._watcher.folder) if self._watcher is not None else ""
        if text != self._shown:
            self._shown = text
            self._ui.logText.setPlainText(text)
            bar = self._ui.logText.verticalScrollBar()
            bar.setValue(bar.maximum)

    # ------------------------------------------------------------------------------------------------ buttons

    def onPause(self) -> None:
        """Pause was pressed."""
        self._do(self._logic.pause)

    def onResume(self) -> None:
        """Resume was pressed."""
        self._do(self._logic.resume)

    def onDelete(self) -> None:
        """Delete was pressed."""
        question = _("Delete the run {name} with its checkpoints from disk? Exported models stay.\n\n{folder}")
        text = question.format(name=self.view.folder.name, folder=self.view.folder)
        if slicer.util.confirmYesNoDisplay(text, _("AutoFuse - Delete a run")):
            self._do(self._logic.delete)

    def onOpenFolder(self) -> None:
        """Open folder was pressed."""
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.view.folder)))

    def onAdd(self) -> None:
        """Add was pressed."""
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder of a run"))
        if not folder:
            return
        path = Path(folder).absolute()
        if not RunList.isRun(path):
            text = _("The folder {folder} holds no training run.").format(folder=path)
            self._showError(AutoFuseError("run-not-found", text, _("Choose the folder that holds config.json.")))
            return
        RunList.remember(path)
        self.choose(path)

    def _do(self, action: Callable[[Path], None]) -> None:
        try:
            action(self.view.folder)
        except AutoFuseError as error:
            self._showError(error)
        self.refresh()


def _stamp(folder: Path) -> tuple[int, ...]:
    """Changes when a run begins, ends, or is replaced by another one."""
    times = []
    for path in (
        RunFolder(folder).config,
        RunFolder(folder).events,
        RunFolder(folder).lock,
        LaunchFiles(folder).record,
    ):
        try:
            times.append(path.stat().st_mtime_ns)
        except OSError:
            times.append(0)
    return tuple(times)
