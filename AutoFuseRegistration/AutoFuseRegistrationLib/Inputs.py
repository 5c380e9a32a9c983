"""From the choices in the scene to one job of the worker: nodes, configuration, and whether they can work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer.util
from slicer.i18n import tr as _

from autofuse_engine import catalog
from autofuse_engine.configs import AUTOMATIC_MODEL, NO_MODEL, RegistrationConfig
from autofuse_engine.errors import InputError, ModelError
from AutoFuseLib import Masks, Placement, Segmentations, StartTransforms, Volumes
from AutoFuseLib.Geometry import Grid, isLinear
from AutoFuseLib.Steps import Steps

from . import GuidingSegments
from .ParameterNode import AUTOMATIC_SPACING, AUTOMATIC_STEPS, AutoFuseRegistrationParameterNode, InitialAlignment

_ROLES = ("fixed", "moving")


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Where to compare: a labelmap volume, or a segment of a segmentation."""

    node: Any
    segmentId: str = ""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Nodes and configuration of one run; what it needs later it keeps itself, so that the panel may change.

    ``startFrom`` is a transform node that is not linear; of a linear one the configuration has the matrix.
    """

    fixed: Any
    moving: Any
    fixedSegmentation: Any = None
    movingSegmentation: Any = None
    fixedMask: Mask | None = None
    movingMask: Mask | None = None
    guide: bool = False
    startFrom: Any = None
    config: RegistrationConfig = field(default_factory=RegistrationConfig)

    @property
    def nodes(self) -> list[Any]:
        """Every node that is read."""
        masks = [mask.node for mask in (self.fixedMask, self.movingMask) if mask is not None]
        images = [self.fixed, self.moving, self.fixedSegmentation, self.movingSegmentation]
        return [node for node in [*images, *masks, self.startFrom] if node is not None]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Label values of the segments of both sides, equal for equal names.

    Attributes:
        fixed: label by segment id of the fixed segmentation.
        moving: the same for the moving one.
        names: by label, of those that both have: the report judges by them.
    """

    fixed: dict[str, int] = field(default_factory=dict)
    moving: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    @classmethod
    def between(cls, fixedSegmentation: Any, movingSegmentation: Any) -> Labels:
        """Labels of two segmentation nodes, each of which may be None.

        Raises:
            InputError: ``segment-names-repeated`` where a name is not unique.
        """
        both = fixedSegmentation is not None and movingSegmentation is not None
        common = Segmentations.commonSegments(fixedSegmentation, movingSegmentation) if both else []
        sides = {
            "fixed": (fixedSegmentation, {segment.fixedId: segment.label for segment in common}),
            "moving": (movingSegmentation, {segment.movingId: segment.label for segment in common}),
        }
        following = len(common) + 1
        for node, labels in sides.values():
            for identifier in node.GetSegmentation().GetSegmentIDs() if node else ():
                if identifier not in labels:
                    labels[identifier] = following
                    following += 1
        names = {segment.label: segment.name for segment in common}
        return cls(fixed=sides["fixed"][1], moving=sides["moving"][1], names=names)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A job's spec, the grids of both images (``fixed``, ``moving``), what labels mean, sentences for the user."""

    spec: dict[str, Any]
    grids: dict[str, Grid]
    labels: Labels
    warnings: list[str]


def gather(parameters: AutoFuseRegistrationParameterNode) -> Inputs:
    """What the choices mean.

    Raises:
        InputError: if a choice is missing or cannot be used; the same sentence as :func:`reasonNotReady`.
        ModelError: if the chosen model is gone or damaged.
    """
    if reason := reasonNotReady(parameters):
        raise InputError("choice-missing", reason, _("Complete the inputs and try again."))
    return Inputs(
        fixed=parameters.fixedVolume,
        moving=parameters.movingVolume,
        fixedSegmentation=parameters.fixedSegmentation,
        movingSegmentation=parameters.movingSegmentation,
        fixedMask=_mask(parameters, "fixed"),
        movingMask=_mask(parameters, "moving"),
        guide=parameters.guideBySegmentations and GuidingSegments.guides(parameters).possible,
        startFrom=_startFrom(parameters),
        config=_config(parameters),
    )


