"""Stand-ins of CTK's buttons and collapsible sections."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host import pythonqt
from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import ctk, declare
from Testing.host.signals import cppSignal
from Testing.host.standin import parentAnd, state, stored

Qt = QtCore.Qt
HIDDEN_BY_CODE = "visibilityToParent"


class _SectionChildren(QtCore.QObject):
    """Watches the children of a collapsible section: hidden while it is collapsed, as the code wants it else."""

    def __init__(self, section: Any) -> None:
        super().__init__(section)
        self.section = section
        self.forcing = False

    def eventFilter(self, watched: Any, event: Any) -> bool:
        kind = event.type()
        own = watched is self.section
        if own and kind == QtCore.QEvent.Type.ChildAdded and event.child().isWidgetType():
            event.child().installEventFilter(self)
            self.apply(event.child())
        elif not own and not self.forcing and kind in _VISIBILITY_EVENTS:
            watched.setProperty(HIDDEN_BY_CODE, kind == QtCore.QEvent.Type.ShowToParent)
            self.apply(watched)
        return False

    def apply(self, child: Any) -> None:
        if not self.section.testAttribute(Qt.WidgetAttribute.WA_WState_Created):
            return
        wanted = child.property(HIDDEN_BY_CODE) is not False
        visible = wanted and not self.section.collapsed
        self.forcing = True
        if child.testAttribute(Qt.WidgetAttribute.WA_WState_Created) or not visible:
            child.setVisible(visible)
        if wanted:
            child.setAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self.forcing = False

    def applyAll(self) -> None:
        for child in self.section.children():
            if child.isWidgetType():
                self.apply(child)


_VISIBILITY_EVENTS = (QtCore.QEvent.Type.ShowToParent, QtCore.QEvent.Type.HideToParent)


@declare(ctk)
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A section with a title bar; the contents are hidden while it is collapsed."""

    contentsCollapsed = cppSignal("bool")

    def __init__(self, *arguments: Any) -> None:
        parent, rest = parentAnd(arguments)
        super().__init__(parent)
        self._d = state(collapsed=False, collapsedHeight=14, flat=False, maximumHeight=self.maximumHeight)
        self._d.__dict__.update(contentsFrameShape=0, contentsFrameShadow=16, contentsLineWidth=1)
        self._d.__dict__.update(contentsMidLineWidth=0, buttonTextAlignment=129, indicatorAlignment=129)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._titleHeight(), 0, 0)
        self._d.children = _SectionChildren(self)
        self.installEventFilter(self._d.children)
        self.toggled.connect(self._collapse)
        self.text = rest[0] if rest else ""

    def _collapse(self, checked: bool) -> None:
        if checked is not self._d.collapsed:
            return
        self._d.collapsed = not checked
        if self._d.collapsed:
            self._d.maximumHeight = self.maximumHeight
        self.setMaximumHeight(self._titleHeight() if self._d.collapsed else self._d.maximumHeight)
        self._d.children.applyAll()
        self.updateGeometry()
        self.contentsCollapsed.emit(self._d.collapsed)

    def _titleHeight(self) -> int:
        return self.fontMetrics().height() + 8

    def setVisible(self, visible: bool) -> None:
        super().setVisible(visible)
        self._d.children.applyAll()

    def hitButton(self, position: Any) -> bool:
        return position.y() < self._titleHeight()

    def paintEvent(self, event: Any) -> None:
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        bar = QtCore.QRect(0, 0, self.width, self._titleHeight())
        role = QtGui.QPalette.ColorRole
        painter.fillRect(bar, self.palette.color(role.Button))
        painter.setPen(self.palette.color(role.Mid))
        painter.drawRect(self.rect.adjusted(0, 0, -1, -1))
        color = self.palette.color(role.ButtonText)
        middle = bar.height() / 2
        points = [(8, -3), (16, -3), (12, 4)] if not self._d.collapsed else [(9, -4), (9, 4), (15, 0)]
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(color)
        painter.drawPolygon([QtCore.QPointF(x, middle + y) for x, y in points])
        painter.setPen(color)
        alignment = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        painter.drawText(bar.adjusted(24, 0, 0, 0), alignment, self.text)
        painter.end()

    def _setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = qtProperty(bool, lambda self: self._d.collapsed, _setCollapsed)
    collapsedHeight = stored(int, "collapsedHeight")
    flat = stored(bool, "flat")
    contentsFrameShape = stored(int, "contentsFrameShape")
    contentsFrameShadow = stored(int, "contentsFrameShadow")
    contentsLineWidth = stored(int, "contentsLineWidth")
    contentsMidLineWidth = stored(int, "contentsMidLineWidth")
    buttonTextAlignment = stored(int, "buttonTextAlignment")
    indicatorAlignment = stored(int, "indicatorAlignment")


