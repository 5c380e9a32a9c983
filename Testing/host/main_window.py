"""Stand-in of Slicer's main window: module selector, module panel, status bar and console dock."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host.ctk_buttons import ctkCollapsibleButton
from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import declare
from Testing.host.signals import cppSignal
from Testing.host.standin import state

PANEL_WIDTH = 480


@declare(slicer)
class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """Chooses the current module."""

    moduleSelected = cppSignal("QString")

    def __init__(self, panel: Any) -> None:
        super().__init__()
        self._d = state(panel=panel, selected="")

    def selectModule(self, name: str) -> None:
        if name == self._d.selected:
            return
        self._d.selected = name
        self._d.panel.setModule(name)
        self.moduleSelected.emit(name)

    selectedModule = qtProperty(str, lambda self: self._d.selected, selectModule)


@declare(slicer)
class qSlicerModulePanel(QtWidgets.QWidget):
    """Shows the widget of the current module below its help section."""

    def __init__(self) -> None:
        super().__init__()
        self.objectName = "ModulePanel"
        help_, text = ctkCollapsibleButton("Help && Acknowledgement"), QtWidgets.QTextBrowser()
        QtWidgets.QVBoxLayout(help_).addWidget(text)
        help_.collapsed = True
        self._d = state(module=None, help=help_, helpText=text, helpVisible=True)
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(help_)

    def setModule(self, name: str) -> None:
        """Leave the module that is shown and enter the other one; an unknown name shows nothing."""
        d = self._d
        if d.module is not None:
            shown, d.module = d.module, None
            if shown.isEntered:
                shown.exit()
            self.layout().removeWidget(shown)
            shown.setVisible(False)
            shown.setParent(None)
        module = slicer.app.moduleManager().module(name) if name else None
        widget = module.widgetRepresentation() if module is not None else None
        if widget is not None:
            d.module = widget
            d.helpText.setHtml(module.helpText)
            widget.layout().setContentsMargins(0, 0, 0, 0)
            self.layout().addWidget(widget)
            widget.setVisible(True)
            widget.enter()

    def _setHelpVisible(self, visible: bool) -> None:
        self._d.helpVisible = visible
        self._d.help.setVisible(visible)

    helpAndAcknowledgmentVisible = qtProperty(bool, lambda self: self._d.helpVisible, _setHelpVisible)


@declare(slicer)
class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The window around everything."""

    initialWindowShown = cppSignal()

    def __init__(self) -> None:
        super().__init__()
        self.objectName = "qSlicerMainWindow"
        panel = qSlicerModulePanel()
        dock, scroll = QtWidgets.QDockWidget(self), QtWidgets.QScrollArea()
        dock.objectName = "PanelDockWidget"
        scroll.setWidget(panel)
        scroll.setWidgetResizable(True)
        panel.setMinimumWidth(PANEL_WIDTH)
        scroll.setMinimumWidth(PANEL_WIDTH + 20)
        dock.setWidget(scroll)
        self.addDockWidget(QtCore.Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        self.setCentralWidget(QtWidgets.QWidget())
        self._d = state(panel=panel, selector=qSlicerModuleSelectorToolBar(panel), consoleDock=QtWidgets.QDockWidget())
        self._d.console = QtWidgets.QPlainTextEdit()
        self._d.errorLog = QtWidgets.QDockWidget()
        self._d.consoleDock.setWidget(self._d.console)
        self.addToolBar(self._d.selector)
        self.statusBar()
        self.resize(PANEL_WIDTH + 600, 800)

    def moduleSelector(self) -> Any:
        return self._d.selector

    def pythonConsole(self) -> Any:
        return self._d.console

    def errorLogDockWidget(self) -> Any:
        return self._d.errorLog

    def closeEvent(self, event: QtGui.QCloseEvent) -> None:
        event.accept()
