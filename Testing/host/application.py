"""Stand-in of ``slicer.app``, the application object."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from Testing.host import messages
from Testing.host.io_manager import qSlicerIOManager
from Testing.host.layout_manager import disposeViews, qSlicerLayoutManager
from Testing.host.modules import qSlicerLoadableModule, qSlicerModuleManager, register
from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import declare
from Testing.host.scene import SHARE_FOLDER, newScene
from Testing.host.signals import cppSignal
from Testing.host.standin import state, stored

VERSION = "5.13.0-host"
DOCUMENTATION = "https://slicer.readthedocs.io/en/latest/"


@declare(slicer)
class qSlicerCommandOptions(QtCore.QObject):
    """The command line that Slicer was started with."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._d = state(app=app, runPythonAndExit=False)

    runPythonAndExit = stored(bool, "runPythonAndExit")
    testingEnabled = qtProperty(bool, lambda self: self._d.app.testingEnabled())
    noMainWindow = qtProperty(bool, lambda self: False)


@declare(slicer)
class qSlicerApplication(QtWidgets.QApplication):
    """The application; ``host.reset()`` gives it a new scene."""

    startupCompleted = cppSignal()
    mrmlSceneChanged = cppSignal("vtkMRMLScene*")
    renderPaused = cppSignal("bool")
    AA_DisablePython, AA_EnableTesting = 1000, 1001

    def __init__(self) -> None:
        super().__init__(["SlicerTestHost"])
        folder = Path(tempfile.mkdtemp(prefix="slicer-test-host-"))
        self._d = state(home=folder, temporaryPath=str(folder / "tmp"), cachePath=str(folder / "cache"), testing=True)
        self._d.__dict__.update(context=None, layoutManager=None, modules=qSlicerModuleManager(), paused=0)
        self._d.__dict__.update(io=qSlicerIOManager(), options=qSlicerCommandOptions(self), settings=None)
        self._d.defaultScenePath = str(folder)
        for name in ("tmp", "cache", "settings", f"{SHARE_FOLDER}/ColorFiles"):
            (folder / name).mkdir(parents=True)
        _installLauncher(folder / "bin")
        ini = QtCore.QSettings.Format.IniFormat
        QtCore.QSettings.setDefaultFormat(ini)
        QtCore.QSettings.setPath(ini, QtCore.QSettings.Scope.UserScope, str(folder / "settings"))
        self.setOrganizationName("slicer.org")
        self.setApplicationName("Slicer")
        self.setApplicationVersion(VERSION)
        self.setQuitOnLastWindowClosed(False)

    # -------------------------------------------------------------------------------------------- scene and parts

    def _renewScene(self) -> None:
        d = self._d
        if d.layoutManager is not None:
            disposeViews(d.layoutManager)
        old, d.context = d.context, newScene(str(d.home))
        slicer.mrmlScene = d.context.scene
        d.layoutManager = qSlicerLayoutManager(d.context)
        for name, logic in d.context.moduleLogics.items():
            register(d.modules, qSlicerLoadableModule(name, logic))
        if old is not None:
            old.dispose()
        d.testing, d.paused = True, 0
        self.mrmlSceneChanged.emit(d.context.scene)

    def mrmlScene(self) -> Any:
        return self._d.context.scene

    def applicationLogic(self) -> Any:
        return self._d.context.applicationLogic

    def moduleLogic(self, name: str) -> Any:
        return self._d.context.moduleLogics.get(name)

    def layoutManager(self) -> Any:
        return self._d.layoutManager

    def moduleManager(self) -> Any:
        return self._d.modules

    def coreIOManager(self) -> Any:
        return self._d.io

    def ioManager(self) -> Any:
        return self._d.io

    def commandOptions(self) -> Any:
        return self._d.options

    def testingEnabled(self) -> bool:
        return self._d.testing

    @staticmethod
    def processEvents(*arguments: Any) -> None:
        QtCore.QCoreApplication.processEvents(*arguments)
        QtCore.QCoreApplication.sendPostedEvents(None, int(QtCore.QEvent.Type.DeferredDelete))

    # -------------------------------------------------------------------------------------------- settings, environment

    def settings(self) -> Any:
        return QtCore.QSettings()

    userSettings = defaultSettings = revisionUserSettings = settings

    def environment(self) -> Any:
        return QtCore.QProcessEnvironment.systemEnvironment()

    startupEnvironment = environment

    def setEnvironmentVariable(self, key: str, value: str) -> None:
        os.environ[key] = value

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{DOCUMENTATION}user_guide/modules/{name.lower()}.html"

    def toSlicerHomeAbsolutePath(self, path: str) -> str:
        return str(self._d.home / path)

    def currentLogFile(self) -> str:
        return str(self._d.home / "tmp" / "Slicer.log")

    # -------------------------------------------------------------------------------------------- actions

    def setRenderPaused(self, pause: bool) -> None:
        self._d.paused = max(0, self._d.paused + (1 if pause else -1))
        self._d.layoutManager.setRenderPaused(pause)
        self.renderPaused.emit(self._d.paused > 0)

    def pauseRender(self) -> None:
        self.setRenderPaused(True)

    def resumeRender(self) -> None:
        self.setRenderPaused(False)

    @staticmethod
    def restart() -> None:
        messages.current.append(messages.Message("restart", "slicer.app.restart()"))

    def openUrl(self, url: str) -> None:
        messages.current.append(messages.Message("openUrl", url))

    def openExtensionsManagerDialog(self) -> None:
        messages.current.append(messages.Message("extensionsManager", "slicer.app.openExtensionsManagerDialog()"))

    def launchDesigner(self, arguments: Any = ()) -> bool:
        messages.current.append(messages.Message("designer", " ".join(arguments)))
        return True

    temporaryPath = stored(str, "temporaryPath")
    cachePath = stored(str, "cachePath")
    defaultScenePath = stored(str, "defaultScenePath")
    slicerHome = qtProperty(str, lambda self: str(self._d.home))
    startupWorkingPath = qtProperty(str, lambda self: str(Path.cwd()))
    extensionsInstallPath = qtProperty(str, lambda self: str(self._d.home / "extensions"))
    documentationBaseUrl = qtProperty(str, lambda self: DOCUMENTATION)
    majorVersion = qtProperty(int, lambda self: int(VERSION.split(".")[0]))
    minorVersion = qtProperty(int, lambda self: int(VERSION.split(".")[1]))
    revision = qtProperty(str, lambda self: "host")
    repositoryRevision = qtProperty(str, lambda self: "host")
    os = qtProperty(str, lambda self: {"Darwin": "macosx", "Windows": "win"}.get(platform.system(), "linux"))
    arch = qtProperty(str, lambda self: "amd64")
    platform = qtProperty(str, lambda self: f"{self.os}-{self.arch}")
    isInstalled = qtProperty(bool, lambda self: True)


def _installLauncher(folder: Path) -> None:
    """Put ``PythonSlicer`` on the path: as in Slicer a launcher, whose child does the work and outlives its kill."""
    folder.mkdir()
    if os.name == "nt":
        (folder / "PythonSlicer.bat").write_text(f'@"{sys.executable}" %*\r\n', encoding="utf-8")
    else:
        launcher = folder / "PythonSlicer"
        launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n', encoding="utf-8")
        launcher.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
