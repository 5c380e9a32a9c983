"""Errors that a user can cause and cure: a code, one sentence, and a cure."""

from __future__ import annotations


class AutoFuseError(Exception):
    """An error that is shown to a user exactly as it stands here.

    Args:
        code: short, stable, kebab-case name, for instance ``image-not-3d``; listed in the README.
        text: one sentence that says what is wrong and names the value or file received.
        hint: one sentence that says what to do about it.
    """

    exit_code = 2

    def __init__(self, code: str, text: str, hint: str) -> None:
        super().__init__(f"{text} {hint}".strip())
        self.code = code
        self.text = text
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes whole; Exception alone would carry its message only."""
        return _rebuilt, (type(self), self.code, self.text, self.hint)


class InputError(AutoFuseError):
    """The images, labels, masks, points or options received cannot be used."""


class FileError(AutoFuseError):
    """A file or folder cannot be read or written."""


class ModelError(AutoFuseError):
    """A model is unknown, damaged, or does not fit the task."""


class DeviceError(AutoFuseError):
    """The requested device is absent, or its memory does not suffice."""


class CancelledError(AutoFuseError):
    """The user asked to stop; nothing was written under a final name."""

    exit_code = 130

    def __init__(self, text: str = "The run was cancelled; nothing was written.") -> None:
        super().__init__("cancelled", text, "")


def _rebuilt(kind: type[AutoFuseError], code: str, text: str, hint: str) -> AutoFuseError:
    error = kind.__new__(kind)
    AutoFuseError.__init__(error, code, text, hint)
    return error
