"""Segments on the grid of an image: each shared labelmap is read once, however many segments it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import slicer
import slicer.util
import vtk
from numpy.typing import NDArray

from autofuse_engine.errors import InputError
from AutoFuseLib.ArrayFiles import arrayOf
from AutoFuseLib.Geometry import Grid, mapPoints, nodeFromWorld, shapeOf
from AutoFuseLib.Resampling import Reslicer, resliceSlabs

BINARY_LABELMAP = "Binary labelmap"
_REFERENCE_GEOMETRY = "Reference image geometry"
_SAME_PLACE_VOXELS = 1e-3


class Box(NamedTuple):
    """Part of an array."""

    k: slice
    j: slice
    i: slice


def rankSlabs(segmentationNode: Any, segmentIds: Sequence[str], reference: Grid) -> Iterator[NDArray | None]:
    """Which of some segments lies at each voxel of a grid: 0 for none, n for the n-th; the later one wins.

    Args:
        segmentationNode: under whatever transforms; it is not changed.
        segmentIds: at most 65535.
        reference: grid in the world.

    Yields:
        Slabs (slices, j, i) along k, unsigned integers, the caller's own; None after work that fills no slab.

    Raises:
        InputError: ``segment-not-convertible``.
    """
    fromWorld = nodeFromWorld(segmentationNode)
    ranksOfImage: list[tuple[Any, dict[int, int]]] = []
    for rank, segmentId in enumerate(segmentIds, start=1):
        image, label, converted = _labelmap(segmentationNode, segmentId, fromWorld, reference)
        if converted:
            yield None
        if image is None:
            continue
        known = next((ranks for other, ranks in ranksOfImage if other is image), None)
        if known is None:
            known = {}
            ranksOfImage.append((image, known))
        known[label] = rank
    dtype = np.uint8 if len(segmentIds) < 256 else np.uint16
    layers = []
    for image, ranks in ranksOfImage:
        layers.append(_Layer(image, ranks, fromWorld, reference, dtype))
        yield None
    for part in resliceSlabs(reference):
        slab = np.zeros((part.stop - part.start, *reference.shape[1:]), dtype=dtype)
        for layer in layers:
            layer.addTo(slab, part)
        yield slab


class _Layer:
    """One labelmap that segments share."""

    def __init__(self, image: Any, ranks: dict[int, int], fromWorld: Any, reference: Grid, dtype: Any) -> None:
        ownFromIjk = ownFromIjkOf(image)
        highest = max(max(ranks), 0)
        self._rankOfLabel = np.zeros(highest + 2, dtype=dtype)
        """Its first and last entry are zero and stand for all labels of no segment."""
        for label, rank in ranks.items():
            if label > 0:
                self._rankOfLabel[label] = rank
        self._array = arrayOf(image)
        self._offset: NDArray | None = None
        self._box = Box(*(slice(0, count) for count in reference.shape))
        if isinstance(fromWorld, np.ndarray):
            referenceFromOwn = np.linalg.inv(fromWorld @ reference.rasFromIjk) @ ownFromIjk
            self._offset = _wholeShift(referenceFromOwn, shapeOf(image))
            self._box = _boxAround(referenceFromOwn, filledBox(self._array), reference.shape)
        self._reslicer = Reslicer(image, ownFromIjk, reference, through=fromWorld, linear=False)

    def addTo(self, slab: NDArray, part: slice) -> None:
        """Put the ranks of this layer over those of a slab, where they are higher."""
        k = slice(max(self._box.k.start, part.start), min(self._box.k.stop, part.stop))
        box = self._box._replace(k=k)
        if any(side.start >= side.stop for side in box):
            return
        if self._offset is None:
            labels = self._reslicer.values(box)
        else:
            shifts = zip(box, self._offset[::-1], strict=True)
            labels = self._array[tuple(slice(side.start - shift, side.stop - shift) for side, shift in shifts)]
        ranks = np.take(self._rankOfLabel, labels, mode="clip")
        target = slab[k.start - part.start : k.stop - part.start, box.j, box.i]
        np.maximum(target, ranks, out=target)


def ownFromIjkOf(image: Any) -> NDArray[np.float64]:
    """4x4 of a vtkOrientedImageData; (0, 0, 0) is the first voxel of its array, wherever its extent begins."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    first = np.eye(4)
    first[:3, 3] = image.GetExtent()[::2]
    return slicer.util.arrayFromVTKMatrix(matrix) @ first


