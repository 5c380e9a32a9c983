"""Nodes that only serve a display: no list shows them, and no scene file holds them."""

from __future__ import annotations

from typing import Any

import slicer


def newHiddenNode(className: str, name: str) -> Any:
    """A node in the scene that node selectors and the subject hierarchy do not list and that is never saved."""
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    return slicer.mrmlScene.AddNode(node)


def inScene(node: Any) -> bool:
    """Whether a node is there to be used: not None, and not deleted from the scene by the user."""
    return node is not None and slicer.mrmlScene.IsNodePresent(node) != 0


def removeNodes(*nodes: Any) -> None:
    """Take nodes out of the scene; those that are gone already, or None, are passed over."""
    for node in nodes:
        if inScene(node):
            slicer.mrmlScene.RemoveNode(node)
