"""The host of a process: starts Slicer's stand-ins once, gives each test a new scene, and plays the user."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import sys
import time
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Testing.host import qt_namespace, signals

SOURCE_VARIABLE = "AUTOFUSE_SLICER_SOURCE"
PURE_PYTHON = {
    "slicer.ScriptedLoadableModule": "Testing.host.pure.scripted_module",
    "slicer.parameterNodeWrapper": "Testing.host.pure.parameter_nodes",
    "slicer.i18n": "Testing.host.pure.translation",
    "slicer.packaging": "Testing.host.pure.packages",
}
"""Slicer's pure-Python modules and their stand-ins."""

ALWAYS = {"SampleData": "Testing.host.pure.sample_data"}
"""Scripted modules that other modules import; their stand-ins stay also with Slicer's sources."""

QT_NOISE = ("This plugin does not support propagateSizeHints()",)

_host: Host | None = None


@dataclass
class LoadedModule:
    """A scripted module in the host."""

    module: Any
    """The C++ side, as in ``slicer.modules.<name>``."""

    widget: Any
    """The Python widget, None if the module has none."""

    @property
    def parent(self) -> Any:
        """The Qt widget that holds the module's user interface."""
        return self.module.widgetRepresentation()

    @property
    def source(self) -> types.ModuleType:
        """The Python module of the file."""
        return sys.modules[self.module.name]


class _StandInFinder(importlib.abc.MetaPathFinder):
    """Resolves ``slicer.ScriptedLoadableModule`` and its like to the host's own packages."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        for public, own in self.names.items():
            if name == public or name.startswith(public + "."):
                source = importlib.util.find_spec(own + name[len(public) :])
                if source is None or source.origin is None:
                    return None
                places = source.submodule_search_locations
                return importlib.util.spec_from_file_location(name, source.origin, submodule_search_locations=places)
        return None


def slicerSource() -> Path | None:
    """Folder of Slicer's own Python package if the environment names a source checkout.

    Raises:
        FileNotFoundError: if the environment names a folder that is no Slicer checkout.
    """
    named = os.environ.get(SOURCE_VARIABLE)
    if not named:
        return None
    package = Path(named) / "Base" / "Python" / "slicer"
    if not (package / "ScriptedLoadableModule.py").is_file():
        raise FileNotFoundError(f"{SOURCE_VARIABLE}={named} holds no Base/Python/slicer/ScriptedLoadableModule.py.")
    return package


def boot() -> Host:
    """The host of this process, started on the first call."""
    global _host
    if _host is None:
        qt_namespace.install()
        import slicer

        _cleanSlicerNamespace(slicer)
        package = slicerSource()
        sys.meta_path.insert(0, _StandInFinder(ALWAYS | PURE_PYTHON if package is None else ALWAYS))
        if package is not None:
            slicer.__path__.append(str(package))
        for name in STAND_INS:
            importlib.import_module(f"Testing.host.{name}")
        _host = Host()
        if package is not None:
            _keepPackagesAsTheyAre(slicer)
    return _host


STAND_INS = ("ctk_buttons", "ctk_combos", "ctk_numbers", "ctk_paths", "mrml_checkable", "ui_loader", "application")


def _keepPackagesAsTheyAre(slicer: Any) -> None:
    """Slicer's own ``slicer.packaging`` would really run pip: only its questions stay."""
    from Testing.host.pure import packages

    own = importlib.import_module("slicer.packaging")
    own.pip_install, own.pip_uninstall = packages.pip_install, packages.pip_uninstall
    slicer.util.pip_install, slicer.util.pip_uninstall = packages.pip_install, packages.pip_uninstall


