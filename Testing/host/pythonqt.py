"""Makes PySide6 classes behave as PythonQt's wrappers do: properties are attributes, unknown attributes are refused.

The rules follow PythonQt's ``PythonQtInstanceWrapper`` (attribute access) and ``PythonQtConv`` (conversion of values);
they hold for every Qt class of the process, so importing this file is for test processes only.
"""

from __future__ import annotations

import enum
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from shiboken6 import Shiboken

QT_MODULES = (QtWidgets, QtGui, QtCore, QtUiTools)
ShibokenObject = Shiboken.Object
_readProperty = QtCore.QObject.property
_writeProperty = QtCore.QObject.setProperty
_classes: set[type] = set()
_interceptors: dict[str, Callable] = {}
_absent: dict[str, set[str]] = {}


class QtProperty:
    """A Qt property as an attribute; on the class the method of the same name stays reachable."""

    def __init__(self, name: str, method: Any) -> None:
        self.name = name
        self.method = method

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self if self.method is None else self.method.__get__(None, owner)
        if self.method is None:
            return asPythonQt(_readProperty(instance, self.name))
        return asPythonQt(self.method.__get__(instance, owner)())

    def __set__(self, instance: Any, value: Any) -> None:
        setQtProperty(instance, self.name, value)


def install(makeSignal: Callable[[str], Any], interceptors: dict[str, Callable], absent: dict[str, set[str]]) -> None:
    """Change all classes of PySide6 once.

    Args:
        makeSignal: gives the descriptor that replaces a signal of that name.
        interceptors: methods that PySide6 resolves itself and that must be replaced on every instance.
        absent: names of members that Slicer's Qt does not have, each with its classes.
    """
    if _classes:
        return
    _interceptors.update(interceptors)
    _absent.update(absent)
    _classes.update(_wrappedClasses())
    for cls in _classes:
        _patchMembers(cls, makeSignal)
        cls.__setattr__ = writeAttribute
        if issubclass(cls, QtCore.QObject) and "__getattribute__" in cls.__dict__:
            cls.__getattribute__ = _intercepting(cls.__dict__["__getattribute__"])
    QtCore.QObject.name = QtProperty("objectName", QtCore.QObject.__dict__["objectName"].method)
    type(QtCore.QObject).__instancecheck__ = _isInstance


def registerCppClass(cls: type) -> type:
    """Let a Python class count as a C++ class: it accepts no new attributes from outside."""
    _classes.add(cls)
    return cls


def cppClassOf(kind: type) -> type | None:
    """The most derived class of ``kind`` that stands for a C++ class."""
    return next((cls for cls in kind.__mro__ if cls in _classes), None)


def className(instance: Any) -> str:
    """Name of the C++ class of an object."""
    cls = cppClassOf(type(instance))
    return (cls or type(instance)).__name__


def _wrappedClasses() -> Iterator[type]:
    for module in QT_MODULES:
        for name in dir(module):
            value = getattr(module, name)  # PySide6 makes its classes on demand
            if isinstance(value, type) and issubclass(value, ShibokenObject):
                yield value


def _patchMembers(cls: type, makeSignal: Callable[[str], Any]) -> None:
    for name, value in list(cls.__dict__.items()):
        if type(value).__name__ == "Signal":
            setattr(cls, name, makeSignal(name))
    meta = getattr(cls, "staticMetaObject", None)
    if meta is None or not issubclass(cls, QtCore.QObject):
        return
    for index in range(meta.propertyCount()):
        name = meta.property(index).name()
        if name == "singleShot" and issubclass(cls, QtCore.QTimer):
            continue  # PythonQt keeps the static function there
        own = cls.__dict__.get(name)
        if callable(own) or isinstance(own, staticmethod) or (own is None and index >= meta.propertyOffset()):
            setattr(cls, name, QtProperty(name, own))


def _intercepting(original: Callable) -> Callable:
    def __getattribute__(self: Any, name: str) -> Any:
        if name in _interceptors:
            return _interceptors[name].__get__(self)
        if name in _absent and any(cls.__name__ in _absent[name] for cls in type(self).__mro__):
            raise AttributeError(f"{className(self)} has no attribute named '{name}' before Qt 6")
        try:
            return original(self, name)
        except AttributeError:
            return readMissingAttribute(self, name)  # not as __getattr__: PySide6 makes Python forget that one at times

    return __getattribute__


def _isInstance(cls: type, instance: Any) -> bool:
    """PythonQt's classes have no Python base classes: a QPushButton is no instance of qt.QWidget."""
    if cls in _classes and (own := cppClassOf(type(instance))) is not None:
        return own is cls
    return type.__instancecheck__(cls, instance)


def derives(instance: Any, cls: type) -> bool:
    """Whether the object inherits the class in C++; ``isinstance`` does not say so under PythonQt."""
    return cls in type(instance).__mro__


# ------------------------------------------------------------------------------------------------- attributes


def memberKind(kind: type, name: str) -> str | None:
    """What a name is on the C++ side: Property, Signal, Slot, EnumValue, Enum, or nothing at all."""
    if name.startswith("_"):
        return None
    if name == "name" and issubclass(kind, QtCore.QObject):
        return "Property"
    for cls in kind.__mro__:
        if (cls not in _classes and cls is not ShibokenObject) or name not in cls.__dict__:
            continue
        value = cls.__dict__[name]
        if isinstance(value, (QtProperty, QtCore.Property)):
            return "Property"
        if getattr(value, "isCppSignal", False):
            return "Signal"
        if isinstance(value, enum.Enum):
            return "EnumValue"
        if isinstance(value, type):
            return "Enum" if issubclass(value, enum.Enum) else "Nested class"
        return "Slot" if callable(value) or isinstance(value, (staticmethod, classmethod)) else "EnumValue"
    return None


