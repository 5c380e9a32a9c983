"""Choices made from what is loaded, so that two clicks lead from loading to Register."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import slicer.util

from autofuse_engine import catalog, model_fit
from autofuse_engine.configs import AUTOMATIC_MODEL, NO_MODEL
from autofuse_engine.image_facts import ImageFacts
from autofuse_engine.model_card import ModelCard
from AutoFuseLib import Provenance

from .ParameterNode import AUTOMATIC_STEPS, AutoFuseRegistrationParameterNode, Similarity


def chooseInputs(parameters: AutoFuseRegistrationParameterNode) -> None:
    """Fill in the volumes that are not chosen yet, and the segmentations that belong to them.

    The fixed volume is the one in the background of the slice views, the moving one that in the foreground, else the
    volumes in the order in which they were loaded. Results of AutoFuse are never chosen.
    """
    with slicer.util.NodeModify(parameters):
        candidates = _candidates()
        for name in ("fixedVolume", "movingVolume"):
            if getattr(parameters, name) is None:
                taken = (parameters.fixedVolume, parameters.movingVolume)
                free = [node for node in candidates if node not in taken]
                if free:
                    setattr(parameters, name, free[0])
        for side in ("fixed", "moving"):
            volume = getattr(parameters, f"{side}Volume")
            if volume is not None and getattr(parameters, f"{side}Segmentation") is None:
                setattr(parameters, f"{side}Segmentation", _segmentationOf(volume, parameters))


def likelyModel(
    parameters: AutoFuseRegistrationParameterNode, entries: Iterable[catalog.CatalogEntry]
) -> model_fit.Choice | None:
    """What the automatic choice will probably come to, by names, spacing and field of view; None without two volumes.

    The engine measures the images themselves when the run begins, and may decide otherwise.
    """
    facts = tuple(imageFacts(volume) for volume in (parameters.fixedVolume, parameters.movingVolume))
    if any(image is None for image in facts):
        return None
    oneModality = parameters.similarity is not Similarity.MIND
    return model_fit.choose(entries, lambda card: facts, one_modality=oneModality)


def expectedModel(parameters: AutoFuseRegistrationParameterNode, entries: Iterable[catalog.CatalogEntry]) -> str:
    """The model that is chosen, or which the automatic choice will probably come to; "none" for none or not known."""
    if parameters.model != AUTOMATIC_MODEL:
        return parameters.model
    choice = likelyModel(parameters, entries)
    return NO_MODEL if choice is None else choice.model


def refines(parameters: AutoFuseRegistrationParameterNode, card: ModelCard | None) -> bool:
    """Whether a refinement follows.

    Args:
        parameters: the choices.
        card: of the model; None without one.
    """
    steps = parameters.refinementSteps
    if steps == AUTOMATIC_STEPS and card is not None and card.refinement_steps is not None:
        steps = card.refinement_steps
    return steps != 0


def imageFacts(volume: Any) -> ImageFacts | None:
    """What a volume node tells without a look at its voxels; None without an image."""
    if volume is None or volume.GetImageData() is None:
        return None
    spacing = tuple(volume.GetSpacing())
    size = volume.GetImageData().GetDimensions()
    fieldOfView = tuple(side * count for side, count in zip(spacing, size, strict=True))
    return ImageFacts(name=volume.GetName(), spacing_mm=spacing, field_of_view_mm=fieldOfView)


def _candidates() -> list[Any]:
    """Scalar volumes that a user may mean: those shown first, then the others in the order of loading."""
    loaded = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetImageData() is not None
        and not Provenance.isOurs(node)
    ]
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    if composite is None:
        return loaded
    shown = [composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()]
    return sorted(loaded, key=lambda node: shown.index(node.GetID()) if node.GetID() in shown else len(shown))


def _segmentationOf(volume: Any, parameters: AutoFuseRegistrationParameterNode) -> Any:
    """The only segmentation that was drawn on the volume, None if there are several or none."""
    taken = (parameters.fixedSegmentation, parameters.movingSegmentation)
    reference = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    found = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if node.GetNodeReferenceID(reference) == volume.GetID() and node not in taken and not Provenance.isOurs(node)
    ]
    return found[0] if len(found) == 1 else None
