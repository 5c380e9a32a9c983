"""Stand-ins of Slicer's slice and 3D views: real MRML pipelines that render into offscreen windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from PySide6 import QtGui, QtWidgets
from vtk.util.numpy_support import vtk_to_numpy

from Testing.host import pythonqt
from Testing.host.mrml_widgets import qMRMLSliderWidget
from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import declare
from Testing.host.standin import state

VIEW_SIZE = (400, 400)
SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLTransformsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLTransformsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)


class _Window:
    """An offscreen render window with the displayable managers of one view node."""

    def __init__(self, factory: Any, managers: tuple[str, ...], node: Any) -> None:
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.AddRenderer(self.renderer)
        self.window.SetSize(*VIEW_SIZE)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.group.Initialize(factory, self.renderer)
        self.group.SetMRMLDisplayableNode(node)

    def pixels(self) -> np.ndarray:
        """The picture as (height, width, 3), red green blue, first line on top."""
        self.window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        image = grabber.GetOutput()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1].copy()

    def dispose(self) -> None:
        self.group.SetMRMLDisplayableNode(None)
        self.window.Finalize()


@pythonqt.registerCppClass
class _AbstractView(QtWidgets.QWidget):
    """What qMRMLSliceView and qMRMLThreeDView share; rendering happens on demand only."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._d = state(node=node, window=None, parts=[])
        self.setFixedSize(*VIEW_SIZE)

    def _window(self) -> _Window:
        raise NotImplementedError

    def renderWindow(self) -> Any:
        return self._window().window

    def interactor(self) -> Any:
        return self._window().interactor

    def forceRender(self) -> None:
        self._window().window.Render()

    def scheduleRender(self) -> None:
        self.update()

    def getDisplayableManagers(self, collection: Any) -> None:
        group = self._window().group
        for index in range(group.GetDisplayableManagerCount()):
            collection.AddItem(group.GetNthDisplayableManager(index))

    def displayableManagerByClassName(self, name: str) -> Any:
        return self._window().group.GetDisplayableManagerByClassName(name)

    def paintEvent(self, event: Any) -> None:
        pixels = np.ascontiguousarray(self._window().pixels()[..., :3])
        height, width, _ = pixels.shape
        image = QtGui.QImage(pixels.data, width, height, 3 * width, QtGui.QImage.Format.Format_RGB888)
        painter = QtGui.QPainter(self)
        painter.drawImage(self.rect, image)
        painter.end()


@declare(slicer)
class qMRMLSliceView(_AbstractView):
    """The picture of a slice view: background, foreground and label layers, and the displayable managers."""

    def __init__(self, node: Any, logic: Any) -> None:
        _AbstractView.__init__(self, node)
        self._d.logic = logic

    def _window(self) -> _Window:
        d = self._d
        if d.window is None:
            d.window = _Window(slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), SLICE_MANAGERS, d.node)
            d.window.renderer.GetActiveCamera().ParallelProjectionOn()
            mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
            mapper.SetColorWindow(255)
            mapper.SetColorLevel(127.5)
            actor.SetMapper(mapper)
            actor.GetProperty().SetDisplayLocationToBackground()
            d.window.renderer.AddViewProp(actor)
            d.parts = [mapper, actor]
            d.logic.ResizeSliceNode(*VIEW_SIZE)
        mapper, actor = d.parts
        connection = d.logic.GetImageDataConnection()
        mapper.SetInputConnection(connection)
        actor.SetVisibility(connection is not None)
        return d.window

    def mrmlSliceNode(self) -> Any:
        return self._d.node

    def convertRASToXYZ(self, ras: Any) -> tuple:
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._d.node.GetXYToRAS(), inverse)
        return tuple(inverse.MultiplyPoint((*ras, 1.0))[:3])

    def convertXYZToRAS(self, xyz: Any) -> tuple:
        return tuple(self._d.node.GetXYToRAS().MultiplyPoint((*xyz, 1.0))[:3])


@declare(slicer)
class qMRMLThreeDView(_AbstractView):
    """The picture of a 3D view."""

    def _window(self) -> _Window:
        d = self._d
        if d.window is None:
            factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
            d.window = _Window(factory, THREE_D_MANAGERS, d.node)
        return d.window

    def mrmlViewNode(self) -> Any:
        return self._d.node

    def cameraNode(self) -> Any:
        logic = slicer.app.moduleLogic("Cameras")
        return logic.GetViewActiveCameraNode(self._d.node)

    def resetFocalPoint(self) -> None:
        self.forceRender()
        self._window().renderer.ResetCamera()
        self._window().renderer.ResetCameraClippingRange()

    def resetCamera(self, *_parts: bool) -> None:
        self.resetFocalPoint()


