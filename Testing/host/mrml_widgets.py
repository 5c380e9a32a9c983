"""Stand-ins of Slicer's base widgets: qMRMLWidget, qSlicerWidget, sliders and spin boxes that know the scene."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from Testing.host import pythonqt
from Testing.host.ctk_numbers import ctkDoubleSpinBox, ctkSliderWidget
from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import absent, declare
from Testing.host.signals import cppSignal
from Testing.host.standin import state, stored


@declare(slicer)
class qMRMLWidget(QtWidgets.QWidget):
    """A widget that hands the scene on to its children through ``mrmlSceneChanged``."""

    mrmlSceneChanged = cppSignal("vtkMRMLScene*")

    def __init__(self, parent: Any = None, flags: int = 0) -> None:
        super().__init__(parent, QtCore.Qt.WindowType(flags))
        self._d = state(scene=None)

    def mrmlScene(self) -> Any:
        return self._d.scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._d.scene:
            self._d.scene = scene
            self.mrmlSceneChanged.emit(scene)

    @staticmethod
    def pixmapFromIcon(icon: Any) -> Any:
        return icon.pixmap(32, 32)


@declare(slicer)
class qSlicerWidget(QtWidgets.QWidget):
    """Base of module widgets."""

    mrmlSceneChanged = cppSignal("vtkMRMLScene*")

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d = state(scene=None)

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._d.scene:
            self._d.scene = scene
            self.mrmlSceneChanged.emit(scene)


@pythonqt.registerCppClass
class _UnitAware:
    """What qMRMLSliderWidget and qMRMLSpinBox share; the host has no unit nodes, so no suffix is added."""

    def mrmlScene(self) -> Any:
        return self._d.scene

    def setMRMLScene(self, scene: Any) -> None:
        self._d.scene = scene

    def setQuantity(self, quantity: str) -> None:
        self._d.quantity = quantity

    def setUnitAwareProperties(self, flags: int) -> None:
        self._d.unitAwareProperties = flags


@declare(slicer)
class qMRMLSliderWidget(_UnitAware, ctkSliderWidget):
    """A slider for a quantity such as a length."""

    Prefix, Suffix, Precision, MinimumValue, MaximumValue, Scaling, All = 1, 2, 4, 8, 16, 32, 63

    def __init__(self, parent: Any = None) -> None:
        ctkSliderWidget.__init__(self, parent)
        self._d.__dict__.update(scene=None, quantity="", unitAwareProperties=self.All, orientation=1)

    def setOrientation(self, orientation: int) -> None:
        self._d.orientation = orientation

    quantity = stored(str, "quantity")
    unitAwareProperties = stored(int, "unitAwareProperties")
    orientation = qtProperty(int, lambda self: self._d.orientation, setOrientation)


@declare(slicer)
class qMRMLSpinBox(_UnitAware, ctkDoubleSpinBox):
    """A spin box for a quantity such as a length."""

    Prefix, Suffix, Precision, MinimumValue, MaximumValue, Scaling = 1, 2, 4, 8, 16, 32

    def __init__(self, parent: Any = None) -> None:
        ctkDoubleSpinBox.__init__(self, parent)
        self._d.__dict__.update(scene=None, quantity="", unitAwareProperties=63)

    quantity = stored(str, "quantity")
    unitAwareProperties = stored(int, "unitAwareProperties")


absent(slicer, "qMRMLRangeWidget")
