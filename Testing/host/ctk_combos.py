"""Stand-ins of CTK's combo boxes."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import ctk, declare
from Testing.host.signals import cppSignal
from Testing.host.standin import state, stored

Qt = QtCore.Qt


@declare(ctk)
class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for the state without a current item."""

    returnRelease = cppSignal()
    NeverScroll, AlwaysScroll, ScrollWithFocus, ScrollWithNoVScrollBar = 0, 1, 2, 3

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d = state(defaultText="", defaultIcon=QtGui.QIcon(), forceDefault=False, elideMode=3, scrollWheelEffect=1)

    def _showDefault(self) -> None:
        self.setPlaceholderText(self._d.defaultText)

    def setCurrentUserDataAsString(self, data: str) -> None:
        self.setCurrentIndex(self.findData(data))

    defaultText = stored(str, "defaultText", _showDefault)
    defaultIcon = qtProperty(
        QtGui.QIcon, lambda self: self._d.defaultIcon, lambda self, icon: setattr(self._d, "defaultIcon", icon)
    )
    forceDefault = stored(bool, "forceDefault")
    elideMode = stored(int, "elideMode")
    scrollWheelEffect = stored(int, "scrollWheelEffect")
    currentUserDataAsString = qtProperty(
        str, lambda self: str(self.itemData(self.currentIndex) or ""), setCurrentUserDataAsString
    )


@declare(ctk)
class ctkCheckableComboBox(QtWidgets.QComboBox):
    """A combo box whose items have check boxes; the line shows the names of the checked ones."""

    checkedIndexesChanged = cppSignal()
    returnRelease = cppSignal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d = state(checked=frozenset())
        self._watch()

    def _watch(self) -> None:
        model = self.model()
        model.dataChanged.connect(self._compare)
        model.rowsInserted.connect(self._makeCheckable)
        model.rowsRemoved.connect(self._compare)

    def _makeCheckable(self, parent: Any, first: int, last: int) -> None:
        for line in range(first, last + 1):
            index = self.model().index(line, 0)
            if self.model().data(index, Qt.ItemDataRole.CheckStateRole) is None:
                self.model().setData(index, Qt.CheckState.Unchecked, Qt.ItemDataRole.CheckStateRole)

    def _compare(self) -> None:
        checked = frozenset(index.row() for index in self.checkedIndexes())
        if checked != self._d.checked:
            self._d.checked = checked
            self.update()
            self.checkedIndexesChanged.emit()

    def checkableModel(self) -> Any:
        return self.model()

    def setCheckableModel(self, model: Any) -> None:
        self.setModel(model)
        self._watch()

    def checkedIndexes(self) -> tuple:
        indexes = [self.model().index(line, 0) for line in range(self.model().rowCount())]
        return tuple(index for index in indexes if self.checkState(index) == Qt.CheckState.Checked)

    def allChecked(self) -> bool:
        return len(self.checkedIndexes()) == self.model().rowCount()

    def noneChecked(self) -> bool:
        return not self.checkedIndexes()

    def setCheckState(self, index: Any, check: int) -> None:
        self.model().setData(index, Qt.CheckState(check), Qt.ItemDataRole.CheckStateRole)

    def checkState(self, index: Any) -> int:
        return int(self.model().data(index, Qt.ItemDataRole.CheckStateRole) or 0)

    def paintEvent(self, event: Any) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionComboBox()
        self.initStyleOption(option)
        names = [self.itemText(index.row()) for index in self.checkedIndexes()]
        style, control = QtWidgets.QStyle, QtWidgets.QStyle.ComplexControl.CC_ComboBox
        painter.drawComplexControl(control, option)
        place = self.style().subControlRect(control, option, style.SubControl.SC_ComboBoxEditField, self)
        left = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.style().drawItemText(
            painter, place.adjusted(4, 0, 0, 0), left, self.palette, self.enabled, ", ".join(names) if names else "None"
        )
        painter.end()