@pythonqt.registerCppClass
class _AbstractViewWidget(QtWidgets.QWidget):
    """A view with its controller bar."""

    def _arrange(self, view: Any, controller: Any) -> None:
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(controller)
        layout.addWidget(view)

    def viewWidget(self) -> Any:
        return self._d.view

    def controllerWidget(self) -> Any:
        return self._d.controller

    def mrmlAbstractViewNode(self) -> Any:
        return self._d.node

    def viewLabel(self) -> str:
        return self._d.node.GetLayoutLabel()


@declare(slicer)
class qMRMLSliceControllerWidget(QtWidgets.QWidget):
    """The bar of a slice view: the offset slider, opacities and the link button by their slots."""

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._d = state(logic=logic, slider=qMRMLSliderWidget(self))
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._d.slider)
        self._d.slider.minimum, self._d.slider.maximum = -200, 200
        self._d.slider.valueChanged.connect(self.setSliceOffsetValue)

    def _composite(self) -> Any:
        return self._d.logic.GetSliceCompositeNode()

    def mrmlSliceNode(self) -> Any:
        return self._d.logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._composite()

    def sliceLogic(self) -> Any:
        return self._d.logic

    def sliceOffsetSlider(self) -> Any:
        return self._d.slider

    def setSliceOffsetValue(self, offset: float) -> None:
        self._d.logic.SetSliceOffset(offset)

    def fitSliceToBackground(self) -> None:
        self._d.logic.FitSliceToBackground()

    def setForegroundOpacity(self, opacity: float) -> None:
        self._composite().SetForegroundOpacity(opacity)

    def setLabelMapOpacity(self, opacity: float) -> None:
        self._composite().SetLabelOpacity(opacity)

    def setSliceLink(self, linked: bool) -> None:
        self._composite().SetLinkedControl(linked)

    def setSliceVisible(self, visible: bool) -> None:
        self._d.logic.GetSliceNode().SetSliceVisible(visible)

    def rotateSliceToLowestVolumeAxes(self) -> None:
        self._d.logic.RotateSliceToLowestVolumeAxes()


@declare(slicer)
class qMRMLSliceWidget(_AbstractViewWidget):
    """A slice view with its controller."""

    def __init__(self, logic: Any) -> None:
        super().__init__()
        node = logic.GetSliceNode()
        self._d = state(node=node, logic=logic, view=qMRMLSliceView(node, logic))
        self._d.controller = qMRMLSliceControllerWidget(logic)
        self._arrange(self._d.view, self._d.controller)

    def sliceView(self) -> Any:
        return self._d.view

    def sliceController(self) -> Any:
        return self._d.controller

    def sliceLogic(self) -> Any:
        return self._d.logic

    logic = sliceLogic

    def mrmlSliceNode(self) -> Any:
        return self._d.node

    def mrmlSliceCompositeNode(self) -> Any:
        return self._d.logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._d.logic.FitSliceToBackground()

    def setSliceOrientation(self, orientation: str) -> None:
        self._d.node.SetOrientation(orientation)

    sliceOrientation = qtProperty(str, lambda self: self._d.node.GetOrientation(), setSliceOrientation)
    sliceViewName = qtProperty(str, lambda self: self._d.node.GetLayoutName())
    sliceViewLabel = qtProperty(str, lambda self: self._d.node.GetLayoutLabel())


@declare(slicer)
class qMRMLThreeDWidget(_AbstractViewWidget):
    """A 3D view with its controller."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._d = state(node=node, view=qMRMLThreeDView(node), controller=QtWidgets.QWidget())
        self._arrange(self._d.view, self._d.controller)

    def threeDView(self) -> Any:
        return self._d.view

    def threeDController(self) -> Any:
        return self._d.controller

    def mrmlViewNode(self) -> Any:
        return self._d.node


def disposeView(widget: Any) -> None:
    """Free the render window of a slice or 3D widget."""
    window = widget.viewWidget()._d.window
    if window is not None:
        window.dispose()
        widget.viewWidget()._d.window = None
