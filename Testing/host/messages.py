"""Records every message and dialog, answers those that ask, and never lets one wait for a user."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import slicer
import slicer.util
from PySide6 import QtWidgets

from Testing.host import pythonqt
from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import ctk, declare
from Testing.host.standin import state, stored

Button = QtWidgets.QMessageBox.StandardButton
YES_BUTTONS = (Button.Ok, Button.Yes, Button.Retry, Button.Save, Button.Open)
NO_BUTTONS = (Button.Cancel, Button.No, Button.Close, Button.Abort)


class UnexpectedDialog(RuntimeError):
    """A dialog asked something that the test has no answer for."""


@dataclass
class Message:
    """One message or question: its kind (error, warning, info, okCancel, dialog, file, input, ...) and its text."""

    kind: str
    text: str
    title: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class Messages(list):
    """All messages of one test in order, and the answers that wait for the next questions."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: deque[Any] = deque()

    def answer(self, *values: Any) -> None:
        """Queue answers: True or False for a choice, text for a path or input, or a function of the shown dialog."""
        self.answers.extend(values)

    def ofKind(self, kind: str) -> list[Message]:
        return [message for message in self if message.kind == kind]

    def texts(self) -> list[str]:
        return [message.text for message in self]

    def nextAnswer(self, question: str) -> Any:
        if not self.answers:
            raise UnexpectedDialog(f"A dialog asked without a queued answer, see host.messages.answer(): {question}")
        return self.answers.popleft()


current = Messages()
"""The messages of the running test."""


_insideDisplay = [0]
"""Depth of nested displays: one message box is recorded once."""


def startRecording() -> Messages:
    """A new record for a new test."""
    global current
    current = Messages()
    return current


@declare(ctk)
class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box with a check box "don't show again"."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d = state(dontShowAgain=False, dontShowAgainSettingsKey="", dontShowAgainVisible=False)

    def setDontShowAgain(self, dontShow: bool) -> None:
        self._d.dontShowAgain = dontShow

    dontShowAgain = qtProperty(bool, lambda self: self._d.dontShowAgain, setDontShowAgain)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey")
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible")


def install() -> None:
    """Wrap ``slicer.util``'s displays and Qt's modal dialogs; call once."""
    if hasattr(slicer.util, "_hostRecords"):
        return
    slicer.util._hostRecords = True
    kinds = {
        "infoDisplay": "info",
        "warningDisplay": "warning",
        "errorDisplay": "error",
        "confirmOkCancelDisplay": "okCancel",
        "confirmYesNoDisplay": "yesNo",
        "confirmRetryCloseDisplay": "retryClose",
        "messageBox": "messageBox",
    }
    for name, kind in kinds.items():
        setattr(slicer.util, name, _recording(getattr(slicer.util, name), kind))
    slicer.util.delayDisplay = _delayDisplay
    slicer.util.showStatusMessage = _statusMessage(slicer.util.showStatusMessage)
    dialog, box, files = QtWidgets.QDialog, QtWidgets.QMessageBox, QtWidgets.QFileDialog
    for name in ("exec", "exec_"):
        setattr(dialog, name, _execute)
        for cls in (box, QtWidgets.QFileDialog, QtWidgets.QInputDialog, QtWidgets.QProgressDialog):
            if name in vars(cls):
                setattr(cls, name, _execute)
        setattr(QtWidgets.QMenu, name, lambda self, *_: _ask("menu", self.title, {}))
    for name in ("question", "information", "warning", "critical", "about"):
        setattr(box, name, staticmethod(_boxFunction(name)))
    for name in ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory"):
        setattr(files, name, staticmethod(_pathFunction(name)))
    for name in ("getText", "getInt", "getDouble", "getItem", "getMultiLineText"):
        setattr(QtWidgets.QInputDialog, name, staticmethod(_inputFunction(name)))
    QtWidgets.QColorDialog.getColor = staticmethod(lambda *arguments: _ask("color", "color", {}))


