"""Choices made from what is loaded, so that two clicks lead from loading to Register."""

from __future__ import annotations

from typing import Any

import slicer.util

from AutoFuseLib import Provenance

from .ParameterNode import AutoFuseRegistrationParameterNode


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
