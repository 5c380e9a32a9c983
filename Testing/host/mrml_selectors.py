"""Stand-in of qMRMLNodeComboBox, the selector of nodes."""

from __future__ import annotations

import weakref
from typing import Any

import slicer
import vtk
from PySide6 import QtWidgets
from shiboken6 import Shiboken

from Testing.host.ctk_combos import ctkComboBox
from Testing.host.pythonqt import qtProperty
from Testing.host.qt_namespace import declare
from Testing.host.signals import cppSignal, emitSignal
from Testing.host.standin import forwarded, row, state, stored

NODE, NONE, SEPARATOR = "NODE/", "NONE", "SEPARATOR"


def observe(subject: Any, event: Any, widget: Any, method: str) -> tuple[Any, int]:
    """Call a method of a widget on a VTK event as long as the widget lives; gives subject and tag for removal."""
    reference = weakref.ref(widget)

    def call(caller: Any, name: str) -> None:
        alive = reference()
        if alive is not None and Shiboken.isValid(alive):
            getattr(alive, method)()

    return subject, subject.AddObserver(event, call)


@declare(slicer)
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """A combo box of the nodes of some classes, with entries to create, rename, edit and delete them."""

    currentNodeChanged = cppSignal("vtkMRMLNode*", "bool")
    currentNodeIDChanged = cppSignal("QString")
    nodeActivated = cppSignal("vtkMRMLNode*")
    nodeAdded = cppSignal("vtkMRMLNode*")
    nodeAddedByUser = cppSignal("vtkMRMLNode*")
    nodeAddedByUserAction = cppSignal("vtkMRMLNode*")
    nodeAboutToBeRemoved = cppSignal("vtkMRMLNode*")
    currentNodeRenamed = cppSignal("QString")
    nodeAboutToBeEdited = cppSignal("vtkMRMLNode*")

    def __init__(self, parent: Any = None, combo: Any = None) -> None:
        super().__init__(parent)
        box = combo if combo is not None else ctkComboBox(self)
        self._d = state(scene=None, box=box, current="", requested="", filling=False, observed=[], actions=[])
        self._d.__dict__.update(nodeTypes=[], hideChildNodeTypes=[], showHidden=False, showChildNodeTypes=True)
        self._d.__dict__.update(noneEnabled=False, addEnabled=True, removeEnabled=True, editEnabled=False)
        self._d.__dict__.update(renameEnabled=False, selectNodeUponCreation=True, noneDisplay="None")
        self._d.__dict__.update(interactionNodeSingletonTag="", attributes=[], baseNames={}, labels={}, names={})
        row(self, box)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Fixed)
        box.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        box.setMinimumContentsLength(10)
        box.sizeAdjustPolicy = QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        box.activated.connect(self._activated)
        self.setEnabled(False)

    # -------------------------------------------------------------------------------------------- scene

    def mrmlScene(self) -> Any:
        return self._d.scene

    def setMRMLScene(self, scene: Any) -> None:
        d = self._d
        if scene is d.scene:
            return
        for subject, tag in d.observed:
            subject.RemoveObserver(tag)
        d.scene, d.observed = scene, []
        if scene is not None:
            kinds = slicer.vtkMRMLScene
            events = (kinds.NodeAddedEvent, kinds.NodeRemovedEvent, kinds.EndBatchProcessEvent, kinds.EndCloseEvent)
            d.observed = [observe(scene, event, self, "_rebuild") for event in events]
        self.setEnabled(scene is not None)
        requested, d.requested = d.requested, ""
        self._rebuild(requested)

    def _matching(self) -> list:
        d = self._d
        nodes = d.scene.GetNodes() if d.scene is not None else None
        every = [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())] if nodes else []
        return [node for node in every if self._accepts(node)]

    def _accepts(self, node: Any) -> bool:
        d = self._d
        kind = next((name for name in d.nodeTypes if node.IsA(name)), None)
        if kind is None or (node.GetHideFromEditors() and not d.showHidden):
            return False
        if not d.showChildNodeTypes and node.GetClassName() not in d.nodeTypes:
            return False
        if any(node.IsA(name) and name not in d.nodeTypes for name in d.hideChildNodeTypes):
            return False
        wanted = [(node.GetAttribute(name), value) for nodeType, name, value in d.attributes if node.IsA(nodeType)]
        return all(present is not None and value in (None, present) for present, value in wanted)

    # -------------------------------------------------------------------------------------------- items

    def _rebuild(self, requested: str = "") -> None:
        d = self._d
        if d.filling or (d.scene is not None and d.scene.IsBatchProcessing()):
            return
        d.filling = True
        wasEmpty, nodes = d.box.count == 0, self._matching()
        known, identifiers = d.names, [node.GetID() for node in nodes]
        d.names = {node.GetID(): node.GetName() for node in nodes}
        wasBlocked = d.box.blockSignals(True)
        d.box.clear()
        for text, data in self._items(nodes):
            if data == SEPARATOR:
                d.box.insertSeparator(d.box.count)
            else:
                d.box.addItem(text, data)
        current = self._chosen(identifiers, requested, wasEmpty)
        d.box.setCurrentIndex(self._indexOf(current))
        d.box.blockSignals(wasBlocked)
        d.filling = False
        self._watchNames(nodes)
        for node in nodes:
            if node.GetID() not in known:
                self.nodeAdded.emit(node)
        self._makeCurrent(current)

    def _chosen(self, identifiers: list[str], requested: str, wasEmpty: bool) -> str:
        current = self._d.current
        if requested in identifiers or current in identifiers:
            return requested if requested in identifiers else current
        if self._d.noneEnabled or not identifiers:
            return ""
        if current:
            return identifiers[-1]  # the current node was removed
        return identifiers[0] if wasEmpty else ""

    def _items(self, nodes: list) -> list[tuple[str, str]]:
        d = self._d
        items = [(d.noneDisplay, NONE)] if d.noneEnabled else []
        items += [(node.GetName() or "", NODE + node.GetID()) for node in nodes]
        extra: list[tuple[str, str]] = []
        if d.scene is not None:
            label = self.nodeTypeLabel(d.nodeTypes[0] if len(d.nodeTypes) == 1 else "")
            extra += [(f"Rename current {label}", "RENAME")] if d.renameEnabled else []
            extra += [(f"Edit current {label}", "EDIT")] if d.editEnabled else []
            for kind in d.nodeTypes if d.addEnabled else []:
                extra.append((f"Create new {self.nodeTypeLabel(kind)}", f"CREATE/{kind}"))
                extra += [(f"Create new {self.nodeTypeLabel(kind)} as...", f"CREATE_AS/{kind}")] * d.renameEnabled
            extra += [(f"Delete current {label}", "DELETE")] if d.removeEnabled else []
            extra += [(action.text, f"ACTION/{index}") for index, action in enumerate(d.actions)]
            d.box.defaultText = f"Select a {self.nodeTypeLabel(d.nodeTypes[0] if d.nodeTypes else '')}"
        return items + ([("", SEPARATOR)] if extra else []) + extra

    def _watchNames(self, nodes: list) -> None:
        d = self._d
        scene = [entry for entry in d.observed if entry[0] is d.scene]
        for subject, tag in d.observed:
            if subject is not d.scene:
                subject.RemoveObserver(tag)
        d.observed = scene + [observe(node, vtk.vtkCommand.ModifiedEvent, self, "_renamed") for node in nodes]

    def _renamed(self) -> None:
        if not self._d.filling and {node.GetID(): node.GetName() for node in self._matching()} != self._d.names:
            self._rebuild()

    def _indexOf(self, identifier: str) -> int:
        return self._d.box.findData(NODE + identifier) if identifier else (0 if self._d.noneEnabled else -1)

    def _makeCurrent(self, identifier: str) -> None:
        if identifier != self._d.current:
            self._d.current = identifier
            node = self.currentNode()
            self.currentNodeChanged.emit(node)
            emitSignal(self, "currentNodeChanged(bool)", node is not None)
            self.currentNodeIDChanged.emit(identifier)

    def _activated(self, index: int) -> None:
        d = self._d
        command, _, value = str(d.box.itemData(index)).partition("/")
        if command + "/" == NODE or command == NONE:
            self._makeCurrent(value)
            self.nodeActivated.emit(self.currentNode())
            return
        d.box.setCurrentIndex(self._indexOf(d.current))
        if command in ("CREATE", "CREATE_AS"):
            self._createFromMenu(value, ask=command == "CREATE_AS")
        elif command == "DELETE":
            self.removeCurrentNode()
        elif command == "EDIT":
            self.editCurrentNode()
        elif command == "RENAME":
            self.renameCurrentNode()
        elif command == "ACTION":
            d.actions[int(value)].trigger()

    def _createFromMenu(self, kind: str, ask: bool) -> None:
        name = self._askName(f"Create new {self.nodeTypeLabel(kind)}", "") if ask else None
        if name != "" and (node := self.addNode(kind)) is not None:
            if name:
                node.SetName(name)
            self.setCurrentNode(node)
            self.nodeAddedByUserAction.emit(node)

    def _askName(self, title: str, name: str) -> str:
        edit = QtWidgets.QLineEdit
        answer = QtWidgets.QInputDialog.getText(self, title, "New name:", edit.EchoMode.Normal, name)
        return answer[0] if isinstance(answer, tuple) else answer

    # -------------------------------------------------------------------------------------------- slots and invokables

    def currentNode(self) -> Any:
        return self._d.scene.GetNodeByID(self._d.current) if self._d.scene is not None and self._d.current else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else ((node.GetID() or "") if node is not None else ""))

    def setCurrentNodeID(self, identifier: str | None) -> None:
        d = self._d
        if d.scene is None:
            d.requested = identifier or ""
            return
        index = self._indexOf(identifier or "")
        found = identifier if index >= 0 and identifier else ""
        d.box.setCurrentIndex(index if found else self._indexOf(""))
        self._makeCurrent(found or "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def nodeCount(self) -> int:
        return len(self._d.names) if self._d.scene is not None else 0

    def nodeFromIndex(self, index: int) -> Any:
        identifiers = list(self._d.names)
        return self._d.scene.GetNodeByID(identifiers[index]) if 0 <= index < len(identifiers) else None

    def addNode(self, kind: str | None = None) -> Any:
        d = self._d
        kind = kind or (d.nodeTypes[0] if d.nodeTypes else "")
        if d.scene is None or kind not in d.nodeTypes:
            return None
        node = d.scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        name = d.baseNames.get(kind, "") or (node.GetName() or node.GetDefaultNodeNamePrefix())
        node.SetName(d.scene.GetUniqueNameByString(name))
        for _, attribute, value in d.attributes:
            node.SetAttribute(attribute, value or "")
        node = d.scene.AddNode(node)
        if d.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if (node := self.currentNode()) is not None:
            self.nodeAboutToBeRemoved.emit(node)
            self._d.scene.RemoveNode(node)

    def editCurrentNode(self) -> None:
        self.nodeAboutToBeEdited.emit(self.currentNode())

    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        if node is not None and (name := self._askName("Rename", node.GetName())):
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    def addAttribute(self, nodeType: str, name: str, value: Any = None) -> None:
        self._d.attributes.append((nodeType, name, None if value is None else str(value)))
        self._rebuild()

    def removeAttribute(self, nodeType: str, name: str) -> None:
        self._d.attributes = [entry for entry in self._d.attributes if entry[:2] != (nodeType, name)]
        self._rebuild()

    def setNodeTypeLabel(self, label: str, nodeType: str) -> None:
        self._d.labels[nodeType] = label
        self._rebuild()

    def nodeTypeLabel(self, nodeType: str) -> str:
        if self._d.labels.get(nodeType):
            return self._d.labels[nodeType]
        scene = self._d.scene
        return (scene.GetTypeDisplayNameByClassName(nodeType) if scene is not None and nodeType else "") or "node"

    def addMenuAction(self, action: Any) -> None:
        self._d.actions.append(action)
        self._rebuild()

    def _setBaseName(self, name: str) -> None:
        self._d.baseNames.update(dict.fromkeys(self._d.nodeTypes, name))

    def _baseName(self) -> str:
        return self._d.baseNames.get(self._d.nodeTypes[0], "") if self._d.nodeTypes else ""

    currentNodeID = qtProperty(str, lambda self: self._d.current, setCurrentNodeID)
    nodeTypes = stored("QStringList", "nodeTypes", _rebuild)
    showHidden = stored(bool, "showHidden", _rebuild)
    showChildNodeTypes = stored(bool, "showChildNodeTypes", _rebuild)
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", _rebuild)
    baseName = qtProperty(str, _baseName, _setBaseName)
    noneEnabled = stored(bool, "noneEnabled", _rebuild)
    addEnabled = stored(bool, "addEnabled", _rebuild)
    removeEnabled = stored(bool, "removeEnabled", _rebuild)
    editEnabled = stored(bool, "editEnabled", _rebuild)
    renameEnabled = stored(bool, "renameEnabled", _rebuild)
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag")
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation")
    noneDisplay = stored(str, "noneDisplay", _rebuild)
    sizeAdjustPolicy = forwarded(int, "box", "sizeAdjustPolicy")
