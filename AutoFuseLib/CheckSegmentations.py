"""Segmentations of a result while a visual check is shown: outlines of the two that shall agree, the others hidden."""

from __future__ import annotations

from typing import Any

import slicer.util

from AutoFuseLib.HiddenNodes import inScene
from AutoFuseLib.ResultNodes import ResultNodes

_VALUES = ("Visibility", "Visibility2DFill", "Visibility2DOutline")


class CheckSegmentations:
    """Remembers how a result's segmentations were displayed, and brings that back."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, dict[str, Any]]] = []

    def show(self, result: ResultNodes, after: bool) -> None:
        """Outline the fixed segmentation and the one that shall lie on it: the warped or the moving one.

        Those that are hidden stay hidden. Nothing else of the scene is touched.
        """
        self.restore()
        partner = result.warpedSegmentation if after else result.movingSegmentation
        for node in (result.fixedSegmentation, result.movingSegmentation, result.warpedSegmentation):
            display = node.GetDisplayNode() if inScene(node) else None
            if display is None:
                continue
            self._before.append((display, {name: getattr(display, f"Get{name}")() for name in _VALUES}))
            with slicer.util.NodeModify(display):
                if node is result.fixedSegmentation or node is partner:
                    display.SetVisibility2DFill(False)
                    display.SetVisibility2DOutline(True)
                else:
                    display.SetVisibility(False)

    def restore(self) -> None:
        """Display the segmentations as before the first :meth:`show`."""
        for display, values in self._before:
            if inScene(display):
                with slicer.util.NodeModify(display):
                    for name, value in values.items():
                        getattr(display, f"Set{name}")(value)
        self._before.clear()