def writeAttribute(self: Any, name: str, value: Any) -> None:
    """``instance.name = value`` by PythonQt's rules; ``_d`` is where stand-ins keep their state."""
    kind = type(self)
    member = memberKind(kind, name)
    if member == "Property":
        setQtProperty(self, "objectName" if name == "name" else name, value)
    elif member is not None:
        raise AttributeError(f"{member} '{name}' can not be overwritten on {className(self)} object")
    elif derives(self, QtCore.QObject) and name.encode() in _dynamicProperties(self):
        _writeProperty(self, name, value)
    elif kind in _classes and name != "_d":
        raise AttributeError(
            f"'{name}' does not exist on {className(self)} and creating new attributes on C++ objects is not allowed"
        )
    else:
        _writePython(self, kind, name, value)


def _writePython(self: Any, kind: type, name: str, value: Any) -> None:
    for cls in kind.__mro__:
        if name in cls.__dict__:
            descriptor = cls.__dict__[name]
            if hasattr(type(descriptor), "__set__"):
                descriptor.__set__(self, value)
                return
            break
    self.__dict__[name] = value


def readMissingAttribute(self: Any, name: str) -> Any:
    """What PythonQt tries last: a dynamic property, then a child of that name."""
    if not name.startswith("__"):
        if name.encode() in _dynamicProperties(self):
            return asPythonQt(_readProperty(self, name))
        for child in QtCore.QObject.children(self):
            if child.objectName == name:
                return child
    raise AttributeError(f"{className(self)} has no attribute named '{name}'")


def _dynamicProperties(self: Any) -> list[bytes]:
    return [bytes(name.data()) for name in QtCore.QObject.dynamicPropertyNames(self)]


# ------------------------------------------------------------------------------------------------- conversions


def asPythonQt(value: Any) -> Any:
    """Lists of Qt arrive as tuples."""
    return tuple(value) if isinstance(value, list) else value


def setQtProperty(instance: Any, name: str, value: Any) -> None:
    """Write a property with PythonQt's conversions.

    Raises:
        AttributeError: if the property is read-only or does not accept the value.
    """
    own = _standInProperty(type(instance), name)
    described = None if own is not None else _describedProperty(instance, name)
    typeName = _typeNames[own] if own is not None else described.typeName()
    if (own.fset is None) if own is not None else (not described.isWritable()):
        raise AttributeError(f"Property '{name}' of {className(instance)} object is not writable")
    try:
        converted = convert(typeName, value)
        if own is not None:
            own.fset(instance, converted)  # directly: an exception inside Qt's own way would end the process
            return
        accepted = _writeProperty(instance, name, converted)
    except (TypeError, ValueError, OverflowError):
        accepted = False
    if not accepted:
        raise AttributeError(
            f"Property '{name}' of type '{typeName}' does not accept an object of type {type(value).__name__} ({value})"
        )


_typeNames: dict[QtCore.Property, str] = {}
_TYPE_NAMES = {str: "QString", float: "double", bool: "bool", int: "int"}


def qtProperty(kind: Any, read: Callable, write: Callable | None = None) -> QtCore.Property:
    """The Qt property of a stand-in."""
    made = QtCore.Property(kind, read, write) if write is not None else QtCore.Property(kind, read)
    _typeNames[made] = kind if isinstance(kind, str) else _TYPE_NAMES.get(kind, kind.__name__)
    return made


def metaObjectOf(instance: Any) -> QtCore.QMetaObject:
    """Qt's description of the object's class of Qt.

    Not ``instance.metaObject()``: PySide6 makes and frees that of a Python class with the class, and a later one at the
    same address then counts as deleted.
    """
    kind = next(cls for cls in type(instance).__mro__ if cls in _classes and cls.__module__.startswith("PySide6"))
    return kind.staticMetaObject


def _describedProperty(instance: Any, name: str) -> QtCore.QMetaProperty:
    meta = metaObjectOf(instance)
    return meta.property(meta.indexOfProperty(name))


def _standInProperty(kind: type, name: str) -> QtCore.Property | None:
    member = next((cls.__dict__[name] for cls in kind.__mro__ if name in cls.__dict__), None)
    return member if isinstance(member, QtCore.Property) else None


def convert(typeName: str, value: Any) -> Any:
    """A Python value as PythonQt hands it to a property of that C++ type."""
    if isinstance(value, enum.Enum) and isinstance(value, int):
        return int(value)
    if typeName == "QString":
        return value if isinstance(value, str) else str(value)
    if typeName == "bool":
        return bool(value)
    if typeName in ("int", "uint", "qlonglong", "qulonglong"):
        return math.floor(value) if isinstance(value, float) else operator.index(value)
    if typeName in ("double", "float"):
        return float(operator.index(value)) if isinstance(value, str) else float(value)
    if typeName == "QStringList":
        return [str(item) for item in value]
    if value is None:
        raise TypeError(f"None is no {typeName}")
    return value
