"""Combo boxes and path lines of the panel that show a text parameter, which Slicer's own connectors do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class TextBoxes:
    """Connects widgets to text parameters, in both directions."""

    def __init__(self) -> None:
        self._parameters: Any = None
        self._combos: dict[str, Any] = {}
        self._paths: dict[str, Any] = {}
        self._showing = False

    def addCombo(self, box: Any, name: str, texts: Mapping[str, str], chosen: Callable[[], None] | None = None) -> None:
        """A combo box.

        Args:
            box: the widget.
            name: of the parameter.
            texts: what the user reads, by the parameter's value.
            chosen: called after the user has chosen.
        """
        self._combos[name] = box
        self.fill(name, texts)

        def changed(index: int) -> None:
            if self._parameters is not None and not self._showing and index >= 0:
                setattr(self._parameters, name, box.itemData(index))
                if chosen is not None:
                    chosen()

        box.connect("currentIndexChanged(int)", changed)

    def addPath(self, edit: Any, name: str) -> None:
        """A line for a path.

        Args:
            edit: ctkPathLineEdit.
            name: of the parameter.
        """
        self._paths[name] = edit

        def changed(path: str) -> None:
            if self._parameters is not None and not self._showing:
                setattr(self._parameters, name, path)

        edit.connect("currentPathChanged(QString)", changed)

    def fill(self, name: str, texts: Mapping[str, str]) -> None:
        """Replace the entries of a combo box."""
        box = self._combos[name]
        wasBlocked = box.blockSignals(True)
        box.clear()
        for value, text in texts.items():
            box.addItem(text, value)
        box.blockSignals(wasBlocked)
        self.show()

    def setParameterNode(self, parameters: Any) -> None:
        """Show and change this node from now on; None between scenes."""
        self._parameters = parameters
        self.show()

    def show(self) -> None:
        """Let the widgets say what the parameters say."""
        if self._parameters is None or self._showing:
            return
        self._showing = True
        try:
            for name, box in self._combos.items():
                value = getattr(self._parameters, name)
                if box.findData(value) < 0:
                    box.addItem(value, value)  # of another computer or version
                box.setCurrentIndex(box.findData(value))
            for name, edit in self._paths.items():
                value = getattr(self._parameters, name)
                if edit.currentPath != value:
                    edit.currentPath = value
        finally:
            self._showing = False
