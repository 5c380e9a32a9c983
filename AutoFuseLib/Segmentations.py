"""Segmentations between Slicer's scene and the worker's labelmaps: matched by segment name, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import slicer
import slicer.util
from numpy.typing import NDArray

from autofuse_engine.errors import InputError
from AutoFuseLib.ArrayFiles import readArray, writeArraySteps
from AutoFuseLib.Geometry import Grid
from AutoFuseLib.SegmentLayers import BINARY_LABELMAP, rankSlabs
from AutoFuseLib.Steps import Steps
from AutoFuseLib.Volumes import fillImageSteps, specOf

_MOST_LABELS = 65535


class CommonSegment(NamedTuple):
    """One structure in both segmentations: its name in the fixed one, both segment ids, and its label."""

    name: str
    fixedId: str
    movingId: str
    label: int


def commonSegments(fixedSegmentation: Any, movingSegmentation: Any) -> list[CommonSegment]:
    """Match the segments of two segmentation nodes by name, without regard to case and surrounding spaces.

    Returns:
        In the order of the fixed segmentation, labels 1 to N.

    Raises:
        InputError: ``segment-names-repeated`` where a name of both stands twice in one of them.
    """
    fixed, moving = _idsByName(fixedSegmentation), _idsByName(movingSegmentation)
    names = [name for name in fixed if name in moving]
    for node, ids in ((fixedSegmentation, fixed), (movingSegmentation, moving)):
        repeated = [name for name in names if len(ids[name]) > 1]
        if repeated:
            shown = node.GetSegmentation().GetSegment(ids[repeated[0]][0]).GetName()
            raise InputError(
                "segment-names-repeated",
                f"The segmentation {node.GetName()} has {len(ids[repeated[0]])} segments called {shown}.",
                "Rename them, so that each structure has one name of its own in both segmentations.",
            )
    segmentation = fixedSegmentation.GetSegmentation()
    return [
        CommonSegment(segmentation.GetSegment(fixed[name][0]).GetName(), fixed[name][0], moving[name][0], label)
        for label, name in enumerate(names, start=1)
    ]


def allSegments(segmentationNode: Any) -> dict[str, int]:
    """Labels 1 to N for every segment, by segment id; for a segmentation that has no partner."""
    return {segmentId: label for label, segmentId in enumerate(segmentationNode.GetSegmentation().GetSegmentIDs(), 1)}


def exportSegmentationSteps(
    segmentationNode: Any, labels: Mapping[str, int], reference: Grid, path: Path
) -> Steps[tuple[dict[str, Any], list[str]]]:
    """Write segments as one labelmap on the grid of an image.

    Where segments overlap, the one that stands later in the segmentation wins. The node stays as it is, with its
    transform and its representations; segments without a binary labelmap are converted on a copy.

    Args:
        segmentationNode: under whatever transforms.
        labels: label above zero by segment id.
        reference: the grid of the exported image.
        path: the ``.npy`` file; its folder exists.

    Returns:
        The entry of the job, and the names of segments of which nothing lies inside of the image: warn of them.

    Raises:
        InputError: ``labels-empty`` where that is true of all; ``segment-not-convertible``.
        FileError: ``disk-full`` or ``output-not-writable``.
    """
    segmentation = segmentationNode.GetSegmentation()
    order = [segmentId for segmentId in segmentation.GetSegmentIDs() if segmentId in labels]
    if not all(0 < labels[segmentId] <= _MOST_LABELS for segmentId in order):
        raise ValueError(f"labels lie in 1 to {_MOST_LABELS}, received {dict(labels)}")
    highest = max((labels[segmentId] for segmentId in order), default=0)
    labelOfRank = np.array([0, *(labels[name] for name in order)], dtype=np.uint8 if highest < 256 else np.uint16)
    counts = np.zeros(len(order) + 1, dtype=np.int64)

    def parts() -> Iterator[NDArray | None]:
        for ranks in rankSlabs(segmentationNode, order, reference):
            if ranks is None:
                yield None
                continue
            counts[:] += np.bincount(ranks.ravel(), minlength=len(counts))
            yield labelOfRank[ranks]

    yield from writeArraySteps(path, reference.shape, labelOfRank.dtype, parts())
    absent = [segmentation.GetSegment(order[rank - 1]).GetName() for rank in np.flatnonzero(counts == 0) if rank]
    if len(absent) == len(order):
        path.unlink(missing_ok=True)
        raise InputError(
            "labels-empty",
            f"No segment of {segmentationNode.GetName()} has a voxel inside of the image"
            + (f" ({', '.join(absent)})." if absent else "."),
            "Choose a segmentation that was drawn on this image.",
        )
    return specOf(path, reference, segmentationNode.GetName()), absent


def importSegmentationSteps(
    node: Any,
    path: Path,
    rasFromIjk: NDArray | Sequence[Sequence[float]],
    source: Any,
    labels: Mapping[str, int],
    referenceVolume: Any = None,
) -> Steps[Any]:
    """Fill a segmentation node from a labelmap: one shared layer, the source's names, colours, terminology and tags.

    Args:
        node: vtkMRMLSegmentationNode; its segments are replaced, its parent transform is taken away.
        path: ``.npy`` file of integers, (k, j, i).
        rasFromIjk: 4x4, mm.
        source: the segmentation node that the labels come from.
        labels: label by the source's segment id; the new segments have the same ids.
        referenceVolume: volume node whose grid later conversions use; None leaves that to Slicer.

    Returns:
        The node.

    Raises:
        FileError: ``file-not-found`` or ``file-not-readable``.
    """
    array = readArray(path)
    image = slicer.vtkOrientedImageData()
    dtype = np.uint8 if max(labels.values(), default=0) < 256 else np.uint16
    yield from fillImageSteps(image, array, dtype)
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(np.asarray(rasFromIjk, dtype=np.float64)))
    modifying = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        segmentation = node.GetSegmentation()
        segmentation.RemoveAllSegments()
        node.SetSourceRepresentationToBinaryLabelmap()
        for segmentId, label in labels.items():
            original = source.GetSegmentation().GetSegment(segmentId)
            segment = slicer.vtkSegment()
            segment.DeepCopyMetadata(original)
            segment.SetLabelValue(label)
            segment.AddRepresentation(BINARY_LABELMAP, image)
            segmentation.AddSegment(segment, segmentId)
            yield
        if referenceVolume is not None:
            node.SetReferenceImageGeometryParameterFromVolumeNode(referenceVolume)
    finally:
        node.EndModify(modifying)
    yield
    if node.GetDisplayNode() is None and node.GetScene() is not None:
        node.CreateDefaultDisplayNodes()
    return node


def _idsByName(segmentationNode: Any) -> dict[str, list[str]]:
    """Segment ids by plain name, in the order of the segmentation."""
    segmentation = segmentationNode.GetSegmentation()
    found: dict[str, list[str]] = {}
    for segmentId in segmentation.GetSegmentIDs():
        found.setdefault(segmentation.GetSegment(segmentId).GetName().strip().casefold(), []).append(segmentId)
    return found