def reasonNotReady(parameters: AutoFuseRegistrationParameterNode | None) -> str:
    """The first reason why Register cannot run, as a sentence for its tooltip; empty if it can."""
    if parameters is None:
        return _("The scene is being closed.")
    fixed, moving = parameters.fixedVolume, parameters.movingVolume
    if fixed is None:
        return _("Choose the fixed volume: the one that stays where it is.")
    if moving is None:
        return _("Choose the moving volume: the one that is warped onto the fixed volume.")
    if fixed is moving:
        return _("Fixed and moving volume are the same: choose two different ones.")
    for volume, role in ((fixed, _("fixed volume")), (moving, _("moving volume"))):
        try:
            Volumes.checkVolume(volume, role)
        except InputError as error:
            return f"{error.text} {error.hint}"
    segmentation = parameters.fixedSegmentation
    if segmentation is not None and segmentation is parameters.movingSegmentation:
        return _("Fixed and moving segmentation are the same: choose the segmentation of each volume.")
    for side, role in (("fixed", _("fixed mask")), ("moving", _("moving mask"))):
        mask = getattr(parameters, f"{side}Mask")
        if mask is not None and mask.IsA("vtkMRMLSegmentationNode") and not _segmentId(parameters, side):
            return _("Choose the segment that is the {role}.").format(role=role)
    if parameters.initialAlignment is InitialAlignment.TRANSFORM and parameters.initialTransform is None:
        return _("Choose the transform that the registration starts from, or another initial alignment.")
    if parameters.initialAlignment is InitialAlignment.TRANSFORM and _above(moving, parameters.initialTransform):
        return _(
            "{moving} lies under {transform} already, which would count twice: take it out of the transform, "
            "or choose the initial alignment 'None: positions are right'."
        ).format(moving=moving.GetName(), transform=parameters.initialTransform.GetName())
    try:
        if parameters.model not in (AUTOMATIC_MODEL, NO_MODEL):
            catalog.find(parameters.model)
    except ModelError as error:
        return f"{error.text} {error.hint}"
    if parameters.model == NO_MODEL and parameters.refinementSteps == 0 and parameters.samples > 0:
        return _("Uncertainty needs a model: choose one, or set the uncertainty samples to 0.")
    return ""


def exportSteps(inputs: Inputs, folder: Path) -> Steps[Exported]:
    """Write what the worker needs into the job's folder.

    Raises:
        InputError: if a node's content cannot be used.
    """
    warnings: list[str] = []
    spec: dict[str, Any] = {"folder": str(folder), "config": inputs.config.to_dict()}
    spec["fixed"] = yield from Volumes.exportVolumeSteps(inputs.fixed, folder / "fixed.npy")
    spec["moving"] = yield from Volumes.exportVolumeSteps(inputs.moving, folder / "moving.npy")
    grids = {role: Grid.ofArray(folder / spec[role]["array"], spec[role]["ras_from_ijk"]) for role in _ROLES}
    labels = Labels.between(inputs.fixedSegmentation, inputs.movingSegmentation)
    if inputs.fixedSegmentation is not None and inputs.movingSegmentation is not None and not labels.names:
        warnings.append(
            _(
                "No segment of {moving} has the name of one of {fixed}: the result cannot be judged by them. "
                "Give corresponding segments equal names."
            ).format(moving=inputs.movingSegmentation.GetName(), fixed=inputs.fixedSegmentation.GetName())
        )
    for role, segmentation in (("fixed", inputs.fixedSegmentation), ("moving", inputs.movingSegmentation)):
        if segmentation is None:
            continue
        entry, absent = yield from Segmentations.exportSegmentationSteps(
            segmentation, getattr(labels, role), grids[role], folder / f"{role}_labels.npy"
        )
        spec[f"{role}_labels"] = entry
        if absent:
            text = _("Segments of {name} without a voxel inside of the image: {segments}.")
            warnings.append(text.format(name=segmentation.GetName(), segments=", ".join(absent)))
    if inputs.guide:
        spec["guide"] = True
        spec["label_names"] = {
            str(label): GuidingSegments.segmentNames(segmentation)[identifier].strip()
            for side, segmentation in (("moving", inputs.movingSegmentation), ("fixed", inputs.fixedSegmentation))
            for identifier, label in getattr(labels, side).items()
        }  # a structure of both is called as in the fixed segmentation
    for role in _ROLES:
        mask: Mask | None = getattr(inputs, f"{role}Mask")
        if mask is not None:
            path = folder / f"{role}_mask.npy"
            spec[f"{role}_mask"] = yield from Masks.exportMaskSteps(
                mask.node, mask.segmentId or None, grids[role], path
            )
    if inputs.startFrom is not None:
        spec["start_from"] = yield from StartTransforms.exportStartSteps(
            inputs.startFrom, grids["fixed"], folder / "start_from.npy"
        )
    return Exported(spec=spec, grids=grids, labels=labels, warnings=warnings)


