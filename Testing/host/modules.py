"""Stand-ins of Slicer's modules: scripted ones from their unmodified files, C++ ones with their real logic."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host import pythonqt
from Testing.host.mrml_widgets import qSlicerWidget
from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import declare
from Testing.host.signals import cppSignal
from Testing.host.standin import state, stored


@pythonqt.registerCppClass
class _Module(QtCore.QObject):
    """What all modules have."""

    def __init__(self, name: str = "", logic: Any = None) -> None:
        super().__init__()
        self._d = state(name=name, title=name, path="", logic=logic, representation=None, hidden=False, index=-1)
        self._d.__dict__.update(categories=[], contributors=[], dependencies=[], associatedNodeTypes=[], helpText="")
        self._d.__dict__.update(acknowledgementText="", icon=QtGui.QIcon(), enabled=True)

    def logic(self) -> Any:
        return self._d.logic

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def setMRMLScene(self, scene: Any) -> None:
        if self._d.representation is not None:
            self._d.representation.setMRMLScene(scene)

    def widgetRepresentation(self) -> Any:
        if self._d.representation is None:
            self._d.representation = self.createNewWidgetRepresentation()
        return self._d.representation

    def createNewWidgetRepresentation(self) -> Any:
        return None

    name = qtProperty(str, lambda self: self._d.name)
    path = qtProperty(str, lambda self: self._d.path)
    isInstalled = qtProperty(bool, lambda self: False)
    isBuiltIn = qtProperty(bool, lambda self: not pythonqt.derives(self, qSlicerScriptedLoadableModule))
    defaultDocumentationLink = qtProperty(str, lambda self: _documentationLink(self._d.name))
    widgetRepresentationCreationEnabled = stored(bool, "enabled")


@declare(slicer)
class qSlicerLoadableModule(_Module):
    """A C++ module: a logic without a widget."""

    title = qtProperty(str, lambda self: self._d.title)


@declare(slicer)
class qSlicerScriptedLoadableModule(_Module):
    """The C++ side of a scripted module: what the module's Python class gets as ``parent``."""

    def _setIcon(self, icon: Any) -> None:
        self._d.icon = icon

    def createNewWidgetRepresentation(self) -> Any:
        if not self._d.enabled:
            return None
        widget = qSlicerScriptedLoadableModuleWidget(self)
        widget.setWindowTitle(self._d.title)
        widget.reload()
        widget.setMRMLScene(slicer.mrmlScene)
        return widget

    title = stored(str, "title")
    categories = stored("QStringList", "categories")
    contributors = stored("QStringList", "contributors")
    dependencies = stored("QStringList", "dependencies")
    associatedNodeTypes = stored("QStringList", "associatedNodeTypes")
    helpText = stored(str, "helpText")
    acknowledgementText = stored(str, "acknowledgementText")
    hidden = stored(bool, "hidden")
    index = stored(int, "index")
    icon = qtProperty(QtGui.QIcon, lambda self: self._d.icon, _setIcon)


@declare(slicer)
class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """The C++ side of a module's widget: what the Python widget class gets as ``parent``."""

    def __init__(self, module: Any) -> None:
        qSlicerWidget.__init__(self)
        self._d.__dict__.update(module=module, python=None, entered=False)
        QtWidgets.QVBoxLayout(self)

    def reload(self) -> None:
        """Make a new Python widget from the class that now stands in the module's file, and set it up."""
        name = self._d.module.name
        widgetClass = getattr(sys.modules[name], name + "Widget")
        self._d.python = widgetClass(self)
        setattr(slicer.modules, name + "Widget", self._d.python)
        if hasattr(self._d.python, "setup"):
            self._d.python.setup()

    def self(self) -> Any:
        return self._d.python

    def enter(self) -> None:
        self._d.entered = True
        if hasattr(self._d.python, "enter"):
            self._d.python.enter()

    def exit(self) -> None:
        self._d.entered = False
        if hasattr(self._d.python, "exit"):
            self._d.python.exit()

    def setEditedNode(self, node: Any, role: str = "", context: str = "") -> bool:
        edit = getattr(self._d.python, "setEditedNode", None)
        return bool(edit(node, role, context)) if edit is not None else False

    def nodeEditable(self, node: Any) -> float:
        editable = getattr(self._d.python, "nodeEditable", None)
        return float(editable(node)) if editable is not None else 0.0

    isEntered = qtProperty(bool, lambda self: self._d.entered)
    moduleName = qtProperty(str, lambda self: self._d.module.name)


