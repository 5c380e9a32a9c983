"""The same registration once more with another smoothness: whether it can be done, and what it consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

from autofuse_engine import catalog
from autofuse_engine.configs import AUTOMATIC_MODEL
from autofuse_engine.errors import ModelError
from AutoFuseLib import Placement
from AutoFuseLib.ResultNodes import ResultNodes

from .Inputs import Inputs
from .Outputs import KINDS, Requested


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a result came from.

    Attributes:
        inputs: nodes and configuration of the run.
        states: what the content of each of its nodes was then, by node ID.
    """

    inputs: Inputs
    states: Mapping[str, Any]

    @classmethod
    def of(cls, inputs: Inputs) -> Origin:
        """Of a run that begins now."""
        return cls(inputs=inputs, states={node.GetID(): _state(node) for node in inputs.nodes})


def hasEffect(report: Mapping[str, Any]) -> bool:
    """Whether another smoothness would change a result: it was refined, or its model is conditional.

    Args:
        report: of the result.
    """
    refinement = report.get("refinement") or {}
    if refinement.get("steps", _config(report).get("refinement_steps")) != 0:
        return True
    model = _model(report)
    try:
        card = None if model == "none" else catalog.find(model).card
    except ModelError:
        return False
    return card is not None and card.network.conditional


def smoothnessOf(report: Mapping[str, Any]) -> float:
    """The smoothness that a result was made with."""
    return float(_config(report).get("smoothness", 1.0))


def reasonNot(result: ResultNodes, origin: Origin | None) -> str:
    """Why a result cannot be computed anew from what it came from, as a sentence; empty if it can.

    Args:
        result: the nodes.
        origin: None if it is not known.
    """
    if result.transform.GetScene() is not slicer.mrmlScene:
        return _("The transform of this result was removed from the scene.")
    if origin is None:
        return _(
            "The inputs of this result are known no more: it was made in an earlier session or elsewhere. "
            "Register again to change its smoothness."
        )
    for node in origin.inputs.nodes:
        if node.GetScene() is not slicer.mrmlScene:
            return _("{name} was removed from the scene: register again with other inputs.").format(name=node.GetName())
        if _state(node) != origin.states[node.GetID()]:
            return _("{name} has changed since this result was made: register again.").format(name=node.GetName())
    model = _model(result.report)
    try:
        if model != "none":
            catalog.find(model)
    except ModelError as error:
        return f"{error.text} {error.hint}"
    return ""


def repeated(result: ResultNodes, origin: Origin, smoothness: float) -> tuple[Inputs, Requested]:
    """Inputs and outputs of the same registration with another smoothness.

    The alignment is not searched again: it starts from the matrix that was found, or from the same transform; nor
    is the model chosen again. The nodes of the result that are still there are filled anew; those that the user
    deleted are not made again.

    Args:
        result: what was found.
        origin: what it came from; :func:`reasonNot` must be empty.
        smoothness: 0.1 to 10.
    """
    config = replace(origin.inputs.config, model=_model(result.report), smoothness=smoothness)
    if origin.inputs.startFrom is None:
        x, y, z, w = (tuple(float(value) for value in row) for row in result.report["initial_matrix_ras"])
        config = replace(config, initial="matrix", initial_matrix_ras=(x, y, z, w))
    nodes = {kind.role: getattr(result, kind.role) for kind in KINDS}
    there = {role: node for role, node in nodes.items() if node is not None and node.GetScene() is slicer.mrmlScene}
    return replace(origin.inputs, config=config), Requested(nodes=there)


def _config(report: Mapping[str, Any]) -> Mapping[str, Any]:
    return (report.get("provenance") or {}).get("config") or {}


def _model(report: Mapping[str, Any]) -> str:
    """The model that was used, as the configuration names it; the engine's choice where that was left to it."""
    model = _config(report).get("model", "none")
    return (report.get("provenance") or {}).get("model") or "none" if model == AUTOMATIC_MODEL else model


def _state(node: Any) -> tuple[Any, ...]:
    """Changes when the content of a volume or segmentation or its place in the world does, not when its look does."""
    if node.IsA("vtkMRMLTransformNode"):
        return (_place(node),)
    place = _place(Placement.parentBefore(node))
    if node.IsA("vtkMRMLVolumeNode"):
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        image = node.GetImageData()
        return (None if image is None else image.GetMTime(), _numbers(matrix), place)
    segmentation = node.GetSegmentation()
    source = segmentation.GetSourceRepresentationName()
    segments = []
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        shape = segment.GetRepresentation(source)
        segments.append((segment.GetName(), None if shape is None else shape.GetMTime()))
    return (*segments, place)


def _place(parent: Any) -> Any:
    """What a parent transform does: its numbers if it is linear, else when it was changed last."""
    if parent is None:
        return None
    if not parent.IsTransformToWorldLinear():
        return parent.GetTransformToWorldMTime()
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return _numbers(matrix)


def _numbers(matrix: Any) -> tuple[float, ...]:
    return tuple(slicer.util.arrayFromVTKMatrix(matrix).ravel().tolist())
