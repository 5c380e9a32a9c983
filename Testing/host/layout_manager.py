"""Stand-in of Slicer's layout manager over the real vtkMRMLLayoutLogic."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore

from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import declare
from Testing.host.signals import cppSignal
from Testing.host.standin import state
from Testing.host.views import disposeView, qMRMLSliceWidget, qMRMLThreeDWidget


@declare(slicer)
class qSlicerLayoutManager(QtCore.QObject):
    """Slice and 3D widgets of the views in the current layout; they are made when they are first asked for."""

    layoutChanged = cppSignal("int")

    def __init__(self, context: Any) -> None:
        super().__init__()
        self._d = state(context=context, slices={}, threeDs={}, paused=0)

    def mrmlScene(self) -> Any:
        return self._d.context.scene

    def layoutLogic(self) -> Any:
        return self._d.context.layoutLogic

    def mrmlSliceLogics(self) -> Any:
        return self._d.context.applicationLogic.GetSliceLogics()

    def mrmlViewLogics(self) -> Any:
        return self._d.context.applicationLogic.GetViewLogics()

    def mrmlColorLogic(self) -> Any:
        return self._d.context.applicationLogic.GetColorLogic()

    def _names(self, kind: str) -> list[str]:
        nodes = self.layoutLogic().GetViewNodes()
        every = [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]
        return [node.GetLayoutName() for node in every if node.IsA(kind)]

    def sliceViewNames(self) -> tuple:
        return tuple(self._names("vtkMRMLSliceNode"))

    def sliceWidget(self, name: str) -> Any:
        self._d.context.update()
        logic = self._d.context.sliceLogics.get(name)
        if logic is not None and name not in self._d.slices:
            self._d.slices[name] = qMRMLSliceWidget(logic)
        return self._d.slices.get(name)

    def threeDWidget(self, which: Any) -> Any:
        names = self._names("vtkMRMLViewNode")
        name = which if isinstance(which, str) else (names[which] if 0 <= which < len(names) else "")
        node = self._d.context.viewNode(name)
        if node is not None and name not in self._d.threeDs:
            self._d.threeDs[name] = qMRMLThreeDWidget(node)
        return self._d.threeDs.get(name)

    def activeMRMLThreeDViewNode(self) -> Any:
        widget = self.threeDWidget(0)
        return widget.mrmlViewNode() if widget is not None else None

    def setLayout(self, layout: int) -> None:
        node = self.layoutLogic().GetLayoutNode()
        if node.GetViewArrangement() != layout:
            node.SetViewArrangement(layout)
            self._d.context.update()
            self.layoutChanged.emit(layout)

    def resetSliceViews(self) -> None:
        self._d.context.update()
        for name in self.sliceViewNames():
            self._d.context.sliceLogics[name].FitSliceToBackground()

    def resetThreeDViews(self) -> None:
        for index in range(self.threeDViewCount):
            self.threeDWidget(index).threeDView().resetFocalPoint()

    def setRenderPaused(self, pause: bool) -> None:
        self._d.paused = max(0, self._d.paused + (1 if pause else -1))

    def pauseRender(self) -> None:
        self.setRenderPaused(True)

    def resumeRender(self) -> None:
        self.setRenderPaused(False)

    layout = qtProperty(
        int, lambda self: self.layoutLogic().GetLayoutNode().GetViewArrangement(), lambda self, v: self.setLayout(v)
    )
    threeDViewCount = qtProperty(int, lambda self: len(self._names("vtkMRMLViewNode")))
    tableViewCount = qtProperty(int, lambda self: 0)
    plotViewCount = qtProperty(int, lambda self: 0)


def disposeViews(manager: Any) -> None:
    """Free the windows of a layout manager whose scene goes."""
    for widget in (*manager._d.slices.values(), *manager._d.threeDs.values()):
        disposeView(widget)
    manager._d.slices.clear()
    manager._d.threeDs.clear()