@declare(slicer)
class qSlicerModuleFactoryManager(QtCore.QObject):
    """Knows which modules are loaded."""

    modulesLoaded = cppSignal("QStringList")

    def __init__(self, manager: Any) -> None:
        super().__init__(manager)
        self._d = state(manager=manager)

    def loadedModuleNames(self) -> tuple:
        return self._d.manager.modulesNames()

    def registeredModuleNames(self) -> tuple:
        return self._d.manager.modulesNames()

    def instantiatedModuleNames(self) -> tuple:
        return self._d.manager.modulesNames()

    def isLoaded(self, name: str) -> bool:
        return name in self.loadedModuleNames()

    def isRegistered(self, name: str) -> bool:
        return self.isLoaded(name)

    def loadedModule(self, name: str) -> Any:
        return self._d.manager.module(name)

    def moduleInstance(self, name: str) -> Any:
        return self._d.manager.module(name)


@declare(slicer)
class qSlicerModuleManager(QtCore.QObject):
    """All modules by name."""

    moduleLoaded = cppSignal("QString")
    moduleAboutToBeUnloaded = cppSignal("QString")

    def __init__(self) -> None:
        super().__init__()
        self._d = state(modules={}, factory=None)
        self._d.factory = qSlicerModuleFactoryManager(self)

    def factoryManager(self) -> Any:
        return self._d.factory

    def modulesNames(self) -> tuple:
        return tuple(self._d.modules)

    def module(self, name: str) -> Any:
        return self._d.modules.get(name)


def _documentationLink(name: str) -> str:
    url = slicer.app.moduleDocumentationUrl(name)
    return f'<p>For more information see the <a href="{url}">online documentation</a>.</p>'


def register(manager: Any, module: Any) -> None:
    """Enter a module under ``slicer.modules``."""
    manager._d.modules[module.name] = module
    setattr(slicer.modules, module.name.lower(), module)
    setattr(slicer.moduleNames, module.name, module.name)


def loadScripted(manager: Any, path: Path) -> Any:
    """Load a scripted module from its file, as Slicer does at start-up: its class is made, its widget not yet."""
    name = path.stem
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file.")
    source = importlib.util.module_from_spec(spec)
    sys.modules[name] = source
    spec.loader.exec_module(source)
    module = qSlicerScriptedLoadableModule(name)
    module._d.path = str(path)
    module._d.enabled = hasattr(source, name + "Widget")
    instance = getattr(source, name)(module)
    setattr(slicer.modules, name + "Instance", instance)
    register(manager, module)
    if hasattr(instance, "setup"):
        instance.setup()
    manager.moduleLoaded.emit(name)
    return module


def unload(manager: Any, name: str) -> None:
    """Announce the end of a module, which lets its widget clean up, and forget it."""
    module = manager._d.modules.pop(name)
    manager.moduleAboutToBeUnloaded.emit(name)
    widget = module._d.representation
    if widget is not None:
        widget.hide()
        widget.setParent(None)
        widget.deleteLater()
        module._d.representation = None
    for attribute in (name.lower(), name + "Instance", name + "Widget"):
        if hasattr(slicer.modules, attribute):
            delattr(slicer.modules, attribute)
    if hasattr(slicer.moduleNames, name):
        delattr(slicer.moduleNames, name)
    getattr(slicer, "selfTests", {}).pop(name, None)
    if pythonqt.derives(module, qSlicerScriptedLoadableModule):
        sys.modules.pop(name, None)


def forgetSampleData() -> None:
    """Drop the data sets that modules registered."""
    if hasattr(slicer.modules, "sampleDataSources"):
        del slicer.modules.sampleDataSources
