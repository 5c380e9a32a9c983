"""Signals as PythonQt has them: ``connect`` gives True or False, and callables get as many arguments as they take."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6 import QtCore
from shiboken6 import Shiboken

from Testing.host import pythonqt

_qtConnect = QtCore.QObject.connect
_qtDisconnect = QtCore.QObject.disconnect


@dataclass(eq=False)
class Link:
    """One connection: the callable, and Qt's own connection when the sender is a class of Qt."""

    signature: str
    function: Any
    connection: Any = None


_links: dict[int, list[Link]] = {}


class SignalMember:
    """Class attribute of a signal: the signatures come from Qt's meta-object, or from the stand-in's declaration."""

    isCppSignal = True

    def __init__(self, name: str = "", signatures: tuple[str, ...] = ()) -> None:
        self.name = name
        self.signatures = signatures

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        signature = signaturesOf(instance, self.name)[0]
        return BoundSignal(instance, signature)


def cppSignal(*parameters: str) -> SignalMember:
    """Declare the signal of a stand-in by its C++ parameter lists, one for each overload: ``cppSignal("int")``."""
    return SignalMember(signatures=parameters or ("",))


class BoundSignal:
    """``widget.clicked``: connect, disconnect, emit."""

    def __init__(self, sender: Any, signature: str) -> None:
        self._sender = sender
        self._signature = signature

    def connect(self, function: Callable) -> bool:
        return connectFunction(self._sender, self._signature, function)

    def disconnect(self, *function: Callable) -> bool:
        return disconnectFunction(self._sender, self._signature, *function)

    def emit(self, *arguments: Any) -> None:
        emitSignal(self._sender, self._signature, *arguments)

    __call__ = emit

    def __repr__(self) -> str:
        return f"<qt signal {self._signature} of {pythonqt.className(self._sender)} instance>"


def normalized(signature: str) -> str:
    """A signature as Qt compares it: ``finished( int )`` is ``finished(int)``, the leading code digit goes."""
    text = signature[1:] if signature[:1].isdigit() else signature
    return bytes(QtCore.QMetaObject.normalizedSignature(text).data()).decode()


def standInSignatures(sender: Any) -> dict[str, str]:
    """Signatures that the object's stand-in classes declare, each with the name of its signal."""
    found: dict[str, str] = {}
    for cls in type(sender).__mro__:
        for name, value in vars(cls).items():
            if isinstance(value, SignalMember) and value.signatures:
                found.update({normalized(f"{name}({parameters})"): name for parameters in value.signatures})
    return found


def signaturesOf(sender: Any, name: str) -> list[str]:
    """All overloads of a signal, the one with all arguments first."""
    declared = [signature for signature, owner in standInSignatures(sender).items() if owner == name]
    if declared:
        return declared
    meta = pythonqt.metaObjectOf(sender)
    methods = [meta.method(index) for index in range(meta.methodCount())]
    texts = [bytes(method.methodSignature().data()).decode() for method in methods]
    return [text for text in texts if text.startswith(name + "(") and meta.indexOfSignal(text) >= 0]


def signalExists(sender: Any, signature: str) -> bool:
    """Whether the object has a signal of exactly this signature."""
    text = normalized(signature)
    return text in standInSignatures(sender) or pythonqt.metaObjectOf(sender).indexOfSignal(text) >= 0


def connectFunction(sender: Any, signature: str, function: Callable) -> bool:
    """Connect a callable, which is kept alive; False where the signal does not exist."""
    text = normalized(signature)
    if not signalExists(sender, text):
        print(
            f"PythonQt: QObject::connect() signal '{text}' does not exist on {pythonqt.className(sender)}",
            file=sys.stderr,
        )
        return False
    link = Link(text, function)
    if text not in standInSignatures(sender):
        link.connection = _qtConnect(sender, QtCore.SIGNAL(text), lambda *arguments: deliver(function, arguments))
    _linksOf(sender).append(link)
    return True


