"""Move the content of a node outside the scene into one of the scene, by reference: no voxel is copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer.util
import vtk


def enter(node: Any, content: Any) -> Callable[[], None]:
    """Give ``node`` the content of a node of its class.

    Args:
        node: of the scene: a scalar volume, a grid transform or a segmentation; what it held is replaced.
        content: the same kind, outside the scene; must not be used afterwards.

    Returns:
        Undoes it.
    """
    parent = node.GetTransformNodeID()
    with slicer.util.NodeModify(node):
        restore = _enterContent(node, content)
        node.SetAndObserveTransformNodeID(None)
    if not node.IsA("vtkMRMLTransformNode"):
        node.CreateDefaultDisplayNodes()

    def undo() -> None:
        with slicer.util.NodeModify(node):
            restore()
            node.SetAndObserveTransformNodeID(parent)

    return undo


def showLike(target: Any, source: Any) -> None:
    """Give a volume the window, level and colours of another one, where both exist."""
    like = source.GetDisplayNode() if source else None
    own = target.GetDisplayNode() if target else None
    if like is None or own is None:
        return
    own.SetAutoWindowLevel(False)
    own.SetWindowLevel(like.GetWindow(), like.GetLevel())
    own.SetAndObserveColorNodeID(like.GetColorNodeID())


def _enterContent(node: Any, content: Any) -> Callable[[], None]:
    if node.IsA("vtkMRMLVolumeNode"):
        return _enterVolume(node, content)
    if node.IsA("vtkMRMLTransformNode"):
        before = node.GetTransformFromParent()
        node.SetAndObserveTransformFromParent(content.GetTransformFromParent())
        return lambda: node.SetAndObserveTransformFromParent(before)
    segmentation = node.GetSegmentation()
    node.SetAndObserveSegmentation(content.GetSegmentation())
    return lambda: node.SetAndObserveSegmentation(segmentation)


def _enterVolume(node: Any, content: Any) -> Callable[[], None]:
    image, matrix = node.GetImageData(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    own = vtk.vtkMatrix4x4()
    content.GetIJKToRASMatrix(own)
    node.SetIJKToRASMatrix(own)
    node.SetAndObserveImageData(content.GetImageData())

    def restore() -> None:
        node.SetIJKToRASMatrix(matrix)
        node.SetAndObserveImageData(image)

    return restore
