"""Stand-ins of CTK's sliders and spin boxes for numbers."""

from __future__ import annotations

import math
from typing import Any

from PySide6 import QtCore, QtWidgets

from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import absent, ctk, declare
from Testing.host.signals import cppSignal
from Testing.host.standin import forwarded, parentAnd, row, state, stored


@declare(ctk)
class ctkDoubleSpinBox(QtWidgets.QWidget):
    """A spin box for decimal numbers."""

    valueChanged = cppSignal("double", "QString")
    editingFinished = cppSignal()
    decimalsChanged = cppSignal("int")
    SetAlways, SetIfDifferent = 0, 1
    FixedDecimals, DecimalsByShortcuts, DecimalsByKey, DecimalsByValue = 0, 1, 2, 4
    InsertDecimals, ReplaceDecimals, DecimalsAsMax, DecimalsAsMin, DecimalPointAlwaysVisible = 8, 16, 32, 64, 128
    SizeHintByMinMax, SizeHintByValue = 0, 1

    def __init__(self, *arguments: Any) -> None:
        parent, rest = parentAnd(arguments)
        super().__init__(parent)
        self._d = state(box=QtWidgets.QDoubleSpinBox(self), setMode=rest[0] if rest else 1, sizeHintPolicy=0)
        self._d.decimalsOption = 129
        row(self, self._d.box)
        self._d.box.valueChanged.connect(self._announce)
        self._d.box.editingFinished.connect(self.editingFinished.emit)

    def _announce(self, value: float) -> None:
        self.valueChanged.emit(value)

    def setValue(self, value: float) -> None:
        (self.setValueIfDifferent if self._d.setMode == self.SetIfDifferent else self.setValueAlways)(value)

    def setValueIfDifferent(self, value: float) -> None:
        """Leave the text alone while the user types it."""
        if round(value, self._d.box.decimals) != self._d.box.value:
            self._d.box.setValue(value)

    def setValueAlways(self, value: float) -> None:
        before = self._d.box.value
        self._d.box.setValue(value)
        if self._d.box.value == before:
            self.valueChanged.emit(before)

    def stepUp(self) -> None:
        self._d.box.stepUp()

    def stepDown(self) -> None:
        self._d.box.stepDown()

    def setDecimals(self, decimals: int) -> None:
        if decimals != self._d.box.decimals:
            self._d.box.setDecimals(decimals)
            self.decimalsChanged.emit(decimals)

    def setReadOnly(self, readOnly: bool) -> None:
        self._d.box.setReadOnly(readOnly)

    value = qtProperty(float, lambda self: self._d.box.value, setValue)
    minimum = forwarded(float, "box", "minimum")
    maximum = forwarded(float, "box", "maximum")
    decimals = qtProperty(int, lambda self: self._d.box.decimals, setDecimals)
    singleStep = forwarded(float, "box", "singleStep")
    prefix = forwarded(str, "box", "prefix")
    suffix = forwarded(str, "box", "suffix")
    cleanText = qtProperty(str, lambda self: self._d.box.cleanText)
    alignment = forwarded(int, "box", "alignment")
    frame = forwarded(bool, "box", "frame")
    readOnly = forwarded(bool, "box", "readOnly")
    decimalsOption = stored(int, "decimalsOption")
    setMode = stored(int, "setMode")
    sizeHintPolicy = stored(int, "sizeHintPolicy")
    isSettingValue = qtProperty(bool, lambda self: False)


class _Scale(QtWidgets.QSlider):
    """A slider in steps of a double, as the visible part of ctkDoubleSlider and ctkSliderWidget."""

    def fit(self, minimum: float, maximum: float, step: float) -> None:
        """Set the range in steps without moving the value."""
        steps = (maximum - minimum) / step if step > 0 else 1
        count = max(1, round(min(1e6, steps)))
        self.setRange(0, count)


