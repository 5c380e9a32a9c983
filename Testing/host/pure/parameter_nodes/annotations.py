"""What ``Annotated`` types of a parameter node carry: defaults, validators, and hints for widgets."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any


class Default:
    """The first value of a parameter, given or made by ``generator`` each time."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value = value
        self._generator = generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator is not None else self._value


@dataclasses.dataclass
class Decimals:
    """Decimals of the widget that shows the number."""

    value: int


@dataclasses.dataclass
class SingleStep:
    """Step of the widget that shows the number."""

    value: float


class Validator:
    """Refuses values; ``validate`` raises ValueError."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError("validate is not implemented")


class NotNone(Validator):
    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")


class IsInstance(Validator):
    def __init__(self, classtype: Any) -> None:
        self.classtype = classtype

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type '{self.classtype}', is type '{type(value)}' value '{value}'")


class WithinRange(Validator):
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


class Maximum(Validator):
    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


class Choice(Validator):
    def __init__(self, choices: Any) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be in one of the following: {self.choices}")


class Exclude(Validator):
    def __init__(self, excludedValues: Any) -> None:
        self.excludedValues = excludedValues

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value is {value}, but must not be one of {self.excludedValues}")


def split(kind: Any) -> tuple[Any, tuple]:
    """A possibly annotated type as the type itself and its annotations; ``A | B`` becomes ``Union[A, B]``."""
    annotations: tuple = ()
    if typing.get_origin(kind) is typing.Annotated:
        kind, *rest = typing.get_args(kind)
        annotations = tuple(rest)
    if isinstance(kind, types.UnionType):
        kind = typing.Union[typing.get_args(kind)]  # noqa: UP007
    return kind, annotations


def first(annotations: tuple, kind: type) -> Any:
    """The first annotation of a class, None without one."""
    return next((annotation for annotation in annotations if isinstance(annotation, kind)), None)
