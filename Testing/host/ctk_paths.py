"""Stand-ins of CTK's widgets for files and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import ctk, declare
from Testing.host.signals import cppSignal
from Testing.host.standin import forwarded, parentAnd, row, state, stored

HISTORY_LENGTH = 10


@declare(ctk)
class ctkPathLineEdit(QtWidgets.QWidget):
    """A line for a path with a history and a browse button."""

    validInputChanged = cppSignal("bool")
    currentPathChanged = cppSignal("QString")
    Dirs, Files, Drives, NoSymLinks = 0x001, 0x002, 0x004, 0x008
    AllEntries = Dirs | Files | Drives
    TypeMask, Readable, Writable, Executable, PermissionMask = 0x00F, 0x010, 0x020, 0x040, 0x070
    Modified, Hidden, System, AccessMask, AllDirs, CaseSensitive = 0x080, 0x100, 0x200, 0x3F0, 0x400, 0x800
    NoDotAndDotDot, NoDot, NoDotDot, NoFilter = 0x1000, 0x2000, 0x4000, -1
    ShowDirsOnly, DontResolveSymlinks, DontConfirmOverwrite, DontUseSheet = 0x01, 0x02, 0x04, 0x08
    DontUseNativeDialog, ReadOnly, HideNameFilterDetails = 0x10, 0x20, 0x40
    AdjustToContents, AdjustToContentsOnFirstShow, AdjustToMinimumContentsLength = 0, 1, 2

    def __init__(self, *arguments: Any) -> None:
        parent, rest = parentAnd(arguments)
        super().__init__(parent)
        box = QtWidgets.QComboBox(self)
        box.setEditable(True)
        box.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        box.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        button = QtWidgets.QToolButton(self)
        button.text = "..."
        self._d = state(box=box, button=button, settingKey="", sizeAdjustPolicy=1, minimumContentsLength=0, valid=False)
        self._d.label = rest[0] if rest else ""
        self._d.nameFilters = list(rest[1]) if len(rest) > 1 else []
        self._d.filters = rest[2] if len(rest) > 2 else self.AllEntries | self.NoDotAndDotDot | self.Readable
        self._d.__dict__.update(options=0, showHistoryButton=True)
        row(self, box, button)
        box.editTextChanged.connect(self._edited)
        button.clicked.connect(self.browse)

    def _edited(self, text: str) -> None:
        path = Path(text)
        directories, files = self._d.filters & self.Dirs, self._d.filters & self.Files
        valid = bool(text) and ((bool(directories) and path.is_dir()) or (bool(files) and path.is_file()))
        if valid is not self._d.valid:
            self._d.valid = valid
            self.validInputChanged.emit(valid)
        self.currentPathChanged.emit(text)

    def setCurrentPath(self, path: str) -> None:
        self._d.box.setEditText(path)

    def comboBox(self) -> Any:
        return self._d.box

    def browse(self) -> None:
        dialog = QtWidgets.QFileDialog
        if self._d.filters & self.Files:
            options = self._d.label or "Select a file to save", self.currentPath, ";;".join(self._d.nameFilters)
            save = bool(self._d.filters & self.Writable)
            path = (dialog.getSaveFileName if save else dialog.getOpenFileName)(self, *options)
        else:
            path = dialog.getExistingDirectory(self, self._d.label or "Select a folder...", self.currentPath)
        if path:
            self.setCurrentPath(path)
            self.addCurrentPathToHistory()

    def retrieveHistory(self) -> None:
        text = self.currentPath
        stored = QtCore.QSettings().value(self._d.settingKey) if self._d.settingKey else None
        paths = [stored] if isinstance(stored, str) else list(stored or [])
        wasBlocked = self._d.box.blockSignals(True)
        self._d.box.clear()
        self._d.box.addItems([path for path in paths if path])
        self._d.box.setEditText(text or (paths[0] if paths else ""))
        self._d.box.blockSignals(wasBlocked)

    def addCurrentPathToHistory(self) -> None:
        path = self.currentPath
        if not path or not self._d.settingKey:
            return
        known = [self._d.box.itemText(index) for index in range(self._d.box.count)]
        paths = [path, *(other for other in known if other != path)][:HISTORY_LENGTH]
        QtCore.QSettings().setValue(self._d.settingKey, paths)
        self.retrieveHistory()

    currentPath = qtProperty(str, lambda self: self._d.box.currentText, setCurrentPath)
    label = stored(str, "label")
    filters = stored(int, "filters")
    nameFilters = stored("QStringList", "nameFilters")
    options = stored(int, "options")
    settingKey = stored(str, "settingKey", retrieveHistory)
    showBrowseButton = qtProperty(
        bool, lambda self: not self._d.button.isHidden(), lambda self, value: self._d.button.setVisible(value)
    )
    showHistoryButton = stored(bool, "showHistoryButton")
    sizeAdjustPolicy = stored(int, "sizeAdjustPolicy")
    minimumContentsLength = stored(int, "minimumContentsLength")


@declare(ctk)
class ctkDirectoryButton(QtWidgets.QWidget):
    """A button that shows a folder and lets the user choose another one."""

    directoryChanged = cppSignal("QString")
    directorySelected = cppSignal("QString")
    ShowDirsOnly, DontResolveSymlinks, DontConfirmOverwrite, DontUseSheet = 0x01, 0x02, 0x04, 0x08
    DontUseNativeDialog, ReadOnly, HideNameFilterDetails = 0x10, 0x20, 0x40

    def __init__(self, *arguments: Any) -> None:
        parent, rest = parentAnd(arguments)
        super().__init__(parent)
        folder = next((argument for argument in rest if isinstance(argument, str)), "")
        self._d = state(button=QtWidgets.QPushButton(self), directory=".", text="", caption="", acceptMode=0)
        self._d.__dict__.update(options=0x01, elideMode=3)
        row(self, self._d.button)
        self._d.button.clicked.connect(self.browse)
        self._d.button.setIcon(self.style().standardIcon(QtWidgets.QStyle.StandardPixmap.SP_DirIcon))
        if folder:
            self._d.directory = QtCore.QDir(folder).path()
        self._showText()

    def _setDirectory(self, folder: str) -> None:
        new = QtCore.QDir(folder)
        changed = new != QtCore.QDir(self._d.directory)
        if changed:
            self._d.directory = new.absolutePath()
            self._showText()
        self.directorySelected.emit(new.absolutePath())
        if changed:
            self.directoryChanged.emit(self._d.directory)

    def _showText(self) -> None:
        self._d.button.text = self._d.text or QtCore.QDir(self._d.directory).absolutePath()

    def browse(self) -> str:
        title = self._d.caption or "Select a directory"
        folder = QtWidgets.QFileDialog.getExistingDirectory(self, title, self._d.directory)
        if folder:
            self._setDirectory(folder)
        return folder

    directory = qtProperty(str, lambda self: self._d.directory, _setDirectory)
    caption = stored(str, "caption")
    text = stored(str, "text", _showText)
    icon = forwarded(QtGui.QIcon, "button", "icon")
    elideMode = stored(int, "elideMode")
    options = stored(int, "options")
    acceptMode = stored(int, "acceptMode")
