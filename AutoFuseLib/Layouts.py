"""What the views showed before a visual check, and how to bring it back: layout, layers, slice planes, cameras."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import slicer
import slicer.util
import vtk

from AutoFuseLib.HiddenNodes import inScene

_CORNER_DEGREES = (35.0, 25.0)
_LAYER_VALUES = (
    "BackgroundVolumeID",
    "ForegroundVolumeID",
    "LabelVolumeID",
    "ForegroundOpacity",
    "LabelOpacity",
    "Compositing",
    "ClipToBackgroundVolume",
)


@dataclass(frozen=True, eq=False)
class SliceView:
    """One slice view of the layout: its plane, its layers, and the logic that fits the one to the other."""

    node: Any
    composite: Any
    logic: Any

    def shows(self, volumeNodes: tuple[Any, ...]) -> bool:
        """Whether one of the volumes is its background or foreground."""
        ids = {node.GetID() for node in volumeNodes if inScene(node)}
        return bool(ids & {self.composite.GetBackgroundVolumeID(), self.composite.GetForegroundVolumeID()})

    def setLayers(self, background: Any, foreground: Any, opacity: float) -> None:
        """Show a volume, and another one (or None) on top of it; no label layer."""
        composite = self.composite
        with slicer.util.NodeModify(composite):
            composite.SetBackgroundVolumeID(background.GetID())
            composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
            composite.SetLabelVolumeID(None)
            composite.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Alpha)
            composite.SetForegroundOpacity(opacity)


def sliceViews() -> list[SliceView]:
    """The slice views of the current layout."""
    manager = slicer.app.layoutManager()
    views: list[SliceView] = []
    for node in _viewNodes("vtkMRMLSliceNode"):
        widget = manager.sliceWidget(node.GetLayoutName())
        if widget is not None:
            logic = widget.sliceLogic()
            views.append(SliceView(node, logic.GetSliceCompositeNode(), logic))
    return views


def threeDViews() -> list[Any]:
    """The 3D view widgets of the current layout."""
    manager = slicer.app.layoutManager()
    count = manager.threeDViewCount
    shown = {node.GetID() for node in _viewNodes("vtkMRMLViewNode")}
    widgets = [manager.threeDWidget(index) for index in range(count)]
    return [widget for widget in widgets if widget is not None and widget.mrmlViewNode().GetID() in shown]


def _viewNodes(className: str) -> Iterator[Any]:
    nodes = slicer.app.layoutManager().layoutLogic().GetViewNodes()
    for index in range(nodes.GetNumberOfItems()):
        node = nodes.GetItemAsObject(index)
        if node is not None and node.IsA(className):
            yield node


@dataclass
class ViewMemory:
    """How the views were before a check; :meth:`restore` brings that back.

    A layout that the user has chosen meanwhile stays. Planes and cameras are remembered by :meth:`keepPlane` and
    :meth:`keepCamera` before they are changed: those that a check leaves alone stay where the user moves them.
    """

    _layout: int | None = None
    _layers: dict[str, tuple[Any, dict[str, Any]]] = field(default_factory=dict)
    _visible: dict[str, tuple[Any, int]] = field(default_factory=dict)
    _undo: list[Callable[[], None]] = field(default_factory=list)

    def showSlices(self) -> list[SliceView]:
        """The slice views of the layout; a layout without any is changed to four-up, and back by :meth:`restore`.

        Their layers are remembered, when they are seen for the first time.
        """
        manager = slicer.app.layoutManager()
        self._keepLayers()
        views = sliceViews()
        if not views:
            self._layout = manager.layout
            manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
            self._keepLayers()
            views = sliceViews()
        return views

    def _keepLayers(self) -> None:
        for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            values = {name: getattr(node, f"Get{name}")() for name in _LAYER_VALUES}
            self._layers.setdefault(node.GetID(), (node, values))
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            self._visible.setdefault(node.GetID(), (node, node.GetSliceVisible()))

    def keepPlane(self, view: SliceView) -> None:
        """Remember where a slice view looks."""
        node, matrix = view.node, vtk.vtkMatrix4x4()
        matrix.DeepCopy(node.GetSliceToRAS())
        size, origin = tuple(node.GetFieldOfView()), tuple(node.GetXYZOrigin())

        def undo() -> None:
            if inScene(node):
                with slicer.util.NodeModify(node):
                    node.GetSliceToRAS().DeepCopy(matrix)
                    node.SetFieldOfView(*size)
                    node.SetXYZOrigin(*origin)
                    node.UpdateMatrices()

        self._undo.append(undo)

    def keepCamera(self, widget: Any) -> None:
        """Remember where a 3D view looks from."""
        node = widget.threeDView().cameraNode()
        if node is None:
            return
        camera = vtk.vtkCamera()
        camera.DeepCopy(node.GetCamera())

        def undo() -> None:
            if inScene(node):
                node.GetCamera().DeepCopy(camera)
                node.ResetClippingRange()

        self._undo.append(undo)

    def restore(self) -> None:
        """Bring everything back; volumes that were deleted meanwhile leave their layer empty."""
        if self._layout is not None:
            slicer.app.layoutManager().setLayout(self._layout)
        for composite, values in self._layers.values():
            if inScene(composite):
                with slicer.util.NodeModify(composite):
                    for name, value in values.items():
                        gone = name.endswith("VolumeID") and value and not slicer.mrmlScene.GetNodeByID(value)
                        getattr(composite, f"Set{name}")(None if gone else value)
        for node, visible in self._visible.values():
            if inScene(node):
                node.SetSliceVisible(visible)
        for undo in self._undo:
            undo()
        self._undo.clear()


def lookFromCorner(widget: Any) -> None:
    """Turn a 3D view to what it shows, from the front, the left and above, so that all three planes are seen."""
    view = widget.threeDView()
    view.resetFocalPoint()
    view.resetCamera()
    node = view.cameraNode()
    if node is not None:
        camera = node.GetCamera()
        camera.Azimuth(_CORNER_DEGREES[0])
        camera.Elevation(_CORNER_DEGREES[1])
        camera.OrthogonalizeViewUp()
        node.ResetClippingRange()