@declare(ctk)
class ctkDoubleSlider(QtWidgets.QWidget):
    """A slider for decimal numbers."""

    valueChanged = cppSignal("double")
    sliderMoved = cppSignal("double")
    sliderPressed = cppSignal()
    sliderReleased = cppSignal()
    rangeChanged = cppSignal("double, double")

    def __init__(self, *arguments: Any) -> None:
        parent, rest = parentAnd(arguments)
        super().__init__(parent)
        scale = _Scale(rest[0] if rest else QtCore.Qt.Orientation.Vertical, self)
        self._d = state(scale=scale, value=0.0, minimum=0.0, maximum=99.0, singleStep=1.0, pageStep=10.0)
        self._d.__dict__.update(tickInterval=0.0, handleToolTip="", filling=False)
        row(self, scale)
        scale.valueChanged.connect(self._moved)
        scale.sliderPressed.connect(self.sliderPressed.emit)
        scale.sliderReleased.connect(self.sliderReleased.emit)
        self._fit()

    def _fit(self) -> None:
        d = self._d
        d.filling = True
        d.scale.fit(d.minimum, d.maximum, d.singleStep)
        span = d.maximum - d.minimum
        d.scale.setValue(round((d.value - d.minimum) / span * d.scale.maximum) if 0 < span < math.inf else 0)
        d.filling = False

    def _moved(self, position: int) -> None:
        d = self._d
        if not d.filling:
            value = d.minimum + position / d.scale.maximum * (d.maximum - d.minimum)
            self.sliderMoved.emit(value)
            self.setValue(value)

    def setValue(self, value: float) -> None:
        bounded = min(self._d.maximum, max(self._d.minimum, value))
        if bounded != self._d.value:
            self._d.value = bounded
            self._fit()
            self.valueChanged.emit(bounded)

    def setOrientation(self, orientation: int) -> None:
        self._d.scale.orientation = orientation

    def _rangeChanged(self) -> None:
        self._fit()
        self.rangeChanged.emit(self._d.minimum, self._d.maximum)
        self.setValue(self._d.value)

    value = qtProperty(float, lambda self: self._d.value, setValue)
    sliderPosition = qtProperty(float, lambda self: self._d.value, setValue)
    minimum = stored(float, "minimum", _rangeChanged)
    maximum = stored(float, "maximum", _rangeChanged)
    singleStep = stored(float, "singleStep", _fit)
    pageStep = stored(float, "pageStep")
    tickInterval = stored(float, "tickInterval")
    tickPosition = forwarded(int, "scale", "tickPosition")
    tracking = forwarded(bool, "scale", "tracking")
    orientation = qtProperty(int, lambda self: int(self._d.scale.orientation), setOrientation)
    handleToolTip = stored(str, "handleToolTip")
    invertedAppearance = forwarded(bool, "scale", "invertedAppearance")
    invertedControls = forwarded(bool, "scale", "invertedControls")


