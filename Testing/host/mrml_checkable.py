"""Stand-ins of the selectors with check boxes: several nodes at once, and segments of a segmentation."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtWidgets

from Testing.host.ctk_combos import ctkCheckableComboBox, ctkComboBox
from Testing.host.mrml_selectors import NODE, observe, qMRMLNodeComboBox
from Testing.host.mrml_widgets import qMRMLWidget
from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import declare
from Testing.host.signals import cppSignal, emitSignal
from Testing.host.standin import forwarded, stored

CHECKED, UNCHECKED = 2, 0
NO_SEGMENT = "None"


@declare(slicer)
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """A node selector whose nodes are checked instead of chosen."""

    checkedNodesChanged = cppSignal()

    def __init__(self, parent: Any = None) -> None:
        qMRMLNodeComboBox.__init__(self, parent, ctkCheckableComboBox())
        self._d.checked = []
        self._d.box.checkedIndexesChanged.connect(self._userChecked)

    def _rebuild(self, requested: str = "") -> None:
        qMRMLNodeComboBox._rebuild(self, requested)
        before = list(self._d.checked)
        self._d.checked = [identifier for identifier in before if identifier in self._d.names]
        self._showChecks()
        if before != self._d.checked:
            self.checkedNodesChanged.emit()

    def _items(self, nodes: list) -> list[tuple[str, str]]:
        return [(node.GetName() or "", NODE + node.GetID()) for node in nodes]

    def _showChecks(self) -> None:
        box = self._d.box
        wasBlocked = box.blockSignals(True)
        for line in range(box.count):
            identifier = str(box.itemData(line) or "").removeprefix(NODE)
            box.setCheckState(box.model().index(line, 0), CHECKED if identifier in self._d.checked else UNCHECKED)
        box.blockSignals(wasBlocked)

    def _userChecked(self) -> None:
        lines = [index.row() for index in self._d.box.checkedIndexes()]
        self._d.checked = [str(self._d.box.itemData(line)).removeprefix(NODE) for line in lines]
        self.checkedNodesChanged.emit()

    def _node(self, identifier: str) -> Any:
        return self._d.scene.GetNodeByID(identifier)

    def checkedNodes(self) -> tuple:
        return tuple(self._node(identifier) for identifier in self._d.names if identifier in self._d.checked)

    def uncheckedNodes(self) -> tuple:
        return tuple(self._node(identifier) for identifier in self._d.names if identifier not in self._d.checked)

    def allChecked(self) -> bool:
        return len(self._d.checked) == len(self._d.names)

    def noneChecked(self) -> bool:
        return not self._d.checked

    def checkState(self, node: Any) -> int:
        return CHECKED if node is not None and node.GetID() in self._d.checked else UNCHECKED

    def setCheckState(self, node: Any, check: int) -> None:
        if node is None or node.GetID() not in self._d.names or self.checkState(node) == check:
            return
        (self._d.checked.append if check == CHECKED else self._d.checked.remove)(node.GetID())
        self._showChecks()
        self.checkedNodesChanged.emit()

    def check(self, node: Any) -> None:
        self.setCheckState(node, CHECKED)

    def uncheck(self, node: Any) -> None:
        self.setCheckState(node, UNCHECKED)


@declare(slicer)
class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """A selector of a segmentation with a selector of one or several of its segments."""

    currentNodeChanged = cppSignal("vtkMRMLNode*", "bool")
    currentSegmentChanged = cppSignal("QString")
    segmentSelectionChanged = cppSignal("QStringList")
    nodeAboutToBeEdited = cppSignal("vtkMRMLNode*")

    def __init__(self, parent: Any = None) -> None:
        qMRMLWidget.__init__(self, parent)
        nodes, single, multiple = qMRMLNodeComboBox(self), ctkComboBox(self), ctkCheckableComboBox(self)
        nodes.nodeTypes = ["vtkMRMLSegmentationNode"]
        nodes.addEnabled = nodes.removeEnabled = False
        self._d.__dict__.update(nodes=nodes, single=single, multiple=multiple, message=QtWidgets.QLabel(self))
        self._d.__dict__.update(segmentation=None, observed=[], segment="", segments=[], multiSelection=False)
        self._d.horizontalLayout = False
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (nodes, single, multiple, self._d.message):
            layout.addWidget(widget)
        multiple.setVisible(False)
        self.mrmlSceneChanged.connect(nodes.setMRMLScene)
        nodes.currentNodeChanged.connect(self._nodeChanged)
        nodes.nodeAboutToBeEdited.connect(self.nodeAboutToBeEdited.emit)
        single.currentIndexChanged.connect(self._segmentChosen)
        multiple.checkedIndexesChanged.connect(self._segmentsChecked)
        self._populate()

    def _nodeChanged(self, node: Any) -> None:
        if node is not self._d.segmentation:
            for subject, tag in self._d.observed:
                subject.RemoveObserver(tag)
            self._d.segmentation, self._d.observed = node, []
            if node is not None:
                kinds = slicer.vtkSegmentation
                events = (kinds.SegmentAdded, kinds.SegmentRemoved, kinds.SegmentModified)
                self._d.observed = [observe(node.GetSegmentation(), event, self, "_populate") for event in events]
            self._populate()
        self.currentNodeChanged.emit(node)
        emitSignal(self, "currentNodeChanged(bool)", node is not None)

    def _names(self) -> dict[str, str]:
        segmentation = self._d.segmentation.GetSegmentation() if self._d.segmentation is not None else None
        identifiers = segmentation.GetSegmentIDs() if segmentation is not None else ()
        return {identifier: segmentation.GetSegment(identifier).GetName() for identifier in identifiers}

    def _populate(self) -> None:
        d, names = self._d, self._names()
        for box in (d.single, d.multiple):
            wasBlocked = box.blockSignals(True)
            box.clear()
            if box is d.single and names and self.noneEnabled:
                box.addItem(NO_SEGMENT, NO_SEGMENT)
            for identifier, name in names.items():
                box.addItem(name, identifier)
            box.blockSignals(wasBlocked)
        d.message.text = "" if names else ("No segments in segmentation" if d.segmentation else "No node is selected")
        d.message.setVisible(not names)
        d.single.setVisible(bool(names) and not d.multiSelection)
        d.multiple.setVisible(bool(names) and d.multiSelection)
        if d.multiSelection:
            self.setSelectedSegmentIDs(d.segments)
        elif names:
            wasBlocked = d.single.blockSignals(True)
            keep = d.segment in names or (not d.segment and self.noneEnabled)
            d.single.setCurrentIndex(d.single.findData(d.segment or NO_SEGMENT) if keep else -1)
            d.single.blockSignals(wasBlocked)
            if not keep:
                d.single.setCurrentIndex(1 if self.noneEnabled else 0)

    def _segmentChosen(self, index: int) -> None:
        if self._d.segmentation is not None:
            chosen = self._d.single.itemData(index)
            self._d.segment = "" if chosen in (None, NO_SEGMENT) else chosen
            self.currentSegmentChanged.emit(self._d.segment)

    def _segmentsChecked(self) -> None:
        lines = [index.row() for index in self._d.multiple.checkedIndexes()]
        self._d.segments = [self._d.multiple.itemData(line) for line in lines]
        self.segmentSelectionChanged.emit(tuple(self._d.segments))

    def currentNode(self) -> Any:
        return self._d.nodes.currentNode()

    def currentNodeID(self) -> str:
        return self._d.nodes.currentNodeID

    def setCurrentNode(self, node: Any) -> None:
        self._d.nodes.setCurrentNode(node)

    def setCurrentNodeID(self, identifier: str) -> None:
        self._d.nodes.setCurrentNodeID(identifier)

    def currentSegmentID(self) -> str:
        return "" if self._d.multiSelection else self._d.segment

    def setCurrentSegmentID(self, identifier: str) -> None:
        if self._d.multiSelection:
            return
        index = 0 if not identifier and self.noneEnabled else self._d.single.findData(identifier)
        if index >= 0:
            self._d.single.setCurrentIndex(index)

    def segmentIDs(self) -> tuple:
        return tuple(self._names()) if self._d.multiSelection else ()

    def selectedSegmentIDs(self) -> tuple:
        return tuple(self._d.segments) if self._d.multiSelection else ()

    def setSelectedSegmentIDs(self, identifiers: Any) -> None:
        d = self._d
        if not d.multiSelection or d.segmentation is None:
            return
        wanted = [identifier for identifier in identifiers if identifier in self._names()]
        changed, d.segments = wanted != d.segments, wanted
        wasBlocked = d.multiple.blockSignals(True)
        for line in range(d.multiple.count):
            state = CHECKED if d.multiple.itemData(line) in wanted else UNCHECKED
            d.multiple.setCheckState(d.multiple.model().index(line, 0), state)
        d.multiple.blockSignals(wasBlocked)
        if changed:
            self.segmentSelectionChanged.emit(tuple(wanted))

    def _setNoneEnabled(self, enabled: bool) -> None:
        self._d.nodes.noneEnabled = enabled
        self._populate()

    def _multiSelectionChanged(self) -> None:
        self._d.segment, self._d.segments = ("", self._d.segments) if self._d.multiSelection else (self._d.segment, [])
        self._populate()

    noneEnabled = qtProperty(bool, lambda self: self._d.nodes.noneEnabled, _setNoneEnabled)
    editEnabled = forwarded(bool, "nodes", "editEnabled")
    segmentationNodeSelectorVisible = qtProperty(
        bool, lambda self: not self._d.nodes.isHidden(), lambda self, value: self._d.nodes.setVisible(value)
    )
    multiSelection = stored(bool, "multiSelection", _multiSelectionChanged)
    horizontalLayout = stored(bool, "horizontalLayout")
    selectNodeUponCreation = forwarded(bool, "nodes", "selectNodeUponCreation")