def disconnectFunction(sender: Any, signature: str, *function: Callable) -> bool:
    """Undo the first connection of the callable, or all connections of the signal; False where there is none."""
    text = normalized(signature)
    links = _linksOf(sender)
    chosen = [link for link in links if link.signature == text and (not function or link.function == function[0])]
    for link in chosen[:1] if function else chosen:
        links.remove(link)
        if link.connection is not None:
            _qtDisconnect(link.connection)
    return bool(chosen)


def disconnectAll(sender: Any) -> None:
    """Undo all connections of an object that outlives the tests."""
    for signature in {link.signature for link in _linksOf(sender)}:
        disconnectFunction(sender, signature)


def emitSignal(sender: Any, signature: str, *arguments: Any) -> None:
    """Emit one overload of a signal."""
    text = normalized(signature)
    if text not in standInSignatures(sender):
        _emitQt(sender, text, arguments)
        return
    if QtCore.QObject.signalsBlocked(sender):
        return
    links = _linksOf(sender)
    for link in [link for link in links if link.signature == text]:
        if link in links:
            deliver(link.function, arguments)


def _emitQt(sender: Any, signature: str, arguments: tuple) -> None:
    emit = getattr(QtCore.QObject, "emit", None)
    if emit is None or not emit(sender, QtCore.SIGNAL(signature), *arguments):
        raise TypeError(f"{signature} of {pythonqt.className(sender)} does not accept {arguments}")


def _linksOf(sender: Any) -> list[Link]:
    address = Shiboken.getCppPointer(sender)[0]
    if address not in _links:
        _links[address] = []
        _qtConnect(sender, QtCore.SIGNAL("destroyed()"), lambda: _links.pop(address, None))
    return _links[address]


# ------------------------------------------------------------------------------------------------- calling slots


def acceptedArguments(function: Any) -> int | None:
    """How many arguments PythonQt passes: those of the Python function; None (all) for any other callable."""
    bound = isinstance(function, types.MethodType)
    plain = function.__func__ if bound else function
    if not isinstance(plain, types.FunctionType) or plain.__code__.co_flags & 0x04:
        return None
    return plain.__code__.co_argcount - bound


def deliver(function: Callable, arguments: tuple) -> None:
    """Call a slot; what it raises goes to ``sys.excepthook``, as PythonQt does it, and not to the sender."""
    try:
        function(*arguments[: acceptedArguments(function)])
    except BaseException:
        sys.excepthook(*sys.exc_info())


# ------------------------------------------------------------------------------------------------- QObject.connect


def connect(self: Any, signal: str, *target: Any) -> bool:
    """``sender.connect("clicked(bool)", function)`` or ``sender.connect("clicked(bool)", receiver, "slot(bool)")``."""
    if len(target) == 1:
        return connectFunction(self, signal, target[0])
    function = slotFunction(target[0], target[1])
    return function is not None and connectFunction(self, signal, function)


def disconnect(self: Any, signal: str, *target: Any) -> bool:
    """The opposite of ``connect``; without a target all connections of the signal go."""
    return disconnectFunction(self, signal, *([_Slot(*target)] if len(target) == 2 else target))


def slotFunction(receiver: Any, slot: str) -> Callable | None:
    """A slot or signal named by its signature as a callable, None if the receiver has none of that name."""
    name = re.split(r"[(\s]", normalized(slot))[0]
    if pythonqt.memberKind(type(receiver), name) not in ("Slot", "Signal"):
        print(f"QObject::connect: No such slot {pythonqt.className(receiver)}::{slot}", file=sys.stderr)
        return None
    return _Slot(receiver, slot)


class _Slot:
    """Calls a slot of a receiver with the arguments that its signature takes; equal for equal receiver and slot."""

    def __init__(self, receiver: Any, slot: str) -> None:
        text = normalized(slot)
        self.key = (Shiboken.getCppPointer(receiver)[0], text)
        self.receiver = receiver
        self.name, parameters = text.rstrip(")").split("(")
        self.count = len(parameters.split(",")) if parameters else 0

    def __call__(self, *arguments: Any) -> None:
        if Shiboken.isValid(self.receiver):
            getattr(self.receiver, self.name)(*arguments[: self.count])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Slot) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)
