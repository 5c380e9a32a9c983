"""The modules ``qt`` and ``ctk`` that Slicer's Python code imports, over PySide6."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host import pythonqt, signals

HIDDEN = {"Signal", "Slot", "Property", "SignalInstance", "ClassInfo", "QEnum", "QFlag", "QtCore", "QtGui", "QtWidgets"}
QT6_ONLY = {
    "checkStateChanged": {"QCheckBox"},
    "colorScheme": {"QStyleHints"},
    "colorSchemeChanged": {"QStyleHints"},
    "setColorScheme": {"QStyleHints"},
    "timeZone": {"QDateTimeEdit"},
}
"""Members of Qt 6.8 that Qt 5.15 does not have: a module that uses them fails in today's Slicer."""


class QtModule(types.ModuleType):
    """``qt``: the names of QtWidgets, QtGui, QtCore and QtUiTools in one module."""

    def __getattr__(self, name: str) -> Any:
        if name not in HIDDEN and not name.startswith("__"):
            for module in pythonqt.QT_MODULES:
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module 'qt' of the test host has no attribute '{name}'")


class CtkModule(types.ModuleType):
    """``ctk``: the stand-ins that ``declare`` has entered."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"module 'ctk' of the test host has no attribute '{name}': add a stand-in to Testing/host")


qt = QtModule("qt", "Qt as Slicer's Python sees it, emulated by the test host.")
ctk = CtkModule("ctk", "Stand-ins of CTK's widgets, from the test host.")


def declare(module: types.ModuleType) -> Callable[[type], type]:
    """Class decorator: a stand-in of a C++ class, entered into ``qt``, ``ctk`` or ``slicer`` under its own name."""

    def enter(cls: type) -> type:
        setattr(module, cls.__name__, pythonqt.registerCppClass(cls))
        return cls

    return enter


def absent(module: types.ModuleType, *names: str) -> None:
    """Enter names of classes that exist in Slicer and that the host refuses to make."""
    for name in names:

        def refuse(self: Any, *arguments: Any, _name: str = name) -> None:
            raise RuntimeError(f"{_name} is not emulated by the test host: add a stand-in to Testing/host.")

        setattr(module, name, pythonqt.registerCppClass(type(name, (QtWidgets.QWidget,), {"__init__": refuse})))


def install() -> None:
    """Patch PySide6 and enter ``qt`` and ``ctk`` into ``sys.modules``."""
    if "qt" in sys.modules:
        return
    interceptors = {"connect": signals.connect, "disconnect": signals.disconnect}
    pythonqt.install(signals.SignalMember, interceptors, QT6_ONLY)
    _addQObjectMembers()
    _adjustClasses()
    sys.modules["qt"] = qt
    sys.modules["ctk"] = ctk


def _addQObjectMembers() -> None:
    """What PythonQt adds to each QObject, or does otherwise than PySide6."""
    children = QtCore.QObject.children
    members = {
        "className": lambda self: pythonqt.className(self),
        "children": lambda self: tuple(children(self)),
        "findChild": findChild,
        "findChildren": findChildren,
        "delete": lambda self: pythonqt.Shiboken.delete(self),
    }
    for name, function in members.items():
        setattr(QtCore.QObject, name, function)


def _matches(candidate: Any, kind: Any) -> bool:
    if isinstance(kind, str):
        return QtCore.QObject.inherits(candidate, kind)
    return pythonqt.derives(candidate, kind)


def findChildren(self: Any, kind: Any, name: str | None = None) -> tuple:
    """All descendants of a class, which is given as class or by its name."""
    found = []
    for child in self.children():
        if _matches(child, kind) and (name is None or child.objectName == name):
            found.append(child)
        found.extend(findChildren(child, kind, name))
    return tuple(found)


def findChild(self: Any, kind: Any, name: str | None = None) -> Any:
    """The nearest descendant of a class, None where there is none."""
    for child in self.children():
        if _matches(child, kind) and (name is None or child.objectName == name):
            return child
    return next((found for child in self.children() if (found := findChild(child, kind, name)) is not None), None)


# ------------------------------------------------------------------------------------------------- single classes


class _StaticOrBound:
    """A function that is static on the class and bound on instances, as ``QProcess.startDetached`` is."""

    def __init__(self, static: Callable, bound: Callable) -> None:
        self.static = static
        self.bound = bound

    def __get__(self, instance: Any, owner: type | None = None) -> Callable:
        if instance is None:
            return self.static
        return lambda *arguments: self.static(*arguments) if arguments else self.bound(instance)

    def __call__(self, *arguments: Any) -> Any:
        return self.static(*arguments)


def _adjustClasses() -> None:
    process, device, timer = QtCore.QProcess, QtCore.QIODevice, QtCore.QTimer
    original = process.__dict__["__getattribute__"]
    startStatic = process.startDetached
    startDetached = _StaticOrBound(
        lambda *arguments: bool(_first(startStatic(*arguments))),
        lambda instance: bool(_first(original(instance, "startDetached")())),
    )

    def processAttribute(self: Any, name: str) -> Any:
        return startDetached.__get__(self) if name == "startDetached" else original(self, name)

    process.startDetached = startDetached
    process.__getattribute__ = processAttribute

    write = device.write
    device.write = lambda self, data: write(self, data.encode() if isinstance(data, str) else data)
    timer.singleShot = staticmethod(_singleShot)
    colorName, colorFormat = QtGui.QColor.name, QtGui.QColor.NameFormat
    QtGui.QColor.name = lambda self, form=0: colorName(self, colorFormat(int(form)))
    makeMenu = QtWidgets.QMenu.__init__

    def menu(self: Any, *arguments: Any) -> None:
        """PythonQt makes a text of anything: Slicer's own ``qt.QMenu(self)`` passes an object that is no widget."""
        first = arguments[0] if arguments else None
        plain = first is None or isinstance(first, str) or pythonqt.derives(first, QtWidgets.QWidget)
        makeMenu(self, *(arguments if plain else (str(first), *arguments[1:])))

    QtWidgets.QMenu.__init__ = menu


_waiting: set[Any] = set()


def _singleShot(milliseconds: int, function: Callable) -> None:
    """``QTimer.singleShot``: call once later; PySide6's own goes through the connect that the host replaced."""
    timer = QtCore.QTimer()
    _waiting.add(timer)

    def fire() -> None:
        _waiting.discard(timer)
        signals.deliver(function, ())

    timer.timeout.connect(fire)
    timer.setSingleShot(True)
    timer.start(milliseconds)


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result