def _cleanSlicerNamespace(slicer: Any) -> None:
    """The wheel copies the functions of slicer.util into slicer, where real Slicer has none of them."""
    import slicer.util

    for name, value in list(vars(slicer).items()):
        if getattr(value, "__module__", "") == "slicer.util" and vars(slicer.util).get(name) is value:
            delattr(slicer, name)
    for name in ("modules", "moduleNames"):
        module = types.ModuleType(f"slicer.{name}")
        sys.modules[module.__name__] = module
        setattr(slicer, name, module)


class Host:
    """What tests talk to: the application, its scene, its messages, and the hands of a user."""

    def __init__(self) -> None:
        import slicer

        from Testing.host import application, main_window, messages, modules, theme

        self._messages, self._modules, self._theme = messages, modules, theme
        self.app = application.qSlicerApplication()
        slicer.app = self.app
        messages.install()
        theme.apply(self.app, dark=False)
        self.mainWindow = main_window.qSlicerMainWindow()
        self.uncaught: list[BaseException] = []
        self.qtWarnings: list[str] = []
        self.messages = messages.current
        self._listenToQt()
        self.reset()

    # -------------------------------------------------------------------------------------------- state

    @property
    def scene(self) -> Any:
        return self.app.mrmlScene()

    def reset(self) -> None:
        """A new scene without modules, messages, settings and exceptions, in testing mode, in the light theme."""
        from PySide6 import QtCore

        self.unloadAll()
        self._modules.forgetSampleData()
        for lasting in (self.app, self.app.moduleManager(), self.app.ioManager()):
            signals.disconnectAll(lasting)
        self.app._renewScene()
        QtCore.QSettings().clear()
        self.messages = self._messages.startRecording()
        self.uncaught.clear()
        self.qtWarnings.clear()
        self.setDark(False)
        sys.excepthook = self._recordUncaught

    def unloadAll(self) -> None:
        """Take all scripted modules down, the last one first."""
        for name in reversed(self.loadedNames()):
            self.unload(name)
        self.app.processEvents()

    def release(self) -> None:
        """Take the hands off ``sys.excepthook``."""
        sys.excepthook = sys.__excepthook__

    def _listenToQt(self) -> None:
        from PySide6 import QtCore

        def heard(kind: Any, context: Any, text: str) -> None:
            if text not in QT_NOISE:
                self.qtWarnings.append(text)
                print(text, file=sys.stderr)

        QtCore.qInstallMessageHandler(heard)

    def loadedNames(self) -> list[str]:
        """Names of the scripted modules that are loaded."""
        import slicer

        kind = slicer.qSlicerScriptedLoadableModule
        return [name for name, module in self.app.moduleManager()._d.modules.items() if type(module) is kind]

    def _recordUncaught(self, kind: type, error: BaseException, trace: Any) -> None:
        self.uncaught.append(error)
        traceback.print_exception(kind, error, trace)

    def setTesting(self, testing: bool) -> None:
        """As with and without ``--testing``: whether ``slicer.util`` answers its own questions."""
        self.app._d.testing = testing

    def setDark(self, dark: bool) -> None:
        self._theme.apply(self.app, dark)

    # -------------------------------------------------------------------------------------------- modules

    def loadModule(self, path: str | Path, show: bool = True) -> LoadedModule:
        """Load a scripted module from its file; shown means selected, so that its widget is set up and entered."""
        import slicer

        module = self._modules.loadScripted(self.app.moduleManager(), Path(path).resolve())
        if not show or not module._d.enabled:
            return LoadedModule(module, None)
        self.mainWindow.show()
        slicer.util.selectModule(module.name)
        self.app.processEvents()
        return LoadedModule(module, module.widgetRepresentation().self())

    def reload(self, loaded: LoadedModule) -> LoadedModule:
        """Press "Reload": the file is read again and its widget made anew."""
        import slicer

        slicer.util.reloadScriptedModule(loaded.module.name)
        self.app.processEvents()
        return LoadedModule(loaded.module, loaded.parent.self())

    def completeStartup(self) -> None:
        """What Slicer announces when all modules are loaded; modules register their sample data then."""
        self.app.startupCompleted.emit()
        self.app.processEvents()

    def unload(self, name: str) -> None:
        """Leave a module and take it down, as at the end of the application."""
        selector = self.mainWindow.moduleSelector()
        if selector.selectedModule == name:
            selector.selectModule("")
        self._modules.unload(self.app.moduleManager(), name)
        self.app.processEvents()

    def runModuleTest(self, loaded: LoadedModule) -> None:
        """Run the ScriptedLoadableModuleTest of a module; failures are raised."""
        import slicer

        slicer.selfTests[loaded.module.name]()

    def closeScene(self) -> None:
        """File / Close scene."""
        self.scene.Clear(False)
        self.app.processEvents()

    def exitApplication(self) -> None:
        """Exit Slicer as far as modules see it: ``aboutToQuit``, then each module is unloaded."""
        self.app.aboutToQuit.emit()
        self.unloadAll()

    # -------------------------------------------------------------------------------------------- the user

    def waitUntil(self, condition: Callable[[], Any], timeout: float = 5.0) -> Any:
        """Run the event loop until the condition holds, and give its value.

        Raises:
            TimeoutError: if it does not hold within ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > end:
                raise TimeoutError(f"The condition did not hold within {timeout} s.")
            self.app.processEvents()
            time.sleep(0.002)
        return value

    def click(self, widget: Any) -> None:
        """Click a button that a user could click.

        Raises:
            RuntimeError: if it is disabled or hidden.
        """
        self._requireUsable(widget)
        widget.click()
        self.app.processEvents()

    def type(self, widget: Any, text: str) -> None:
        """Replace the text of a line, spin box or slider widget by keystrokes and press Enter.

        Raises:
            RuntimeError: if it is disabled or hidden.
        """
        from PySide6 import QtCore, QtGui

        self._requireUsable(widget)
        edit = widget if hasattr(widget, "selectAll") else widget.findChild("QLineEdit")
        edit.selectAll()
        keys = [(QtCore.Qt.Key.Key_unknown, character) for character in text]
        for key, character in [*keys, (QtCore.Qt.Key.Key_Return, "\r")]:
            for kind in (QtCore.QEvent.Type.KeyPress, QtCore.QEvent.Type.KeyRelease):
                event = QtGui.QKeyEvent(kind, int(key), QtCore.Qt.KeyboardModifier.NoModifier, character)
                self.app.sendEvent(edit, event)
        self.app.processEvents()

    def _requireUsable(self, widget: Any) -> None:
        part = widget
        while part is not None and not part.isWindow():
            if part.isHidden():
                break
            part = part.parentWidget()
        hidden = part is not None and not part.isWindow()
        if hidden or not widget.isEnabled():
            raise RuntimeError(f"{widget.className()} '{widget.objectName}' is disabled or hidden to a user.")

    def choose(self, combo: Any, text: str) -> None:
        """Choose an entry of a combo box or node selector by its text, as a user does.

        Raises:
            LookupError: if there is no such entry.
            RuntimeError: if it is disabled or hidden.
        """
        self._requireUsable(combo)
        box = combo if hasattr(combo, "activated") else combo.findChild("QComboBox")
        texts = [box.itemText(index) for index in range(box.count)]
        if text not in texts:
            raise LookupError(f"{combo.objectName} offers {texts}, not '{text}'.")
        box.setCurrentIndex(texts.index(text))
        box.activated.emit(texts.index(text))
        self.app.processEvents()

    def screenshot(self, widget: Any, path: str | Path) -> Path:
        """Save what a widget looks like as a PNG file, without empty space at its lower end."""
        self.app.processEvents()
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        picture = widget.grab()
        height = widget.sizeHint.height()
        if 0 < height < picture.height():
            picture = picture.copy(0, 0, picture.width(), height)
        if not picture.save(str(target)):
            raise OSError(f"The picture could not be written to {target}.")
        return target
