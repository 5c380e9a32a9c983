"""Volumes that the panel shows for a look: loaded in pieces, reused by the next look, removed with the panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import slicer
import slicer.util

from AutoFuseLib import Volumes
from AutoFuseLib.Steps import StepRunner, Steps

ATTRIBUTE = "AutoFuse.look"
Arrays = Mapping[str, tuple[Path, Any, str, bool]]
"""By role: file, 4x4 matrix ras_from_ijk, name of the node, whether it is a labelmap."""


class Pictures:
    """The nodes of one kind of look."""

    def __init__(self, kind: str) -> None:
        """
        Args:
            kind: tells these nodes from those of other looks.
        """
        self._kind = kind
        self._runner: StepRunner | None = None

    def load(
        self, arrays: Arrays, onDone: Callable[[dict[str, Any]], None], onError: Callable[[Exception], None]
    ) -> None:
        """Load arrays into nodes, in turns of the event loop.

        Args:
            arrays: what to load.
            onDone: receives the nodes by role.
            onError: receives what was raised.
        """
        self._stop()
        self._runner = StepRunner(self._loadSteps(arrays), onDone, onError)

    def showInViews(self, background: Any, foreground: Any = None, label: Any = None, opacity: float = 0.0) -> None:
        """Show nodes in the slice views, as large as they fit."""
        slicer.util.setSliceViewerLayers(
            background=background,
            foreground=foreground,
            label=label,
            foregroundOpacity=opacity,
            labelOpacity=0.5 if label is not None else 0.0,
            fit=True,
        )

    def forget(self) -> None:
        """The scene goes, and the nodes with it."""
        self._stop()

    def cleanup(self) -> None:
        """Remove the nodes."""
        self._stop()
        for node in self._nodes().values():
            slicer.mrmlScene.RemoveNode(node)

    def _loadSteps(self, arrays: Arrays) -> Steps[dict[str, Any]]:
        nodes, there = {}, self._nodes()
        for role, (path, place, name, isLabel) in arrays.items():
            node = there.pop(role, None)
            if node is None:
                kind = "vtkMRMLLabelMapVolumeNode" if isLabel else "vtkMRMLScalarVolumeNode"
                node = slicer.mrmlScene.AddNewNodeByClass(kind)
                node.SetAttribute(ATTRIBUTE, f"{self._kind}.{role}")
            yield from Volumes.importVolumeSteps(node, path, place)
            node.SetName(name)
            nodes[role] = node
        for node in there.values():
            slicer.mrmlScene.RemoveNode(node)
        return nodes

    def _nodes(self) -> dict[str, Any]:
        """The nodes of earlier looks by role."""
        found = {}
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            kind, _dot, role = (node.GetAttribute(ATTRIBUTE) or "").partition(".")
            if kind == self._kind:
                found[role] = node
        return found

    def _stop(self) -> None:
        if self._runner is not None:
            self._runner.stop()
            self._runner = None
