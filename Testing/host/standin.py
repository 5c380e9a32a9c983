"""Building blocks of the stand-ins: their state, their Qt properties, and the arguments of their constructors.

A stand-in keeps its state in ``self._d`` (the one attribute that may be set) and has public names only where the real
class's header has a property, a signal, a slot or a Q_INVOKABLE method: PythonQt sees nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from PySide6 import QtCore, QtWidgets

from Testing.host import pythonqt
from Testing.host.pythonqt import qtProperty


def parentAnd(arguments: tuple) -> tuple[Any, tuple]:
    """The parent, which is the last argument of most Qt constructors, and what stands before it."""
    if arguments and (arguments[-1] is None or pythonqt.derives(arguments[-1], QtWidgets.QWidget)):
        return arguments[-1], arguments[:-1]
    return None, arguments


def state(**values: Any) -> SimpleNamespace:
    """The private state of a stand-in."""
    return SimpleNamespace(**values)


def stored(kind: Any, name: str, changed: Callable[[Any], None] | None = None) -> QtCore.Property:
    """A property that is kept in ``_d`` under its name; ``changed(widget)`` runs after a new value is set."""

    def read(self: Any) -> Any:
        value = getattr(self._d, name)
        return tuple(value) if kind == "QStringList" else value

    def write(self: Any, value: Any) -> None:
        if getattr(self._d, name) != value:
            setattr(self._d, name, list(value) if kind == "QStringList" else value)
            if changed is not None:
                changed(self)

    return qtProperty(kind, read, write)


def forwarded(kind: Any, inner: str, name: str) -> QtCore.Property:
    """A property that belongs to an inner widget, ``_d.<inner>``."""

    def read(self: Any) -> Any:
        return getattr(getattr(self._d, inner), name)

    def write(self: Any, value: Any) -> None:
        setattr(getattr(self._d, inner), name, value)

    return qtProperty(kind, read, write)


def row(widget: Any, *children: Any) -> None:
    """Lay the children out from left to right without a margin."""
    layout = QtWidgets.QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for child in children:
        layout.addWidget(child)
