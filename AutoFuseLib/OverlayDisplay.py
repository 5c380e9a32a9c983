"""Shows a volume of figures (Jacobian, uncertainty, difference) in colours with a legend, and takes that back."""

from __future__ import annotations

from typing import Any

import slicer.util
from numpy.typing import NDArray

from AutoFuseLib.CheckColors import newColorTable, newLegend
from AutoFuseLib.HiddenNodes import inScene, removeNodes

_REMEMBERED = (
    "AutoWindowLevel",
    "Window",
    "Level",
    "Interpolate",
    "ApplyThreshold",
    "InvertDisplayScalarRange",
    "WindowMappingMethod",
)


class OverlayDisplay:
    """Colours and legend of one volume; :meth:`restore` gives it its own look back."""

    def __init__(
        self, volumeNode: Any, colors: NDArray, valueRange: tuple[float, float], title: str, labels: int, form: str
    ) -> None:
        """Colour a volume.

        Args:
            volumeNode: gets a display node if it has none.
            colors: (256, 3), from the lowest to the highest value.
            valueRange: values of the first and the last colour.
            title: of the legend.
            labels: numbers along the legend, evenly spaced, with both ends.
            form: of those numbers, as in C.
        """
        if volumeNode.GetDisplayNode() is None:
            volumeNode.CreateDefaultDisplayNodes()
        self._display = volumeNode.GetDisplayNode()
        self._before = {name: getattr(self._display, f"Get{name}")() for name in _REMEMBERED}
        self._colorBefore = self._display.GetColorNodeID()
        self._table = newColorTable(f"{title} colors", colors)
        display = self._display
        with slicer.util.NodeModify(display):
            display.SetAutoWindowLevel(False)
            display.SetAndObserveColorNodeID(self._table.GetID())
            display.SetWindowLevelMinMax(*valueRange)
            display.SetApplyThreshold(False)
            display.SetInvertDisplayScalarRange(False)
            display.SetWindowMappingMethod(0)
            display.SetInterpolate(True)
        self._legend = newLegend(display, title, labels, form)

    def refresh(self) -> None:
        """Call it when the layers of the views have changed: show the legend where the volume is shown."""
        self._legend.Modified()

    def restore(self) -> None:
        """Bring the volume's own look back and take the legend away; harmless after the volume is gone."""
        removeNodes(self._legend)
        display = self._display
        if inScene(display):
            with slicer.util.NodeModify(display):
                if self._colorBefore and display.GetScene().GetNodeByID(self._colorBefore):
                    display.SetAndObserveColorNodeID(self._colorBefore)
                for name, value in self._before.items():
                    getattr(display, f"Set{name}")(value)
        removeNodes(self._table)
