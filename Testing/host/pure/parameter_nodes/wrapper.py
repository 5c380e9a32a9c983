"""The class decorator ``@parameterNodeWrapper``."""

from __future__ import annotations

import logging
import typing
from typing import Any

import qt
import slicer
import slicer.util
import vtk

from .annotations import Decimals, Default, SingleStep, Validator, split
from .connectors import GuiConnector, createGuiConnector
from .serializers import Serializer, createSerializer

SlicerParameterNamePropertyName = "SlicerParameterName"


class _Parameter:
    """Name, type, default and serializer of one member."""

    def __init__(self, name: str, datatype: Any, serializer: Serializer, default: Default) -> None:
        self.basename = name
        self.unalteredType = datatype
        self.serializer = serializer
        self.default = default


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Turn a class of annotated members into a typed view of a vtkMRMLScriptedModuleNode."""
    return _process(cls) if cls is not None else _process


def isParameterNodeWrapper(candidate: Any) -> bool:
    """Whether a class or object is a wrapper."""
    return getattr(candidate, "_is_parameter_node_wrapper", False)


def _process(cls: type) -> type:
    parameters: dict[str, _Parameter] = {}
    for name, datatype in typing.get_type_hints(cls, include_extras=True).items():
        serializer = createSerializer(datatype)
        annotations = split(datatype)[1]
        default = next(
            (entry for entry in annotations if isinstance(entry, Default)), Default(generator=serializer.initial)
        )
        if hasattr(cls, name):
            default = Default(getattr(cls, name))
        known = (Default, Validator, Decimals, SingleStep)
        unused = [entry for entry in annotations if not isinstance(entry, known)]
        if unused:
            logging.warning("Unused annotations: %s", unused)
        parameters[name] = _Parameter(name, datatype, serializer, default)
        setattr(cls, name, _property(name))
    members = {name: value for name, value in vars(_Wrapper).items() if not name.startswith("__")}
    for name, value in {**members, "allParameters": parameters, "_is_parameter_node_wrapper": True}.items():
        if hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(cls, name, value)
    cls.__init__ = _Wrapper.__init__
    return cls


def _property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


class _Wrapper:
    """The members that every wrapper gets."""

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        self.parameterNode = parameterNode
        self._prefix = prefix or ""
        self._guis: dict[int, tuple[dict[str, GuiConnector], int]] = {}
        self._showing = False
        for name, parameter in self.allParameters.items():
            if not parameter.serializer.isIn(parameterNode, self._prefix + name):
                parameter.serializer.write(parameterNode, self._prefix + name, parameter.default.value)

    def _parameter(self, name: str) -> Any:
        if name not in self.allParameters:
            known = ", ".join(self.allParameters)
            raise ValueError(f"Cannot find a param with the given name: {name}; found parameters [{known}]")
        return self.allParameters[name]

    def getValue(self, name: str) -> Any:
        return self._parameter(name).serializer.read(self.parameterNode, self._prefix + name)

    def setValue(self, name: str, value: Any) -> None:
        serializer = self._parameter(name).serializer
        serializer.validate(value)
        with slicer.util.NodeModify(self.parameterNode):
            serializer.write(self.parameterNode, self._prefix + name, value)

    def default(self, name: str) -> Any:
        return self._parameter(name).default

    def dataType(self, name: str) -> Any:
        return self._parameter(name).unalteredType

    def connectGui(self, gui: Any) -> int:
        isWidget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if isWidget else list(vars(gui).values())
        named = [(widget.property(SlicerParameterNamePropertyName), widget) for widget in widgets]
        return self.connectParametersToGui({name: widget for name, widget in named if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        for name in mapping:
            self._parameter(name)
        connectors = {
            name: value if isinstance(value, GuiConnector) else createGuiConnector(value, self.dataType(name))
            for name, value in mapping.items()
        }
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._makeCallback(name, connector))
        tag = max(self._guis, default=-1) + 1
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._showValues())
        self._guis[tag] = connectors, observer
        return tag

    def disconnectGui(self, tag: int) -> None:
        if tag in self._guis:
            connectors, observer = self._guis.pop(tag)
            for connector in connectors.values():
                connector.onChanged(None)
            self.RemoveObserver(observer)

    def _makeCallback(self, name: str, connector: GuiConnector) -> Any:
        def changed() -> None:
            if not self._showing:
                with slicer.util.NodeModify(self):
                    self.setValue(name, connector.read())

        return changed

    def _showValues(self) -> None:
        if self._showing:
            return
        self._showing = True
        try:
            with slicer.util.NodeModify(self):
                for connectors, _observer in list(self._guis.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._showing = False

    def StartModify(self) -> Any:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: Any) -> None:
        self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()
