"""How widgets show and give parameter values, by the same rules as Slicer's GUI connectors."""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer

from .annotations import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange, first, split
from .serializers import PATH_TYPES

_connectors: list[type[GuiConnector]] = []


class GuiConnector:
    """One widget with one value: ``widgets`` and ``represents`` tell which, ``signal`` when it changes."""

    signal = ""

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        raise NotImplementedError("Must implement canRepresent")

    @classmethod
    def create(cls, widget: Any, datatype: Any) -> GuiConnector:
        return cls(widget, datatype)

    def __init__(self, widget: Any = None, datatype: Any = None) -> None:
        self._widget = widget
        self._callback: Callable[[], None] | None = None

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback
        if self.signal:
            bound = getattr(self._widget, self.signal)
            (bound.disconnect if callback is None else bound.connect)(self.changed)

    def changed(self) -> None:
        if self._callback is not None:
            self._callback()

    def widget(self) -> Any:
        return self._widget

    def read(self) -> Any:
        raise NotImplementedError("Must implement read")

    def write(self, value: Any) -> None:
        raise NotImplementedError("Must implement write")


def parameterNodeGuiConnector(cls: type) -> type:
    """Class decorator: enter a connector."""
    _connectors.append(cls)
    return cls


def createGuiConnector(widget: Any, datatype: Any) -> GuiConnector:
    """The connector of a widget for a type.

    Raises:
        RuntimeError: if no connector fits.
    """
    for connector in _connectors:
        if connector.canRepresent(widget, datatype):
            return connector.create(widget, datatype)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to widget type '{type(widget)}'.")


def _is(widget: Any, *kinds: type) -> bool:
    return type(widget) in kinds


@parameterNodeGuiConnector
class CheckConnector(GuiConnector):
    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        kinds = (qt.QCheckBox, ctk.ctkCheckBox, qt.QPushButton, ctk.ctkCheckablePushButton)
        return split(datatype)[0] is bool and _is(widget, *kinds)

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget)
        isBox = _is(widget, qt.QCheckBox, ctk.ctkCheckBox)
        self.signal = "stateChanged" if isBox else "toggled"
        if not isBox and not widget.checkable:
            widget.checkable = True

    def read(self) -> bool:
        return self._widget.checked

    def write(self, value: bool) -> None:
        self._widget.checked = value


class NumberConnector(GuiConnector):
    """Common to all number widgets: range, step and decimals come from the annotations."""

    signal = "valueChanged"
    unbounded = (float("-inf"), float("inf"))
    needsRange: tuple = ()

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget)
        self._kind, annotations = split(datatype)
        self._setDecimals(first(annotations, Decimals))
        if (step := first(annotations, SingleStep)) is not None:
            widget.singleStep = step.value
        within = first(annotations, WithinRange)
        low, high = first(annotations, Minimum), first(annotations, Maximum)
        low = within.minimum if within is not None else (low.minimum if low is not None else None)
        high = within.maximum if within is not None else (high.maximum if high is not None else None)
        if (low is None or high is None) and _is(widget, *self.needsRange):
            raise RuntimeError(f"Cannot have a connection to {type(widget).__name__} where the number is unbounded.")
        widget.minimum = self.unbounded[0] if low is None else low
        widget.maximum = self.unbounded[1] if high is None else high

    def _setDecimals(self, decimals: Decimals | None) -> None:
        pass

    def read(self) -> Any:
        return self._kind(self._widget.value)

    def write(self, value: Any) -> None:
        self._widget.value = self._kind(value)


@parameterNodeGuiConnector
class IntConnector(NumberConnector):
    unbounded = (-(2**31), 2**31 - 1)
    needsRange = (qt.QSlider,)

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return split(datatype)[0] is int and _is(widget, qt.QSlider, qt.QSpinBox)