def _mask(parameters: AutoFuseRegistrationParameterNode, side: str) -> Mask | None:
    node = getattr(parameters, f"{side}Mask")
    return None if node is None else Mask(node=node, segmentId=_segmentId(parameters, side))


def _segmentId(parameters: AutoFuseRegistrationParameterNode, side: str) -> str:
    """Identifier of the chosen segment, empty if the mask is a labelmap or the segment is gone."""
    node, chosen = getattr(parameters, f"{side}Mask"), getattr(parameters, f"{side}MaskSegmentId")
    known = node is not None and node.IsA("vtkMRMLSegmentationNode") and node.GetSegmentation().GetSegment(chosen)
    return chosen if known else ""


def _config(parameters: AutoFuseRegistrationParameterNode) -> RegistrationConfig:
    choices: Mapping[str, Any] = {
        "model": parameters.model,
        "initial": parameters.initialAlignment.value,
        "initial_matrix_ras": None,
        "similarity": parameters.similarity.value,
        "refinement_steps": None if parameters.refinementSteps == AUTOMATIC_STEPS else parameters.refinementSteps,
        "smoothness": parameters.smoothness,
        "spacing_mm": None if parameters.spacingMm == AUTOMATIC_SPACING else parameters.spacingMm,
        "samples": parameters.samples,
        "device": parameters.device,
        "seed": parameters.seed,
    }
    if _startFrom(parameters) is not None:
        choices = {**choices, "initial": "transform"}
    elif parameters.initialAlignment is InitialAlignment.TRANSFORM:
        choices = {**choices, "initial_matrix_ras": movingFromFixed(parameters.initialTransform).tolist()}
    try:
        return RegistrationConfig.from_dict(choices)
    except ValueError as error:
        text = _("A choice is invalid: {error}.").format(error=error)
        raise InputError("options-invalid", text, _("Correct it and register again.")) from error


def _startFrom(parameters: AutoFuseRegistrationParameterNode) -> Any:
    """The chosen transform node where it is not linear, else None."""
    node = parameters.initialTransform if parameters.initialAlignment is InitialAlignment.TRANSFORM else None
    return None if isLinear(node) else node


def _above(node: Any, transformNode: Any) -> bool:
    """Whether a transform is among what a node lies under, results of this module not counted."""
    parent = Placement.parentBefore(node)
    return parent is transformNode or (parent is not None and Placement.isUnder(parent, transformNode))


def movingFromFixed(transformNode: Any) -> np.ndarray:
    """Matrix that takes world points of the fixed to the moving image, if the moving volume were put under the node.

    A transform node moves what is under it to the world: moving to fixed points. The engine wants the other direction.
    """
    import vtk

    toWorld = vtk.vtkMatrix4x4()
    transformNode.GetMatrixTransformToWorld(toWorld)
    return np.linalg.inv(slicer.util.arrayFromVTKMatrix(toWorld))
