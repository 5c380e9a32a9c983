"""How values stand in a vtkMRMLScriptedModuleNode: the same names and texts as Slicer's own serializers."""

from __future__ import annotations

import enum
import pathlib
import typing
from collections.abc import MutableSequence
from typing import Any

import slicer

from .annotations import IsInstance, NotNone, Validator, split

PATH_TYPES = (
    pathlib.Path,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    pathlib.PurePath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
)


class Serializer:
    """Writes one parameter as a text under its own name."""

    validators: list[Validator]

    def __init__(self, kind: Any, default: Any = None, validators: tuple = ()) -> None:
        self.kind = kind
        self._initial = default
        self.validators = list(validators)

    def initial(self) -> Any:
        """The value before one is set."""
        return self._initial

    def validate(self, value: Any) -> None:
        for validator in self.validators:
            validator.validate(value)

    def accepts(self, value: Any) -> bool:
        """Whether a union member takes the value."""
        return isinstance(value, self.kind) and not (isinstance(value, bool) and self.kind is not bool)

    def isIn(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        node.SetParameter(name, self.toText(value))

    def read(self, node: Any, name: str) -> Any:
        return self.fromText(node.GetParameter(name))

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)

    def toText(self, value: Any) -> str:
        return str(value)

    def fromText(self, text: str) -> Any:
        return self.kind(text)


class BoolSerializer(Serializer):
    def fromText(self, text: str) -> bool:
        return text == "True"


class EnumSerializer(Serializer):
    def toText(self, value: Any) -> str:
        return value.name

    def fromText(self, text: str) -> Any:
        if text not in self.kind.__members__:
            raise ValueError(f"Found {text!r} in parameter node but it is not a name in {self.kind!r}")
        return self.kind[text]


class NoneSerializer(Serializer):
    """None inside a union: only its presence is stored."""

    def accepts(self, value: Any) -> bool:
        return value is None

    def toText(self, value: Any) -> str:
        return "True"

    def fromText(self, text: str) -> None:
        return None


class NodeSerializer(Serializer):
    """A reference to a node; the empty text of the same name tells that it was set, even to None."""

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class UnionSerializer(Serializer):
    """One of several types: stored under ``name.<index of the type>``."""

    def __init__(self, members: list[Serializer]) -> None:
        optional = len(members) == 2 and isinstance(members[1], NoneSerializer)
        super().__init__(typing.Union, None if optional else members[0].initial())
        self.members = members

    def _current(self, node: Any, name: str) -> int | None:
        return next((i for i, member in enumerate(self.members) if member.isIn(node, f"{name}.{i}")), None)

    def isIn(self, node: Any, name: str) -> bool:
        return self._current(node, name) is not None

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        index = next((i for i, member in enumerate(self.members) if member.accepts(value)), None)
        if index is None:
            raise TypeError(f"Unable to write value '{value}' of type '{type(value)}'")
        self.members[index].validate(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            self.members[index].write(node, f"{name}.{index}", value)

    def read(self, node: Any, name: str) -> Any:
        index = self._current(node, name)
        if index is None:
            raise KeyError(f"Unable to find value for name: {name}")
        return self.members[index].read(node, f"{name}.{index}")

    def remove(self, node: Any, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index, member in enumerate(self.members):
                member.remove(node, f"{name}.{index}")


class ListSerializer(Serializer):
    """A list: ``name.len`` and ``name.<index>``."""

    def __init__(self, element: Serializer) -> None:
        super().__init__(list)
        self.element = element

    def initial(self) -> list:
        return []

    def isIn(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def write(self, node: Any, name: str, value: Any) -> None:
        items = list(value)
        for item in items:
            self.element.validate(item)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            for index, item in enumerate(items):
                self.element.write(node, f"{name}.{index}", item)
            node.SetParameter(f"{name}.len", str(len(items)))

    def read(self, node: Any, name: str) -> StoredList:
        count = int(node.GetParameter(f"{name}.len"))
        return StoredList(self, node, name, [self.element.read(node, f"{name}.{i}") for i in range(count)])

    def remove(self, node: Any, name: str) -> None:
        if self.isIn(node, name):
            for index in range(int(node.GetParameter(f"{name}.len"))):
                self.element.remove(node, f"{name}.{index}")
            node.UnsetParameter(f"{name}.len")


class StoredList(MutableSequence):
    """A list whose changes are written to the parameter node."""

    def __init__(self, serializer: ListSerializer, node: Any, name: str, items: list) -> None:
        self._serializer, self._node, self._name, self._items = serializer, node, name, items

    def _store(self) -> None:
        self._serializer.write(self._node, self._name, self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = value
        self._store()

    def __delitem__(self, index: Any) -> None:
        del self._items[index]
        self._store()

    def __len__(self) -> int:
        return len(self._items)

    def insert(self, index: int, value: Any) -> None:
        self._items.insert(index, value)
        self._store()

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, StoredList) else other)

    __hash__ = None

    def __repr__(self) -> str:
        return f"ObservedList({self._items})"


def createSerializer(annotatedType: Any) -> Serializer:
    """The serializer of a possibly annotated type.

    Raises:
        TypeError: if the host emulates no such type.
    """
    kind, annotations = split(annotatedType)
    serializer = _serializerOf(kind)
    serializer.validators += [annotation for annotation in annotations if isinstance(annotation, Validator)]
    return serializer


def _serializerOf(kind: Any) -> Serializer:
    if typing.get_origin(kind) is typing.Union:
        return UnionSerializer([createSerializer(member) for member in typing.get_args(kind)])
    if typing.get_origin(kind) is list:
        return ListSerializer(createSerializer(typing.get_args(kind)[0]))
    if kind is type(None):
        return NoneSerializer(kind)
    if kind in (int, float):
        return Serializer(kind, 0, (NotNone(), IsInstance((int, float) if kind is float else int)))
    if kind is str:
        return Serializer(str, "", (NotNone(), IsInstance(str)))
    if kind is bool:
        return BoolSerializer(bool, False, (NotNone(), IsInstance(bool)))
    if kind in PATH_TYPES:
        return Serializer(kind, kind(), (NotNone(), IsInstance(kind)))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return EnumSerializer(kind, next(iter(kind)), (IsInstance(kind),))
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeSerializer(kind, None, (IsInstance(kind),))
    raise TypeError(f"Unable to create serializer for type: {kind} (the test host emulates the usual types only)")
