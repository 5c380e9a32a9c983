"""From the worker's result to nodes in the scene: all of them appear together at the end, or none does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import slicer
from slicer.i18n import tr as _

from autofuse_engine.errors import InputError
from autofuse_engine.events import Result
from AutoFuseLib import GatePlot, Placement, Provenance, ReportTable, Segmentations, Transforms, Volumes
from AutoFuseLib.ResultNodes import SEGMENT_NAMES, ResultNodes
from AutoFuseLib.Steps import Steps

from . import Entering
from .Inputs import Exported, Inputs
from .ParameterNode import AutoFuseRegistrationParameterNode


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One output: its role in the result, the parameter that holds its node, and how a new node is called."""

    role: str
    parameter: str
    want: str
    nodeClass: str

    def name(self, moving: str, fixed: str, segmentation: str) -> str:
        """Name of a new node."""
        pattern = {
            "transform": _("Transform {moving} to {fixed}"),
            "inverse": _("Inverse transform {fixed} to {moving}"),
            "warped": _("{moving} warped to {fixed}"),
            "warpedSegmentation": _("{segmentation} warped to {fixed}"),
            "jacobian": _("Jacobian {moving} to {fixed}"),
            "magnitude": _("Displacement mm {moving} to {fixed}"),
            "uncertainty": _("Uncertainty mm {moving} to {fixed}"),
            "regularity": _("Smoothness weight {moving} to {fixed}"),
            "table": _("Results {moving} to {fixed}"),
        }[self.role]
        return pattern.format(moving=moving, fixed=fixed, segmentation=segmentation)


KINDS = (
    Kind(role="transform", parameter="transform", want="", nodeClass="vtkMRMLGridTransformNode"),
    Kind(role="inverse", parameter="inverseTransform", want="wantInverse", nodeClass="vtkMRMLGridTransformNode"),
    Kind(role="warped", parameter="warpedVolume", want="", nodeClass="vtkMRMLScalarVolumeNode"),
    Kind(
        role="warpedSegmentation",
        parameter="warpedSegmentation",
        want="wantSegmentation",
        nodeClass="vtkMRMLSegmentationNode",
    ),
    Kind(role="jacobian", parameter="jacobianVolume", want="wantJacobian", nodeClass="vtkMRMLScalarVolumeNode"),
    Kind(role="magnitude", parameter="magnitudeVolume", want="wantMagnitude", nodeClass="vtkMRMLScalarVolumeNode"),
    Kind(
        role="uncertainty", parameter="uncertaintyVolume", want="wantUncertainty", nodeClass="vtkMRMLScalarVolumeNode"
    ),
    Kind(role="regularity", parameter="regularityVolume", want="wantRegularity", nodeClass="vtkMRMLScalarVolumeNode"),
    Kind(role="table", parameter="resultsTable", want="wantTable", nodeClass="vtkMRMLTableNode"),
)
"""Every output with a node, in the order of the panel."""

_FILES = {
    "warped": "warped",
    "jacobian": "jacobian",
    "magnitude": "displacement_magnitude",
    "uncertainty": "uncertainty",
    "regularity": "regularity_weight",
}


@dataclass(frozen=True, kw_only=True)
class Requested:
    """Nodes by role: one of the scene, or None for a new one; roles that are absent are not wanted."""

    nodes: dict[str, Any] = field(default_factory=dict)
    applyToMoving: bool = False


def requested(parameters: AutoFuseRegistrationParameterNode) -> Requested:
    """What the panel asks for.

    Raises:
        InputError: ``output-is-input`` if an output node is an input or is chosen twice.
    """
    nodes = {
        kind.role: getattr(parameters, kind.parameter)
        for kind in KINDS
        if not kind.want or getattr(parameters, kind.want)
    }
    inputs = [
        parameters.fixedVolume,
        parameters.movingVolume,
        parameters.fixedSegmentation,
        parameters.movingSegmentation,
        parameters.fixedMask,
        parameters.movingMask,
    ]
    taken = [node.GetID() for node in inputs if node is not None]
    for node in nodes.values():
        if node is None:
            continue
        if node.GetID() in taken:
            raise InputError(
                "output-is-input",
                _("{name} is chosen as an output, but is an input or another output.").format(name=node.GetName()),
                _("Choose another node, or leave the output empty to make a new one."),
            )
        taken.append(node.GetID())
    return Requested(nodes=nodes, applyToMoving=parameters.applyToMoving)


