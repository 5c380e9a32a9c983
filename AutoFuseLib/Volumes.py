"""Volumes between Slicer's scene and the worker's files: what may be registered, export, import.

Arrays keep their type and lie in the world: linear parent transforms go into the matrix, other ones are applied by
resampling. No node is changed by an export.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray
from vtk.util import numpy_support

from autofuse_engine.errors import InputError
from AutoFuseLib.ArrayFiles import arrayOf, readArray, slabs, writeArraySteps
from AutoFuseLib.Geometry import (
    Grid,
    hasLinearParent,
    liesRegularly,
    localFromWorld,
    rasFromIjkOf,
    setRasFromIjk,
    shapeOf,
    worldRasFromIjk,
)
from AutoFuseLib.Resampling import resampledSlabs
from AutoFuseLib.Steps import Steps

SMALLEST_SIDE = 8
"""Voxels; the engine refuses less."""

LARGEST_VOXEL_COUNT = 2**31 - 1
"""The engine refuses more: better said before gigabytes are written."""


def checkVolume(node: Any, role: str) -> None:
    """Require a 3D image with one number per voxel; values are left to the engine, which looks at them anyway.

    A volume that a sequence browser plays is taken at its current frame.

    Args:
        node: any MRML node, or None.
        role: how messages call it, for instance ``fixed image``.

    Raises:
        InputError: ``image-missing``, ``image-is-labelmap``, ``image-is-vector``, ``image-not-3d``,
            ``image-geometry-invalid``, ``image-too-small`` or ``image-too-large``.
    """
    if node is None:
        raise InputError("image-missing", f"No {role} is chosen.", "Choose a volume.")
    label = f"The {role} {node.GetName()}"
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError("image-not-3d", f"{label} is not a volume but a {node.GetNodeTagName()}.", "Choose a volume.")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(
            "image-is-labelmap",
            f"{label} is a labelmap, whose values are names and not intensities.",
            "Choose the image that it was drawn on, or convert it to a scalar volume in the Volumes module.",
        )
    image = node.GetImageData()
    points = None if image is None else image.GetPointData()
    tensors = points is not None and points.GetTensors() is not None
    if points is None or (points.GetScalars() is None and not tensors) or image.GetNumberOfPoints() == 0:
        raise InputError("image-missing", f"{label} holds no voxels.", "Load its file again, or choose another volume.")
    components = 9 if tensors else image.GetNumberOfScalarComponents()
    if components != 1:
        raise InputError(
            "image-is-vector",
            f"{label} holds {components} numbers per voxel.",
            "Extract one time frame, direction or colour as a scalar volume first.",
        )
    _checkPlace(node, label)


def _checkPlace(node: Any, label: str) -> None:
    rasFromIjk = rasFromIjkOf(node)
    spacing = np.linalg.norm(rasFromIjk[:3, :3], axis=0)
    if not np.isfinite(rasFromIjk).all() or not (spacing > 0).all() or abs(np.linalg.det(rasFromIjk[:3, :3])) == 0:
        shown = " x ".join(f"{side:g}" for side in spacing)
        raise InputError(
            "image-geometry-invalid",
            f"{label} has the voxel spacing {shown} mm and cannot be placed.",
            "The spacing must be above zero and the axes must differ: correct them in the Volumes module.",
        )
    if hasLinearParent(node) and abs(np.linalg.det(worldRasFromIjk(node)[:3, :3])) < 1e-12:
        raise InputError(
            "image-geometry-invalid",
            f"{label} lies under a transform that flattens space.",
            "Correct the transform, or take the volume out of it.",
        )
    shape = shapeOf(node.GetImageData())
    shown = " x ".join(str(side) for side in shape[::-1])
    if min(shape) == 1:
        raise InputError(
            "image-not-3d", f"{label} has {shown} voxels: it is a single slice.", "Choose a volume of many slices."
        )
    if min(shape) < SMALLEST_SIDE:
        raise InputError(
            "image-too-small",
            f"{label} has {shown} voxels.",
            f"Each side needs at least {SMALLEST_SIDE} voxels: choose a 3D image or a larger crop.",
        )
    if node.GetImageData().GetNumberOfPoints() > LARGEST_VOXEL_COUNT:
        raise InputError(
            "image-too-large",
            f"{label} has {shown} voxels.",
            f"Crop or resample it to at most {LARGEST_VOXEL_COUNT} voxels first.",
        )


def exportVolumeSteps(node: Any, path: Path) -> Steps[dict[str, Any]]:
    """Write a volume as the worker wants it.

    Where a parent transform is not linear, or shears the voxels, the file holds the volume resampled (linear) onto a
    regular grid around it; the node keeps its transform and its voxels.

    Args:
        node: passes :func:`checkVolume`.
        path: the ``.npy`` file; its folder exists.

    Returns:
        ``{"array": file name, "ras_from_ijk": 4x4 as lists, "name": node's name}``.

    Raises:
        FileError: ``disk-full`` or ``output-not-writable``.
    """
    image, parent = node.GetImageData(), node.GetParentTransformNode()
    array = arrayOf(image)
    grid = Grid.ofVolume(node)
    if liesRegularly(node, parent):
        parts: Iterator[NDArray] = (array[part] for part in slabs(array.shape, array.itemsize))
    else:
        yield
        through, lowest = localFromWorld(parent), float(array.min())
        parts = resampledSlabs(image, rasFromIjkOf(node), grid, through=through, background=lowest)
    yield from writeArraySteps(path, grid.shape, array.dtype, parts)
    return specOf(path, grid, node.GetName())


def exportLabelSteps(node: Any, reference: Grid, path: Path) -> Steps[dict[str, Any]]:
    """Write a labelmap on another grid (nearest voxel); its integer type is kept.

    Args:
        node: vtkMRMLLabelMapVolumeNode.
        reference: the grid of the exported image.
        path: the ``.npy`` file; its folder exists.

    Returns:
        As :func:`exportVolumeSteps`.

    Raises:
        InputError: ``image-missing`` or ``labels-not-integer``.
        FileError: ``disk-full`` or ``output-not-writable``.
    """
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise InputError("image-missing", f"The labelmap {node.GetName()} holds no voxels.", "Choose another one.")
    dtype = arrayOf(image).dtype
    if not np.issubdtype(dtype, np.integer):
        raise InputError(
            "labels-not-integer",
            f"The labelmap {node.GetName()} holds values of the type {dtype}.",
            "Choose a labelmap, whose values are whole numbers.",
        )
    parts = labelSlabs(node, reference)
    yield from writeArraySteps(path, reference.shape, dtype, parts)
    return specOf(path, reference, node.GetName())


def specOf(path: Path, grid: Grid, name: str) -> dict[str, Any]:
    """The entry of a job for an array that was written."""
    return {"array": path.name, "ras_from_ijk": grid.rasFromIjk.tolist(), "name": name}


def labelSlabs(node: Any, reference: Grid) -> Iterator[NDArray]:
    """Values of a labelmap at the voxels of a grid, slab by slab; copies where the grids agree."""
    parent = node.GetParentTransformNode()
    if liesRegularly(node, parent):
        own = Grid.ofVolume(node)
        if own.shape == reference.shape and np.abs(own.corners() - reference.corners()).max() < 1e-3:
            array = arrayOf(node.GetImageData())
            yield from (array[part] for part in slabs(array.shape, array.itemsize))
            return
    through = localFromWorld(parent)
    yield from resampledSlabs(node.GetImageData(), rasFromIjkOf(node), reference, through=through, linear=False)


def importVolumeSteps(node: Any, path: Path, rasFromIjk: Any) -> Steps[Any]:
    """Fill a scalar or labelmap volume node from a ``.npy`` file; it is placed in the world, without a parent.

    The image and its place change once, at the end: until then the node shows what it showed before. A node of a scene
    without a display gets one, whose window leaves out the darkest and the brightest thousandth.

    Args:
        node: vtkMRMLScalarVolumeNode or vtkMRMLLabelMapVolumeNode.
        path: (k, j, i).
        rasFromIjk: 4x4, mm.

    Returns:
        The node.

    Raises:
        FileError: ``file-not-found`` or ``file-not-readable``.
    """
    source = readArray(path)
    image = vtk.vtkImageData()
    yield from fillImageSteps(image, source)
    if node.GetDisplayNode() is None and node.GetScene() is not None:
        _addDisplay(node, source)
        yield
    _show(node, image, np.asarray(rasFromIjk, dtype=np.float64))
    return node


def fillImageSteps(image: Any, source: NDArray, dtype: Any = None) -> Steps[None]:
    """Give an image that nobody shows yet the size and the values of an array (k, j, i)."""
    wanted = np.dtype(dtype or (np.uint8 if source.dtype == np.bool_ else source.dtype)).newbyteorder("=")
    depth, height, width = source.shape
    image.SetDimensions(width, height, depth)
    image.AllocateScalars(numpy_support.get_vtk_array_type(wanted), 1)
    target = arrayOf(image)
    for part in slabs(source.shape, wanted.itemsize):
        target[part] = source[part]
        yield


def _show(node: Any, image: Any, rasFromIjk: NDArray) -> None:
    """Put a finished image into a volume node: one change for all who watch it."""
    modifying = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        setRasFromIjk(node, rasFromIjk)
        node.SetAndObserveImageData(image)
    finally:
        node.EndModify(modifying)


def _addDisplay(node: Any, source: NDArray) -> None:
    """Slicer's own display, but its window from a sample: to count all voxels would hold up the event loop."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        return
    setSampledWindow(display, source)


def setSampledWindow(display: Any, source: NDArray) -> None:
    """A window that leaves out the darkest and the brightest thousandth of a sample of the voxels.

    Slicer's own counts all voxels as soon as the image is there, 0.1 s for 5 million.
    """
    sample = np.asarray(source[::3, ::3, ::3], dtype=np.float32)
    finite = sample[np.isfinite(sample)]
    low, high = np.quantile(finite, (0.001, 0.999)) if finite.size else (0.0, 1.0)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(float(low), float(high if high > low else low + 1))
