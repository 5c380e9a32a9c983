"""Stand-in of ``slicer.i18n``: texts pass through the application's translators, of which the host has none."""

from __future__ import annotations

import inspect
from pathlib import Path

import slicer


def translate(context: str, text: str) -> str:
    """The text in the application's language."""
    return slicer.app.translate(context, text)


def getContext(sourceFile: str) -> str:
    """Translation context of a Python file: its name, with the package's name in front if it stands in one."""
    path = Path(sourceFile)
    stem = path.name.removesuffix(".py")
    return f"{path.parent.name}.{stem}" if (path.parent / "__init__.py").is_file() else stem


def tr(text: str) -> str:
    """Translate in the context of the calling file; imported as ``_`` by modules."""
    caller = inspect.currentframe()
    fileName = caller.f_back.f_code.co_filename if caller is not None and caller.f_back is not None else ""
    return translate(getContext(fileName), text)
