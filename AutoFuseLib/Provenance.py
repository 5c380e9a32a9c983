"""Where an output node comes from: attributes and node references that are saved with the scene."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

import slicer
import slicer.util

PREFIX = "AutoFuse."
_FIGURES = {"engine": "engine", "torch": "torch", "device": "device", "model": "model", "modelSha256": "model_sha256",
            "seed": "seed", "fixed": "fixed", "moving": "moving"}  # fmt: skip
ATTRIBUTES = (*_FIGURES, "config", "date")
"""Names of the attributes, after :data:`PREFIX`."""

_TITLES = {
    "fixed": "Fixed image",
    "moving": "Moving image",
    "model": "Model",
    "modelSha256": "Model checksum (SHA256)",
    "engine": "AutoFuse",
    "torch": "PyTorch",
    "device": "Device",
    "seed": "Seed",
    "date": "Date",
}


def setRoles(outputNode: Any, fixedNode: Any, movingNode: Any) -> None:
    """Say which images a transform registers, with the roles that Slicer's own registration modules set.

    Args:
        outputNode: vtkMRMLTransformNode. For the inverse transform fixed and moving change places.
        fixedNode: the image onto which things under the transform come.
        movingNode: the image that is put under it.
    """
    kind = slicer.vtkMRMLTransformNode
    with slicer.util.NodeModify(outputNode):
        outputNode.SetNodeReferenceID(kind.GetFixedNodeReferenceRole(), fixedNode.GetID())
        outputNode.SetNodeReferenceID(kind.GetMovingNodeReferenceRole(), movingNode.GetID())


def setProvenance(node: Any, report: Mapping[str, Any], date: str | None = None) -> None:
    """Write the provenance of a report into the attributes of a node.

    Args:
        node: any MRML node that the registration made.
        report: the worker's report.
        date: ISO 8601; None means now.
    """
    provenance = report.get("provenance") or {}
    config = provenance.get("config")
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    with slicer.util.NodeModify(node):  # who watches the node hears of one change, not of ten
        for name, key in _FIGURES.items():
            value = provenance.get(key)
            node.SetAttribute(PREFIX + name, None if value is None else str(value))
        node.SetAttribute(PREFIX + "config", None if config is None else json.dumps(config, ensure_ascii=False))
        node.SetAttribute(PREFIX + "date", date or now)


def copyProvenance(source: Any, node: Any) -> None:
    """Give a node that was made with a result the provenance of this result."""
    for name in ATTRIBUTES:
        node.SetAttribute(PREFIX + name, source.GetAttribute(PREFIX + name))


def isOurs(node: Any) -> bool:
    """Whether a node carries provenance of AutoFuse."""
    return bool(node.GetAttribute(PREFIX + "engine"))


def describe(node: Any) -> str:
    """Plain text for a tooltip or a panel, one line a fact; empty for a node that AutoFuse did not make."""
    if not isOurs(node):
        return ""
    lines = []
    for name, title in _TITLES.items():
        value = node.GetAttribute(PREFIX + name)
        if value:
            lines.append(f"{title}: {value[:16] + '…' if name == 'modelSha256' else value}")
    config = json.loads(node.GetAttribute(PREFIX + "config") or "{}")
    choices = ", ".join(f"{name} {value}" for name, value in config.items() if value is not None)
    if choices:
        lines.append(f"Settings: {choices}")
    return "\n".join(lines)
