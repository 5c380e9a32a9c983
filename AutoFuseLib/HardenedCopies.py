"""Copies of nodes that hold the effect of transforms in their own data; the originals are only read."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from numpy.typing import NDArray
from vtk.util import numpy_support

from AutoFuseLib.ArrayFiles import arrayOf
from AutoFuseLib.Geometry import Grid, rasFromIjkOf, setRasFromIjk
from AutoFuseLib.Resampling import Reslicer, resliceSlabs
from AutoFuseLib.SegmentLayers import BINARY_LABELMAP, filledBox, ownFromIjkOf
from AutoFuseLib.Steps import Steps


def fromWorldThrough(transformNode: Any, parent: Any) -> Any:
    """The map from the world into what lies under ``parent``, if ``parent`` were put under ``transformNode``.

    Args:
        transformNode: vtkMRMLTransformNode, or None to leave ``parent`` where it is.
        parent: vtkMRMLTransformNode or None.

    Returns:
        vtkGeneralTransform; its inverse is the map to the world.
    """
    chain = vtk.vtkGeneralTransform()
    chain.PostMultiply()
    for node in (transformNode, parent):
        if node is not None:
            part = vtk.vtkGeneralTransform()
            node.GetTransformFromWorld(part)
            chain.Concatenate(part)
    return chain


def hardenedVolumeSteps(node: Any, fromWorld: Any, grid: Grid, name: str) -> Steps[Any]:
    """A new volume on a grid: linear, or nearest voxel for labelmaps; type, colours and window are kept.

    Args:
        node: scalar, labelmap or vector volume.
        fromWorld: from the world to the coordinates of its data.
        grid: of the new volume, in the world.
        name: of the new volume.
    """
    labels = node.IsA("vtkMRMLLabelMapVolumeNode")
    source = node.GetImageData()
    background = 0.0 if labels else backgroundOf(arrayOf(source))
    reslicer = Reslicer(source, rasFromIjkOf(node), grid, through=fromWorld, linear=not labels, background=background)
    image = yield from _filledSteps(vtk.vtkImageData(), reslicer, grid, source.GetNumberOfScalarComponents())
    copy = _newCopy(node, node.GetClassName(), name)
    setRasFromIjk(copy, grid.rasFromIjk)
    copy.SetAndObserveImageData(image)
    yield
    _copyDisplay(node, copy)
    return copy


def hardenedSegmentationSteps(node: Any, fromWorld: Any, grid: Grid, name: str) -> Steps[Any]:
    """A new segmentation: labelmaps on a grid, layer by layer, so that overlaps stay; or surfaces, moved.

    Args:
        node: vtkMRMLSegmentationNode.
        fromWorld: from the world to the coordinates of its data.
        grid: of the new labelmaps, in the world.
        name: of the new segmentation.
    """
    source = node.GetSegmentation()
    representation = source.GetSourceRepresentationName()
    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    copy.GetSegmentation().SetSourceRepresentationName(representation)
    moved: list[tuple[Any, Any]] = []
    for segmentId in source.GetSegmentIDs():
        original = source.GetSegment(segmentId)
        data = original.GetRepresentation(representation)
        own = next((own for other, own in moved if other is data), None)
        if own is None:
            if representation == BINARY_LABELMAP:
                own = yield from _movedLabelsSteps(data, fromWorld, grid)
            else:
                own = _movedSurface(data, fromWorld)
            moved.append((data, own))
        segment = slicer.vtkSegment()
        segment.DeepCopyMetadata(original)
        segment.SetLabelValue(original.GetLabelValue())
        segment.AddRepresentation(representation, own)
        copy.GetSegmentation().AddSegment(segment, segmentId)
        yield
    _copyDisplay(node, copy)
    return copy


def hardenedPointsSteps(node: Any, fromWorld: Any, name: str) -> Steps[Any]:
    """New markups, a new model or a new transform, moved point by point.

    Args:
        node: vtkMRMLTransformableNode with a content that Slicer can transform.
        fromWorld: from the world to the coordinates of its data.
        name: of the new node.
    """
    isTransform = node.IsA("vtkMRMLTransformNode")
    copy = _newCopy(node, "vtkMRMLTransformNode" if isTransform else node.GetClassName(), name)
    yield
    copy.ApplyTransform(fromWorld.GetInverse())
    yield
    if not isTransform:
        _copyDisplay(node, copy)
    return copy


def backgroundOf(array: NDArray) -> float:
    """What lies around an image, as in the engine: zero, or the lowest value of its border where that is below."""
    faces = [array[0], array[-1], array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1]]
    return min(0.0, *(float(face.min()) for face in faces))


def _filledSteps(image: Any, reslicer: Reslicer, grid: Grid, components: int) -> Steps[Any]:
    """Allocate an image like the grid and fill it slab by slab."""
    depth, height, width = grid.shape
    target = None
    for part in resliceSlabs(grid):
        values = reslicer.values((part, slice(0, height), slice(0, width)))
        if target is None:
            image.SetDimensions(width, height, depth)
            image.AllocateScalars(numpy_support.get_vtk_array_type(values.dtype), components)
            target = arrayOf(image)
        target[part] = values
        yield
    return image


def _movedLabelsSteps(data: Any, fromWorld: Any, grid: Grid) -> Steps[Any]:
    image = slicer.vtkOrientedImageData()
    if data is None or data.IsEmpty() or data.GetPointData().GetScalars() is None:
        return image
    reslicer = Reslicer(data, ownFromIjkOf(data), grid, through=fromWorld, linear=False)
    yield from _filledSteps(image, reslicer, grid, 1)
    box = filledBox(arrayOf(image))
    cropped = slicer.vtkOrientedImageData()
    if box.k.start < box.k.stop:
        cropped.SetExtent(*(end for side in (box.i, box.j, box.k) for end in (side.start, side.stop - 1)))
        cropped.AllocateScalars(image.GetScalarType(), 1)
        arrayOf(cropped)[...] = arrayOf(image)[box]
    cropped.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(np.asarray(grid.rasFromIjk)))
    yield
    return cropped


def _movedSurface(data: Any, fromWorld: Any) -> Any:
    mover = vtk.vtkTransformPolyDataFilter()
    mover.SetInputData(data)
    mover.SetTransform(fromWorld.GetInverse())
    mover.Update()
    return mover.GetOutput()


def _newCopy(node: Any, className: str, name: str) -> Any:
    """A node of the same content in the scene, without parent transform, display, storage and provenance."""
    copy = slicer.mrmlScene.CreateNodeByClass(className)
    copy.UnRegister(None)
    copy.CopyContent(node, not node.IsA("vtkMRMLVolumeNode"))  # the voxels of a volume are replaced anyway
    copy.SetName(slicer.mrmlScene.GenerateUniqueName(name) if slicer.mrmlScene.GetFirstNodeByName(name) else name)
    slicer.mrmlScene.AddNode(copy)
    return copy


def _copyDisplay(node: Any, copy: Any) -> None:
    """A display like the original's; the window of a volume is its window too, not computed again."""
    original = node.GetDisplayNode()
    if original is None:
        copy.CreateDefaultDisplayNodes()
        return
    display = slicer.mrmlScene.AddNewNodeByClass(original.GetClassName())
    display.CopyContent(original)
    if hasattr(display, "SetAutoWindowLevel"):
        display.SetAutoWindowLevel(False)
    if original.GetColorNodeID():
        display.SetAndObserveColorNodeID(original.GetColorNodeID())
    copy.SetAndObserveDisplayNodeID(display.GetID())
