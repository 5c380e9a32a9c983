"""Light and dark palettes, near to those of Slicer's own styles."""

from __future__ import annotations

from typing import Any

from PySide6 import QtGui, QtWidgets

Role = QtGui.QPalette.ColorRole
LIGHT = {
    Role.Window: "#efefef",
    Role.WindowText: "#000000",
    Role.Base: "#ffffff",
    Role.AlternateBase: "#f7f7f7",
    Role.Text: "#000000",
    Role.Button: "#e0e0e0",
    Role.ButtonText: "#000000",
    Role.Mid: "#b8b8b8",
    Role.ToolTipBase: "#ffffdc",
    Role.ToolTipText: "#000000",
    Role.PlaceholderText: "#7f7f7f",
    Role.Highlight: "#308cc6",
    Role.HighlightedText: "#ffffff",
    Role.Link: "#0057ae",
}
DARK = {
    Role.Window: "#353535",
    Role.WindowText: "#ffffff",
    Role.Base: "#232323",
    Role.AlternateBase: "#2d2d2d",
    Role.Text: "#ffffff",
    Role.Button: "#454545",
    Role.ButtonText: "#ffffff",
    Role.Mid: "#5a5a5a",
    Role.ToolTipBase: "#ffffdc",
    Role.ToolTipText: "#000000",
    Role.PlaceholderText: "#9a9a9a",
    Role.Highlight: "#2a82da",
    Role.HighlightedText: "#000000",
    Role.Link: "#5eb0ff",
}
DISABLED_TEXT = (Role.WindowText, Role.Text, Role.ButtonText)


def apply(app: Any, dark: bool) -> None:
    """Give the application the Fusion style with a light or dark palette."""
    app.setStyle("Fusion")
    palette = QtGui.QPalette()
    for role, color in (DARK if dark else LIGHT).items():
        palette.setColor(role, QtGui.QColor(color))
    for role in DISABLED_TEXT:
        palette.setColor(QtGui.QPalette.ColorGroup.Disabled, role, QtGui.QColor("#808080" if dark else "#9a9a9a"))
    QtWidgets.QApplication.setPalette(palette)