@declare(ctk)
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box that collapses when it is unchecked."""

    def __init__(self, *arguments: Any) -> None:
        parent, rest = parentAnd(arguments)
        super().__init__(parent)
        self._d = state(collapsedHeight=0, maximumHeight=self.maximumHeight)
        self.setCheckable(True)
        self._d.children = _SectionChildren(self)
        self.installEventFilter(self._d.children)
        self.toggled.connect(self._expand)
        self.title = rest[0] if rest else ""

    def _expand(self, checked: bool) -> None:
        if not checked:
            self._d.maximumHeight = self.maximumHeight
        height = self.fontMetrics().height() + 8 + self._d.collapsedHeight
        self.setMaximumHeight(self._d.maximumHeight if checked else height)
        self._d.children.applyAll()

    def setVisible(self, visible: bool) -> None:
        super().setVisible(visible)
        self._d.children.applyAll()

    collapsed = qtProperty(bool, lambda self: not self.checked, lambda self, value: self.setChecked(not value))
    collapsedHeight = stored(int, "collapsedHeight")


@declare(ctk)
class ctkCheckBox(QtWidgets.QCheckBox):
    """A check box whose indicator may be an icon."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d = state(indicatorIcon=QtGui.QIcon(), indicatorIconSize=QtCore.QSize())

    indicatorIcon = qtProperty(
        QtGui.QIcon, lambda self: self._d.indicatorIcon, lambda self, icon: setattr(self._d, "indicatorIcon", icon)
    )
    indicatorIconSize = stored(QtCore.QSize, "indicatorIconSize")


@declare(ctk)
class ctkCheckablePushButton(QtWidgets.QPushButton):
    """A push button with a check box in front."""

    checkBoxToggled = cppSignal("bool")
    checkStateChanged = cppSignal("Qt::CheckState")

    def __init__(self, *arguments: Any) -> None:
        parent, rest = parentAnd(arguments)
        super().__init__(parent)
        self._d = state(checkState=0, checkBoxControlsButton=True, checkBoxControlsButtonToggleState=True)
        self._d.__dict__.update(checkBoxUserCheckable=True, indicatorAlignment=129)
        self.text = rest[0] if rest else ""

    def _stateChanged(self) -> None:
        checked = self._d.checkState == Qt.CheckState.Checked
        if self._d.checkBoxControlsButton and self._d.checkBoxControlsButtonToggleState:
            self.setCheckable(checked)
        self.checkBoxToggled.emit(checked)
        self.checkStateChanged.emit(self._d.checkState)

    checkState = stored(int, "checkState", _stateChanged)
    checkBoxControlsButton = stored(bool, "checkBoxControlsButton")
    checkBoxControlsButtonToggleState = stored(bool, "checkBoxControlsButtonToggleState")
    checkBoxUserCheckable = stored(bool, "checkBoxUserCheckable")
    indicatorAlignment = stored(int, "indicatorAlignment")


@declare(ctk)
class ctkMenuButton(QtWidgets.QPushButton):
    """A push button with a menu."""

    def __init__(self, *arguments: Any) -> None:
        parent, rest = parentAnd(arguments)
        super().__init__(parent)
        self.text = rest[0] if rest else ""


@declare(ctk)
class ctkColorPickerButton(QtWidgets.QPushButton):
    """A button that shows a colour and lets the user choose another one."""

    colorChanged = cppSignal("QColor")
    colorNameChanged = cppSignal("QString")
    ShowAlphaChannel, NoButtons, DontUseNativeDialog, UseCTKColorDialog = 1, 2, 4, 12

    def __init__(self, *arguments: Any) -> None:
        parent, rest = parentAnd(arguments)
        super().__init__(parent)
        color = rest[0] if rest and pythonqt.derives(rest[0], QtGui.QColor) else QtGui.QColor("black")
        self._d = state(color=color, colorName="", displayColorName=True, dialogOptions=0)
        self.text = next((argument for argument in rest if isinstance(argument, str)), "")

    def _paintColor(self) -> None:
        pixmap = QtGui.QPixmap(16, 16)
        pixmap.fill(self._d.color)
        self.setIcon(QtGui.QIcon(pixmap))

    def setColor(self, color: Any) -> None:
        if color != self._d.color:
            self._d.color = color
            self._paintColor()
            self.colorChanged.emit(color)

    def setDisplayColorName(self, display: bool) -> None:
        self._d.displayColorName = display

    def changeColor(self) -> None:
        color = QtWidgets.QColorDialog.getColor(self._d.color, self)
        if color.isValid():
            self.setColor(color)

    color = qtProperty(QtGui.QColor, lambda self: self._d.color, setColor)
    colorName = stored(str, "colorName", lambda self: self.colorNameChanged.emit(self._d.colorName))
    displayColorName = stored(bool, "displayColorName")
    dialogOptions = stored(int, "dialogOptions")
