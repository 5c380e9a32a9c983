"""``qt.QUiLoader``: loads .ui files with the stand-ins of CTK and Slicer and with connections to their slots."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import slicer
from PySide6 import QtCore, QtUiTools

from Testing.host import pythonqt, signals
from Testing.host.qt_namespace import ctk, declare, qt
from Testing.host.standin import state


class UiError(RuntimeError):
    """A .ui file that Slicer would load with a warning only, and then misbehave."""


@declare(qt)
class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file; what Slicer answers with a warning on the console is an error here."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d = state(error=None)

    def createWidget(self, name: str, parent: Any = None, objectName: str = "") -> Any:
        try:
            return self._create(name, parent, objectName)
        except Exception as error:
            self._d.error = self._d.error or error  # Qt would swallow it: load() raises it
            return super().createWidget("QWidget", parent, objectName)

    def _create(self, name: str, parent: Any, objectName: str) -> Any:
        cls = customClass(name)
        if cls is not None:
            widget = cls(parent)
            widget.setObjectName(objectName)
            return widget
        if name not in self.availableWidgets():
            raise UiError(f"Widget class {name} is not emulated by the test host: add a stand-in to Testing/host.")
        return super().createWidget(name, parent, objectName)

    def load(self, device: Any, parent: Any = None) -> Any:
        """The widget of an open file; None if it holds no valid form.

        Raises:
            UiError: if a widget class, a signal, a slot or a property's enum value is unknown.
        """
        try:
            root = ElementTree.fromstring(bytes(device.readAll().data()))
        except ElementTree.ParseError as error:
            print(f"Designer: An error has occurred while reading the UI file: {error}", file=sys.stderr)
            return None
        connections = root.find("connections")
        wanted = [{part.tag: part.text for part in entry} for entry in (connections if connections is not None else [])]
        if connections is not None:
            root.remove(connections)
        for widget in root.iter("widget"):
            _replaceEnums(widget)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        self._d.error = None
        form = super().load(buffer, parent)
        if self._d.error is not None:
            raise self._d.error
        for connection in wanted:
            _connect(form, **connection)
        return form


def customClass(name: str | None) -> type | None:
    """The stand-in of that class name, None for classes of Qt."""
    found = vars(ctk).get(name) or vars(slicer).get(name)
    return found if isinstance(found, type) and issubclass(found, QtCore.QObject) else None


def _replaceEnums(widget: ElementTree.Element) -> None:
    """Enum values of stand-ins' own properties become numbers: their properties are ints."""
    cls = customClass(widget.get("class"))
    for entry in widget.findall("property") if cls is not None else []:
        value = entry[0]
        owner = next((kind for kind in cls.__mro__ if entry.get("name") in vars(kind)), None)
        if value.tag in ("enum", "set") and customClass(owner.__name__ if owner else None) is not None:
            number = 0
            for word in (value.text or "").split("|"):
                scope, _, member = word.rpartition("::")
                holder = cls if scope.split("::")[0] == cls.__name__ or not scope else getattr(qt, scope.split("::")[0])
                if not hasattr(holder, member):
                    raise UiError(f"{word} of property {entry.get('name')} is unknown to {cls.__name__}.")
                number |= int(getattr(holder, member))
            value.tag, value.text = "number", str(number)


def _connect(form: Any, sender: str, signal: str, receiver: str, slot: str, **_hints: Any) -> None:
    source, target = _find(form, sender), _find(form, receiver)
    if not signals.signalExists(source, signal):
        raise UiError(f"{pythonqt.className(source)} {sender} has no signal {signal}, which the .ui file connects.")
    function = signals.slotFunction(target, slot)
    if function is None:
        raise UiError(f"{pythonqt.className(target)} {receiver} has no slot {slot}, which the .ui file connects.")
    signals.connectFunction(source, signal, function)


def _find(form: Any, name: str) -> Any:
    found = form if form.objectName == name else form.findChild(QtCore.QObject, name)
    if found is None:
        raise UiError(f"The .ui file connects {name}, which it does not contain.")
    return found