def filledBox(array: NDArray) -> Box:
    """The smallest box with all voxels that are not zero; empty if there are none."""
    slices = np.flatnonzero(array.any(axis=(1, 2)))
    if not len(slices):
        return Box(slice(0, 0), slice(0, 0), slice(0, 0))
    k = slice(int(slices[0]), int(slices[-1]) + 1)
    shadow = array[k].any(axis=0)
    rows, columns = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    return Box(k, slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))


def _boxAround(referenceFromOwn: NDArray, filled: Box, limits: tuple[int, int, int]) -> Box:
    """The voxels of the reference whose centres lie in a box of a layer, or on its border."""
    ends = [(side.start - 0.5, side.stop - 0.5) for side in (filled.i, filled.j, filled.k)]
    corners = mapPoints(referenceFromOwn, np.array(list(product(*ends))))
    lowest = np.ceil(corners.min(axis=0) - _SAME_PLACE_VOXELS).astype(int)[::-1]
    highest = np.floor(corners.max(axis=0) + _SAME_PLACE_VOXELS).astype(int)[::-1] + 1
    sides = zip(lowest, highest, limits, strict=True)
    return Box(*(slice(max(0, int(low)), min(limit, int(high))) for low, high, limit in sides))


def _wholeShift(referenceFromOwn: NDArray, shape: tuple[int, int, int]) -> NDArray | None:
    """(i, j, k) by which the layer's first voxel lies off the reference's, where all voxels coincide; else None."""
    shift = np.rint(referenceFromOwn[:3, 3]).astype(int)
    corners = np.array(Grid(np.eye(4), shape).corners())
    apart = np.abs(mapPoints(referenceFromOwn, corners) - corners - shift).max()
    return shift if apart < _SAME_PLACE_VOXELS else None


def _labelmap(node: Any, segmentId: str, fromWorld: Any, reference: Grid) -> tuple[Any, int, bool]:
    """The labelmap of a segment (None if empty), its label there, and whether it had to be computed."""
    segment = node.GetSegmentation().GetSegment(segmentId)
    image = segment.GetRepresentation(BINARY_LABELMAP)
    converted = image is None
    if converted:
        segment = _converted(node, segmentId, fromWorld, reference)
        image = segment.GetRepresentation(BINARY_LABELMAP)
    empty = image.IsEmpty() or image.GetPointData().GetScalars() is None
    return None if empty else image, segment.GetLabelValue(), converted


def _converted(node: Any, segmentId: str, fromWorld: Any, reference: Grid) -> Any:
    """A copy of a segment with a binary labelmap, on the reference's grid where the transforms between are linear."""
    segmentation = node.GetSegmentation()
    copy = slicer.vtkSegmentation()
    copy.SetSourceRepresentationName(segmentation.GetSourceRepresentationName())
    copy.CopyConversionParameters(segmentation)
    if isinstance(fromWorld, np.ndarray):
        place = slicer.vtkOrientedImageData()
        place.SetDimensions(*reference.shape[::-1])
        place.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(fromWorld @ reference.rasFromIjk))
        geometry = slicer.vtkSegmentationConverter.SerializeImageGeometry(place)
        copy.SetConversionParameter(_REFERENCE_GEOMETRY, geometry)
    copy.CopySegmentFromSegmentation(segmentation, segmentId)
    if not copy.CreateRepresentation(BINARY_LABELMAP):
        raise InputError(
            "segment-not-convertible",
            f"The segment {segmentation.GetSegment(segmentId).GetName()} of {node.GetName()} cannot be turned into "
            "voxels.",
            "Create its binary labelmap in the Segmentations module, or choose another segment.",
        )
    return copy.GetSegment(segmentId)