@parameterNodeGuiConnector
class FloatConnector(NumberConnector):
    needsRange = (ctk.ctkSliderWidget, slicer.qMRMLSliderWidget)

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        kinds = (qt.QDoubleSpinBox, ctk.ctkSliderWidget, slicer.qMRMLSliderWidget)
        kinds += (ctk.ctkDoubleSlider, ctk.ctkDoubleSpinBox, slicer.qMRMLSpinBox)
        return split(datatype)[0] in (int, float) and _is(widget, *kinds)

    def _setDecimals(self, decimals: Decimals | None) -> None:
        if not _is(self._widget, ctk.ctkDoubleSlider):
            if self._kind is int:
                self._widget.decimals = 0
            elif decimals is not None:
                self._widget.decimals = decimals.value


@parameterNodeGuiConnector
class ChoiceConnector(GuiConnector):
    """A combo box of the values of a Choice annotation or of an Enum."""

    signal = "currentIndexChanged"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        kind = split(datatype)[0]
        named = kind in (int, float, str, bool) or (isinstance(kind, type) and issubclass(kind, enum.Enum))
        return named and _is(widget, qt.QComboBox, ctk.ctkComboBox)

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget)
        kind, annotations = split(datatype)
        choice = first(annotations, Choice)
        isEnum = issubclass(kind, enum.Enum)
        if not isEnum and choice is None:
            raise RuntimeError("A combo box needs the Choice annotation.")
        self._values = list(kind) if isEnum else list(choice.choices)
        label = getattr(kind, "label", lambda member: member.name) if isEnum else str
        widget.clear()
        for value in self._values:
            widget.addItem(label(value))

    def read(self) -> Any:
        return self._values[self._widget.currentIndex]

    def write(self, value: Any) -> None:
        if value not in self._values:
            raise ValueError(f"Unable to find value {value} in choices {self._values}")
        self._widget.currentIndex = self._values.index(value)


@parameterNodeGuiConnector
class TextConnector(GuiConnector):
    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return split(datatype)[0] is str and _is(widget, qt.QLineEdit, qt.QTextEdit, qt.QLabel)

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget)
        self.signal = "" if _is(widget, qt.QLabel) else "textChanged"

    def read(self) -> str:
        return self._widget.toPlainText() if _is(self._widget, qt.QTextEdit) else self._widget.text

    def write(self, value: str) -> None:
        if _is(self._widget, qt.QTextEdit):
            self._widget.setPlainText(value)
        elif value != self._widget.text:
            self._widget.text = value


@parameterNodeGuiConnector
class PathConnector(GuiConnector):
    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return split(datatype)[0] in PATH_TYPES and _is(widget, ctk.ctkPathLineEdit, ctk.ctkDirectoryButton)

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget)
        self._kind = split(datatype)[0]
        self._property = "currentPath" if _is(widget, ctk.ctkPathLineEdit) else "directory"
        self.signal = self._property + "Changed"

    def read(self) -> Any:
        return self._kind(getattr(self._widget, self._property))

    def write(self, value: Any) -> None:
        setattr(self._widget, self._property, str(value))


def nodeClasses(datatype: Any) -> list[type]:
    """The node classes of a node type or a union of them with None; empty for any other type."""
    kind = split(datatype)[0]
    members = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
    plain = [split(member)[0] for member in members]
    nodes = [member for member in plain if isinstance(member, type) and issubclass(member, slicer.vtkMRMLNode)]
    return nodes if len(nodes) == len([member for member in plain if member is not type(None)]) else []


@parameterNodeGuiConnector
class NodeConnector(GuiConnector):
    signal = "currentNodeChanged"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _is(widget, slicer.qMRMLNodeComboBox) and bool(nodeClasses(datatype))

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget)
        widget.nodeTypes = [member.__name__ for member in nodeClasses(datatype)]

    def read(self) -> Any:
        return self._widget.currentNode()

    def write(self, value: Any) -> None:
        self._widget.setCurrentNode(value)
