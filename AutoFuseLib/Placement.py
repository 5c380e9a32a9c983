"""Put nodes under a result's transform, and take them out again as if nothing had happened.

A node that already lies under another transform P keeps the effect of P: it is put under a copy of P, which lies under
the result's transform. Nothing else under P moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import slicer
import vtk

PREVIOUS_PARENT = "AutoFuse.previousParent"
"""Node reference of a placed node: what it lay under before."""

PLACED_UNDER = "AutoFuse.placedUnder"
"""Node reference of a placed node: the transform node that became its parent (the result's, or a copy of P)."""

COPY_OF = "AutoFuse.copyOf"
"""Node reference of a copied parent: the transform node that it copies."""


def putUnder(node: Any, transformNode: Any) -> None:
    """Let a node appear where a result's transform puts it.

    Nothing happens if it lies there already; from under another result it is taken out first. The copy of a parent
    holds what this parent, with its own parents, does at this moment.

    Args:
        node: vtkMRMLTransformableNode.
        transformNode: the result's transform (for things of the moving image) or its inverse (of the fixed image).
    """
    if isUnder(node, transformNode):
        return
    takeOut(node)
    parent = node.GetParentTransformNode()
    if parent is None:
        above = transformNode
    else:
        above = _copyUnder(parent, transformNode, node.GetName())
        node.SetNodeReferenceID(PREVIOUS_PARENT, parent.GetID())
    node.SetNodeReferenceID(PLACED_UNDER, above.GetID())
    node.SetAndObserveTransformNodeID(above.GetID())


def takeOut(node: Any) -> bool:
    """Undo :func:`putUnder`; what the user has moved elsewhere since then stays where it is.

    Returns:
        Whether the node's parent was changed.
    """
    above = node.GetNodeReference(PLACED_UNDER)
    moved = above is not None and node.GetParentTransformNode() is above
    if moved:
        node.SetAndObserveTransformNodeID(node.GetNodeReferenceID(PREVIOUS_PARENT))
    for role in (PLACED_UNDER, PREVIOUS_PARENT):
        node.SetNodeReferenceID(role, None)
    if above is not None and above.GetNodeReferenceID(COPY_OF) and not _isUsed(above):
        above.GetScene().RemoveNode(above)
    return moved


class Lifted:
    """Nodes that lie where they would without any result, until :meth:`putBack`: a new registration starts there."""

    def __init__(self, nodes: Iterable[Any]) -> None:
        """Take out those of the nodes that were placed; None is passed over."""
        self._placed: list[tuple[Any, Any]] = []
        for node in nodes:
            if node is not None and isPlaced(node):
                self._placed.append((node, _resultAbove(node)))
                takeOut(node)

    def putBack(self) -> None:
        """Put them under the same transform nodes again, where both are still there; does nothing a second time."""
        placed, self._placed = self._placed, []
        for node, transformNode in placed:
            if node.GetScene() is not None and transformNode is not None and transformNode.GetScene() is not None:
                putUnder(node, transformNode)


def _resultAbove(node: Any) -> Any:
    """The result's transform that a placed node lies under."""
    above = node.GetNodeReference(PLACED_UNDER)
    return above.GetParentTransformNode() if above.GetNodeReferenceID(COPY_OF) else above


def isPlaced(node: Any) -> bool:
    """Whether :func:`putUnder` put the node where it is."""
    above = node.GetNodeReference(PLACED_UNDER)
    return above is not None and node.GetParentTransformNode() is above


def isUnder(node: Any, transformNode: Any) -> bool:
    """Whether a transform node is among the parents of a node."""
    parent = node.GetParentTransformNode()
    while parent is not None and parent is not transformNode:
        parent = parent.GetParentTransformNode()
    return parent is not None


def parentBefore(node: Any) -> Any:
    """The parent transform that a node has without regard to results: what :func:`takeOut` would give back."""
    return node.GetNodeReference(PREVIOUS_PARENT) if isPlaced(node) else node.GetParentTransformNode()


def _copyUnder(parent: Any, transformNode: Any, name: str) -> Any:
    scene = transformNode.GetScene()
    toWorld = vtk.vtkGeneralTransform()
    parent.GetTransformToWorld(toWorld)
    if parent.IsTransformToWorldLinear():
        copy = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", f"{parent.GetName()} ({name})")
        matrix = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformToWorld(matrix)
        copy.SetMatrixTransformToParent(matrix)
    else:
        copy = scene.AddNewNodeByClass("vtkMRMLTransformNode", f"{parent.GetName()} ({name})")
        own = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.DeepCopyTransform(own, toWorld)
        copy.SetAndObserveTransformToParent(own)
    copy.SetNodeReferenceID(COPY_OF, parent.GetID())
    copy.SetAndObserveTransformNodeID(transformNode.GetID())
    return copy


def _isUsed(transformNode: Any) -> bool:
    scene = transformNode.GetScene()
    nodes = scene.GetNodesByClass("vtkMRMLTransformableNode")
    nodes.UnRegister(None)
    return any(
        nodes.GetItemAsObject(number).GetTransformNodeID() == transformNode.GetID()
        for number in range(nodes.GetNumberOfItems())
    )
