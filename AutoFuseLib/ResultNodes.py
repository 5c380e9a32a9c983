"""The nodes of one registration result, and how to find them again in a scene that was saved and loaded.

Each node but the transform is named by a node reference of the transform node; the report is an attribute of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import slicer.util

REFERENCE_PREFIX = "AutoFuse."
REPORT_ATTRIBUTE = "AutoFuse.report"
SEGMENT_NAMES = "segment_names"
"""Key of the report, added to what the worker said: name of each label that the figures speak of."""


@dataclass
class ResultNodes:
    """MRML nodes by role; None where the result has none, or where the user deleted it."""

    transform: Any
    fixed: Any = None
    moving: Any = None
    fixedSegmentation: Any = None
    movingSegmentation: Any = None
    inverse: Any = None
    warped: Any = None
    warpedSegmentation: Any = None
    jacobian: Any = None
    magnitude: Any = None
    uncertainty: Any = None
    regularity: Any = None
    table: Any = None
    gatePlot: Any = None
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def segmentNames(self) -> dict[int, str]:
        """Name of each label that the report has figures of."""
        return {int(label): name for label, name in (self.report.get(SEGMENT_NAMES) or {}).items()}

    def store(self) -> None:
        """Write the references and the report into the transform node."""
        with slicer.util.NodeModify(self.transform):
            for role in ROLES:
                node = getattr(self, role)
                self.transform.SetNodeReferenceID(REFERENCE_PREFIX + role, node.GetID() if node else None)
            self.mark(self.transform, self.report)

    @staticmethod
    def mark(transform: Any, report: Mapping[str, Any]) -> None:
        """Write the report into a transform node, which makes it one of a result."""
        transform.SetAttribute(REPORT_ATTRIBUTE, json.dumps(report, ensure_ascii=False))

    @classmethod
    def fromTransform(cls, transform: Any) -> ResultNodes | None:
        """The result whose transform this is; None for a transform that AutoFuse did not make."""
        text = transform.GetAttribute(REPORT_ATTRIBUTE) if transform else None
        if not text:
            return None
        nodes = {role: transform.GetNodeReference(REFERENCE_PREFIX + role) for role in ROLES}
        return cls(transform=transform, report=json.loads(text), **nodes)


ROLES = tuple(item.name for item in fields(ResultNodes) if item.name not in ("transform", "report"))
"""Every role but the transform's own."""
