"""Carry other things along with a result: put them under its transform, or make warped copies of them.

Things of the moving image go to the fixed image (``toFixed``, the result's transform); things of the fixed image go to
the moving image (``toMoving``, its inverse). Originals are never changed, but for the transform that they lie under.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from autofuse_engine.errors import InputError
from AutoFuseLib.Geometry import Grid, worldGrid
from AutoFuseLib.HardenedCopies import (
    fromWorldThrough,
    hardenedPointsSteps,
    hardenedSegmentationSteps,
    hardenedVolumeSteps,
)
from AutoFuseLib.Placement import isUnder, parentBefore, putUnder
from AutoFuseLib.Provenance import copyProvenance
from AutoFuseLib.ResultNodes import ResultNodes
from AutoFuseLib.Steps import Steps

DIRECTIONS = ("toFixed", "toMoving")


@dataclass(frozen=True)
class Destination:
    """Where things are carried: by which transform node, onto which image."""

    transform: Any
    image: Any
    grid: Grid

    @classmethod
    def of(cls, result: ResultNodes, direction: str) -> Destination:
        """The destination of a result.

        Raises:
            InputError: ``result-node-deleted`` where the result's transform or image was deleted.
            ValueError: if the direction is none of :data:`DIRECTIONS`.
        """
        if direction not in DIRECTIONS:
            raise ValueError(f"direction is one of {DIRECTIONS}, received {direction!r}")
        toFixed = direction == "toFixed"
        transform, image = (result.transform, result.fixed) if toFixed else (result.inverse, result.moving)
        for node, name in (
            (transform, "transform" if toFixed else "inverse transform"),
            (image, f"{'fixed' if toFixed else 'moving'} image"),
        ):
            if node is None or (node is image and node.GetImageData() is None):
                raise InputError(
                    "result-node-deleted",
                    f"The result has no {name} any more: it was deleted from the scene.",
                    "Run the registration again.",
                )
        return cls(transform, image, worldGrid(image, parentBefore(image)))


def applySteps(result: ResultNodes, nodes: Iterable[Any], harden: bool, direction: str = "toFixed") -> Steps[list[Any]]:
    """Apply a result to nodes.

    Without ``harden`` each node is put under the transform (:func:`AutoFuseLib.Placement.putUnder`). With it, each
    gets a copy called ``NAME (on IMAGE)`` that needs no transform any more: volumes are resampled onto the grid of the
    image that they are carried to, linear, labelmaps nearest; segmentations likewise, overlaps are kept; points and
    surfaces are moved. What lies under the transform already counts as it is.

    Args:
        result: the result.
        nodes: volumes, segmentations, markups, models, transforms.
        harden: make copies.
        direction: ``toFixed`` for things of the moving image, ``toMoving`` for things of the fixed image.

    Returns:
        The nodes that were put under the transform, or the new nodes.

    Raises:
        InputError: ``result-node-deleted``, ``not-transformable``; then none of the nodes was changed.
    """
    destination = Destination.of(result, direction)
    chosen = list(nodes)
    for node in chosen:
        checkTransformable(node)
    done: list[Any] = []
    for node in chosen:
        if harden:
            done.append((yield from _hardenedSteps(node, destination)))
        else:
            putUnder(node, destination.transform)
            done.append(node)
        yield
    return done


def checkTransformable(node: Any) -> None:
    """Require a node that a bending transform can move.

    Raises:
        InputError: ``not-transformable``.
    """
    tensor = node.IsA("vtkMRMLTensorVolumeNode") and not node.IsA("vtkMRMLVectorVolumeNode")
    if not node.IsA("vtkMRMLTransformableNode") or not node.CanApplyNonLinearTransforms() or tensor:
        raise InputError(
            "not-transformable",
            f"{node.GetName()} ({node.GetNodeTagName()}) cannot be moved by a deformation.",
            "Choose volumes, segmentations, markups, models or transforms.",
        )


def _hardenedSteps(node: Any, destination: Destination) -> Steps[Any]:
    """A copy as the node appears, or would appear, under the transform."""
    if isUnder(node, destination.transform):
        fromWorld = fromWorldThrough(None, node.GetParentTransformNode())
    else:
        fromWorld = fromWorldThrough(destination.transform, parentBefore(node))
    name = f"{node.GetName()} (on {destination.image.GetName()})"
    if node.IsA("vtkMRMLVolumeNode"):
        copy = yield from hardenedVolumeSteps(node, fromWorld, destination.grid, name)
    elif node.IsA("vtkMRMLSegmentationNode"):
        copy = yield from hardenedSegmentationSteps(node, fromWorld, destination.grid, name)
    else:
        copy = yield from hardenedPointsSteps(node, fromWorld, name)
    copyProvenance(destination.transform, copy)
    return copy