@declare(ctk)
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider with a spin box: value 0, range 0 to 99.99, step 1 and 2 decimals at first."""

    valueChanged = cppSignal("double")
    valueIsChanging = cppSignal("double")
    decimalsChanged = cppSignal("int")
    NoSynchronize, SynchronizeWidth, SynchronizeDecimals = 0, 1, 2

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        slider = ctkDoubleSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._d = state(slider=slider, box=ctkDoubleSpinBox(self), spinBoxAlignment=4, tracking=True)
        self._d.__dict__.update(synchronizeSiblings=3, popupSlider=False)
        row(self, slider, self._d.box)
        self._d.box.maximum = slider.maximum = 99.99
        slider.valueChanged.connect(self._sliderMoved)
        self._d.box.valueChanged.connect(self._boxChanged)
        self._d.box.decimalsChanged.connect(self.decimalsChanged.emit)

    def _sliderMoved(self, value: float) -> None:
        self._d.box.value = value

    def _boxChanged(self, value: float) -> None:
        wasBlocked = self._d.slider.blockSignals(True)
        self._d.slider.setValue(value)
        self._d.slider.blockSignals(wasBlocked)
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def setValue(self, value: float) -> None:
        self._d.box.setValue(value)

    def reset(self) -> None:
        self.setValue(0.0)

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._d.box.setVisible(visible)

    def setDecimals(self, decimals: int) -> None:
        self._d.box.setDecimals(decimals)

    def _both(name: str) -> QtCore.Property:
        def write(self: Any, value: float) -> None:
            setattr(self._d.slider, name, value)
            setattr(self._d.box, name, value)

        return qtProperty(float, lambda self: getattr(self._d.box, name), write)

    value = qtProperty(float, lambda self: self._d.box.value, setValue)
    minimum = _both("minimum")
    maximum = _both("maximum")
    singleStep = _both("singleStep")
    pageStep = forwarded(float, "slider", "pageStep")
    decimals = qtProperty(int, lambda self: self._d.box.decimals, setDecimals)
    prefix = forwarded(str, "box", "prefix")
    suffix = forwarded(str, "box", "suffix")
    tickInterval = forwarded(float, "slider", "tickInterval")
    tickPosition = forwarded(int, "slider", "tickPosition")
    invertedAppearance = forwarded(bool, "slider", "invertedAppearance")
    invertedControls = forwarded(bool, "slider", "invertedControls")
    spinBoxVisible = qtProperty(bool, lambda self: not self._d.box.isHidden(), setSpinBoxVisible)
    spinBoxAlignment = stored(int, "spinBoxAlignment")
    tracking = stored(bool, "tracking")
    synchronizeSiblings = stored(int, "synchronizeSiblings")
    popupSlider = stored(bool, "popupSlider")
    del _both


@declare(ctk)
class ctkRangeWidget(QtWidgets.QWidget):
    """Two spin boxes for the ends of a range, the first never above the second."""

    minimumValueChanged = cppSignal("double")
    minimumValueIsChanging = cppSignal("double")
    maximumValueChanged = cppSignal("double")
    maximumValueIsChanging = cppSignal("double")
    valuesChanged = cppSignal("double, double")
    rangeChanged = cppSignal("double, double")

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d = state(low=QtWidgets.QDoubleSpinBox(self), high=QtWidgets.QDoubleSpinBox(self))
        self._d.__dict__.update(tickInterval=0.0, autoSpinBoxWidth=True, tracking=True, symmetricMoves=False)
        self._d.high.value = 99.0
        row(self, self._d.low, self._d.high)
        self._d.low.valueChanged.connect(self._lowChanged)
        self._d.high.valueChanged.connect(self._highChanged)

    def _lowChanged(self, value: float) -> None:
        self._d.high.setMinimum(value)
        self.minimumValueChanged.emit(value)
        self.valuesChanged.emit(value, self._d.high.value)

    def _highChanged(self, value: float) -> None:
        self._d.low.setMaximum(value)
        self.maximumValueChanged.emit(value)
        self.valuesChanged.emit(self._d.low.value, value)

    def setMinimumValue(self, value: float) -> None:
        self._d.low.setValue(value)

    def setMaximumValue(self, value: float) -> None:
        self._d.high.setValue(value)

    def setValues(self, minimum: float, maximum: float) -> None:
        wasBlocked = self.blockSignals(True)
        before = self._d.low.value, self._d.high.value
        self._d.high.setMinimum(self._d.low.minimum)
        self._d.high.setValue(max(minimum, maximum))
        self._d.low.setMaximum(self._d.high.value)
        self._d.low.setValue(min(minimum, maximum))
        self.blockSignals(wasBlocked)
        if before != (self._d.low.value, self._d.high.value):
            self.valuesChanged.emit(self._d.low.value, self._d.high.value)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._d.low.setRange(minimum, maximum)
        self._d.high.setRange(minimum, maximum)
        self.rangeChanged.emit(minimum, maximum)

    def setDecimals(self, decimals: int) -> None:
        self._d.low.setDecimals(decimals)
        self._d.high.setDecimals(decimals)

    def reset(self) -> None:
        self.setValues(self._d.low.minimum, self._d.high.maximum)

    minimumValue = qtProperty(float, lambda self: self._d.low.value, setMinimumValue)
    maximumValue = qtProperty(float, lambda self: self._d.high.value, setMaximumValue)
    minimum = forwarded(float, "low", "minimum")
    maximum = forwarded(float, "high", "maximum")
    singleStep = forwarded(float, "low", "singleStep")
    decimals = qtProperty(int, lambda self: self._d.low.decimals, setDecimals)
    prefix = forwarded(str, "low", "prefix")
    suffix = forwarded(str, "high", "suffix")
    tickInterval = stored(float, "tickInterval")
    autoSpinBoxWidth = stored(bool, "autoSpinBoxWidth")
    tracking = stored(bool, "tracking")
    symmetricMoves = stored(bool, "symmetricMoves")


absent(ctk, "ctkDoubleRangeSlider")