def _recording(original: Callable, kind: str) -> Callable:
    def display(text: str, *arguments: Any, **options: Any) -> Any:
        if not _insideDisplay[0]:
            title = options.get("windowTitle") or (arguments[0] if arguments and isinstance(arguments[0], str) else "")
            current.append(Message(kind, text, title, options))
        _insideDisplay[0] += 1
        try:
            return original(text, *arguments, **options)
        finally:
            _insideDisplay[0] -= 1

    return display


def _delayDisplay(message: str, autoCloseMsec: int = 1000, parent: Any = None, **_options: Any) -> None:
    """``slicer.util.delayDisplay`` without the delay."""
    if not _insideDisplay[0]:
        current.append(Message("delay", message, details={"autoCloseMsec": autoCloseMsec}))
    slicer.app.processEvents()


def _statusMessage(original: Callable) -> Callable:
    def show(message: str, duration: int = 0) -> Any:
        current.append(Message("status", message))
        return original(message, duration)

    return show


# ------------------------------------------------------------------------------------------------- Qt's dialogs


def _ask(kind: str, text: str, details: dict[str, Any]) -> Any:
    current.append(Message(kind, text, details=details))
    return current.nextAnswer(f"{kind} '{text}'")


def _execute(self: Any, *_arguments: Any) -> int:
    """``dialog.exec_()``: the queued answer decides, or acts on the shown dialog."""
    isBox = pythonqt.derives(self, QtWidgets.QMessageBox)
    text = self.text if isBox else self.windowTitle
    if not _insideDisplay[0]:
        current.append(Message("dialog", text, self.windowTitle))
    if isBox and len(_choices(self)) < 2 and not (current.answers and callable(current.answers[0])):
        return int(Button.Ok)  # nothing to decide: the answers wait for a question
    answer = current.nextAnswer(f"dialog '{text}'")
    if callable(answer):
        self.show()
        slicer.app.processEvents()
        answer(self)
        result = _clicked(self) if isBox else QtWidgets.QDialog.result(self)
        self.hide()
        return result
    if not isBox:
        (self.accept if answer else self.reject)()
        return QtWidgets.QDialog.result(self)
    return _chosen(self, answer)


def _choices(box: Any) -> list:
    """The buttons that end the dialog; "Show details" does not."""
    return [button for button in box.buttons() if box.buttonRole(button) != QtWidgets.QMessageBox.ButtonRole.ActionRole]


def _clicked(box: Any) -> int:
    button = box.clickedButton()
    return int(box.standardButton(button)) if button is not None else int(Button.Cancel)


def _chosen(box: Any, answer: Any) -> int:
    """A standard button for True and False, or the named or given one."""
    buttons = {int(box.standardButton(button)): button for button in box.buttons()}
    if isinstance(answer, bool):
        wanted = YES_BUTTONS if answer else NO_BUTTONS
        answer = next((int(button) for button in wanted if int(button) in buttons), None)
    if isinstance(answer, str):
        named = [button for button in box.buttons() if button.text.replace("&", "") == answer]
        if named:
            named[0].click()
            return _clicked(box)
        answer = None
    if answer is None or int(answer) not in buttons:
        raise UnexpectedDialog(f"The message box '{box.text}' has no button for the queued answer.")
    return int(answer)


def _boxFunction(name: str) -> Callable:
    def show(parent: Any, title: str, text: str, buttons: int = Button.Ok, default: int = 0) -> int:
        box = QtWidgets.QMessageBox()
        box.windowTitle, box.text = title, text
        box.setStandardButtons(QtWidgets.QMessageBox.StandardButton(int(buttons)))
        current.append(Message("dialog", text, title, {"function": name}))
        return int(Button.Ok) if len(_choices(box)) < 2 else _chosen(box, current.nextAnswer(text))

    return show


def _pathFunction(name: str) -> Callable:
    def choose(parent: Any = None, caption: str = "", directory: str = "", *more: Any) -> Any:
        answer = _ask("file", caption, {"function": name, "directory": directory, "more": more})
        return tuple(str(path) for path in answer) if name == "getOpenFileNames" else str(answer)

    return choose


def _inputFunction(name: str) -> Callable:
    def enter(parent: Any, title: str, label: str, *more: Any) -> Any:
        return _ask("input", label, {"function": name, "title": title, "more": more})

    return enter