def importSteps(answer: Result, inputs: Inputs, exported: Exported, wanted: Requested) -> Steps[ResultNodes]:
    """Read the result's files into nodes outside the scene, then enter all of them at once.

    Returns:
        The nodes; also stored with the transform node.

    Raises:
        InputError: ``input-removed`` if the fixed or the moving volume was deleted meanwhile.
    """
    names = {str(label): name for label, name in exported.labels.names.items()}
    report = {**answer.report, SEGMENT_NAMES: names}
    made: dict[str, Any] = {}
    for name, image in (("transform", "fixed"), ("inverse", "moving")):
        if name in wanted.nodes:
            made[name] = slicer.vtkMRMLGridTransformNode()
            place = exported.grids[image]
            yield from Transforms.importTransformSteps(made[name], report[name], answer.files, place)
    for role, file in _FILES.items():
        if role in wanted.nodes and file in answer.files:
            made[role] = slicer.vtkMRMLScalarVolumeNode()
            place = report["outputs"][file]["ras_from_ijk"]
            yield from Volumes.importVolumeSteps(made[role], answer.files[file], place)
    if "warpedSegmentation" in wanted.nodes and "warped_labels" in answer.files:
        made["warpedSegmentation"] = slicer.vtkMRMLSegmentationNode()
        yield from Segmentations.importSegmentationSteps(
            made["warpedSegmentation"],
            answer.files["warped_labels"],
            report["outputs"]["warped_labels"]["ras_from_ijk"],
            inputs.movingSegmentation,
            exported.labels.moving,
        )
    for node, role in ((inputs.fixed, _("fixed")), (inputs.moving, _("moving"))):
        if node.GetScene() is not slicer.mrmlScene:
            raise InputError(
                "input-removed",
                _("The {role} volume was removed from the scene while the registration ran.").format(role=role),
                _("Load it and register again."),
            )
    return (yield from _enterSteps(made, inputs, exported, wanted, report))


def _enterSteps(
    made: dict[str, Any], inputs: Inputs, exported: Exported, wanted: Requested, report: Any
) -> Steps[ResultNodes]:
    """Move what was made into the scene; what this changes is undone if it does not come to its end."""
    undo: list[Callable[[], None]] = []
    entered: list[Entering.Entered] = []
    nodes: dict[str, Any] = {}
    described: list[Any] = []
    complete = False
    segmentation = inputs.movingSegmentation.GetName() if inputs.movingSegmentation else ""
    try:
        for kind in KINDS:
            content = made.get(kind.role)
            if content is None and not (kind.role == "table" and "table" in wanted.nodes):
                continue
            node = wanted.nodes[kind.role]
            if node is None or node.GetScene() is not slicer.mrmlScene:
                name = kind.name(inputs.moving.GetName(), inputs.fixed.GetName(), segmentation)
                node = _newNode(kind.role, kind.nodeClass, name, report)
                described.append(node)
                undo.append(partial(slicer.mrmlScene.RemoveNode, node))
            if content is not None:
                entered.append(Entering.enter(node, content))
                undo.append(entered[-1].undo)
            nodes[kind.role] = node
            yield
        result = ResultNodes(
            **nodes,
            fixed=inputs.fixed,
            moving=inputs.moving,
            fixedSegmentation=inputs.fixedSegmentation,
            movingSegmentation=inputs.movingSegmentation,
            report=report,
        )
        Entering.showLike(result.warped, result.moving)
        if result.table is not None:
            ReportTable.fillTable(result.table, report, exported.labels.names)
        yield
        earlier = ResultNodes.fromTransform(result.transform)
        name = f"{inputs.moving.GetName()} - {inputs.fixed.GetName()}"
        before = earlier.gatePlot if earlier is not None else None
        result.gatePlot = GatePlot.fillPlot(report, name, before)
        if result.gatePlot is not None and before is None:
            undo.append(partial(GatePlot.removePlot, result.gatePlot))
            yield
        _describe(result, described)
        result.store()
        if wanted.applyToMoving:
            Placement.putUnder(inputs.moving, result.transform)
        complete = True
        for step in entered:
            step.forget()
        return result
    finally:
        if not complete:
            for step in reversed(undo):
                step()


def _describe(result: ResultNodes, described: list[Any]) -> None:
    """Roles of the transforms, and provenance of every node that is not among those ``described`` already."""
    Provenance.setRoles(result.transform, result.fixed, result.moving)
    if result.inverse is not None:
        Provenance.setRoles(result.inverse, result.moving, result.fixed)
    made = [getattr(result, kind.role) for kind in KINDS] + [result.gatePlot]
    for node in made:
        if node is not None and node not in described:
            Provenance.setProvenance(node, result.report)


def _newNode(role: str, nodeClass: str, name: str, report: Mapping[str, Any]) -> Any:
    """A node in the scene, with its provenance; a transform has the report too, by which selectors know it as a result.

    They are written before the node enters the scene: then nobody watches it yet.
    """
    node = slicer.mrmlScene.CreateNodeByClass(nodeClass)
    node.UnRegister(None)
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    Provenance.setProvenance(node, report)
    if role == "transform":
        ResultNodes.mark(node, report)
    return slicer.mrmlScene.AddNode(node)
