"""Volumes that the visual checks compute: the moving image on the fixed grid, a checkerboard, a difference.

Everything is made as an array, in small pieces; a node is touched at the very end, so work that is given up leaves
nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import slicer.util
import vtk
from numpy.typing import NDArray
from vtk.util import numpy_support

from AutoFuseLib.ArrayFiles import arrayOf, slabs
from AutoFuseLib.Geometry import Grid, linearTransform, mapPoints, nodeFromWorld, rasFromIjkOf, setRasFromIjk
from AutoFuseLib.HiddenNodes import newHiddenNode
from AutoFuseLib.Resampling import resampledSlabs
from AutoFuseLib.Steps import Steps

_SURVEY_VOXELS = 1 << 18
_SAME_PLACE_MM = 1e-3

Range = tuple[float, float]


def intensityRange(values: NDArray) -> Range:
    """What shows as black and as white: the 0.5th percentile, and the 99.5th of what is brighter than average.

    Two images of one kind, scaled by their own ranges to 0..1, can be compared whatever their units. Values that are
    not finite do not count; the result is never empty.
    """
    survey = _survey(values)
    if not survey.size:
        return 0.0, 1.0
    low, most = (float(value) for value in np.percentile(survey, (0.5, 99.9)))
    bright = survey[survey > np.clip(survey, low, most).mean()]
    high = float(np.percentile(bright, 99.5)) if bright.size else low
    return (low, high) if high > low else (low, low + 1.0)


def highest99(values: NDArray) -> float:
    """99.5th percentile of the finite values of a map (k, j, i); 0 without any."""
    survey = _survey(values)
    return float(np.percentile(survey, 99.5)) if survey.size else 0.0


def onGridSteps(volumeNode: Any, grid: Grid, *, through: Any = None, ignoreParent: bool = False) -> Steps[NDArray]:
    """An image at the voxels of a grid, float32 (k, j, i), trilinear; NaN outside of the image.

    Args:
        volumeNode: its parent transforms count, also those that are not linear.
        grid: in the world.
        through: vtkAbstractTransform from the world to where the image is looked up; None for none.
        ignoreParent: take the image as if it had no parent transform.
    """
    source = volumeNode.GetImageData()
    place = rasFromIjkOf(volumeNode)
    free = ignoreParent or volumeNode.GetParentTransformNode() is None
    if through is None and free and source.GetDimensions()[::-1] == grid.shape:
        ends = mapPoints(grid.rasFromIjk, grid.shape[::-1]) - mapPoints(place, grid.shape[::-1])
        if np.abs(ends).max() < _SAME_PLACE_MM and np.abs(place - grid.rasFromIjk).max() < _SAME_PLACE_MM:
            values = yield from _floatSteps(source)
            return values
    image = yield from _floatImageSteps(source)
    used = None if free else nodeFromWorld(volumeNode)
    if through is not None:
        used = _chain(through, used)
    result = np.empty(grid.shape, np.float32)
    filled = 0
    for slab in resampledSlabs(image, place, grid, through=used, background=float("nan")):
        result[filled : filled + len(slab)] = slab
        filled += len(slab)
        yield
    return result


def checkerboardSteps(
    fixed: NDArray, other: NDArray, fixedRange: Range, otherRange: Range, grid: Grid, squareMm: float
) -> Steps[NDArray]:
    """Cubes of the fixed and of the other image in turn, float32 (k, j, i), in the fixed image's intensities.

    Args:
        fixed: (k, j, i).
        other: same shape; NaN becomes the fixed image's black.
        fixedRange: black and white of the fixed image.
        otherRange: those of the other one; mapped onto ``fixedRange``.
        grid: of both. The cubes lie along right, anterior and superior; the middle of the grid is a common corner.
        squareMm: their sides.
    """
    middle = mapPoints(grid.rasFromIjk, (np.array(grid.shape[::-1]) - 1) / 2)
    steps = np.asarray(grid.rasFromIjk[:3, :3], dtype=np.float64)
    scale = (fixedRange[1] - fixedRange[0]) / (otherRange[1] - otherRange[0])
    j, i = np.indices(grid.shape[1:], dtype=np.float64)

    def part(chosen: slice, result: NDArray) -> None:
        for k in range(chosen.start, chosen.stop):
            parity = np.zeros(grid.shape[1:], np.int64)
            for axis in range(3):
                place = grid.rasFromIjk[axis, 3] - middle[axis] + steps[axis, 2] * k
                parity += np.floor((place + steps[axis, 0] * i + steps[axis, 1] * j) / squareMm).astype(np.int64)
            matched = (np.nan_to_num(other[k], nan=otherRange[0]) - otherRange[0]) * scale + fixedRange[0]
            result[k] = np.where(parity % 2 == 0, fixed[k], matched)

    result = yield from _inSlabsSteps(grid.shape, part)
    return result


def differenceSteps(fixed: NDArray, other: NDArray, fixedRange: Range, otherRange: Range) -> Steps[NDArray]:
    """Other minus fixed, each scaled to 0..1 and clipped; float32 (k, j, i) in -1..1, and 0 where ``other`` is NaN."""

    def part(chosen: slice, result: NDArray) -> None:
        difference = scaled(other[chosen], otherRange) - scaled(fixed[chosen], fixedRange)
        result[chosen] = np.nan_to_num(difference, nan=0.0)

    result = yield from _inSlabsSteps(fixed.shape, part)
    return result


def scaled(values: NDArray, blackWhite: Range) -> NDArray[np.float32]:
    """Intensities as 0 (black) to 1 (white), clipped; NaN stays."""
    black, white = blackWhite
    return np.clip((values.astype(np.float32) - np.float32(black)) / np.float32(white - black), 0, 1)


def newHiddenVolume(name: str) -> Any:
    """A hidden scalar volume with a display node."""
    node = newHiddenNode("vtkMRMLScalarVolumeNode", name)
    display = newHiddenNode("vtkMRMLScalarVolumeDisplayNode", f"{name} display")
    display.SetAutoWindowLevel(False)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    node.SetAndObserveDisplayNodeID(display.GetID())
    return node


def fillVolume(node: Any, values: NDArray, grid: Grid) -> None:
    """Put an array (k, j, i) on a grid into a volume without parent transform; the node keeps the array."""
    image = vtk.vtkImageData()
    image.SetDimensions(*grid.shape[::-1])
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(np.ascontiguousarray(values).reshape(-1)))
    with slicer.util.NodeModify(node):
        setRasFromIjk(node, grid.rasFromIjk)
        node.SetAndObserveImageData(image)


def inverseOf(matrix: NDArray) -> Any:
    """vtkTransform of the inverse of a 4x4."""
    return linearTransform(np.linalg.inv(np.asarray(matrix, dtype=np.float64)))


def _survey(values: NDArray) -> NDArray[np.float64]:
    """Every n-th finite voxel along each axis, enough for percentiles."""
    step = max(1, int(np.ceil((values.size / _SURVEY_VOXELS) ** (1 / 3))))
    survey = np.asarray(values[::step, ::step, ::step], dtype=np.float64)
    return survey[np.isfinite(survey)]


def _chain(first: Any, then: Any) -> Any:
    """A vtkGeneralTransform of a VTK transform and a 4x4 array, a VTK transform, or None."""
    chain = vtk.vtkGeneralTransform()
    chain.PostMultiply()
    chain.Concatenate(first)
    if then is not None:
        chain.Concatenate(linearTransform(then) if isinstance(then, np.ndarray) else then)
    return chain


def _inSlabsSteps(shape: tuple[int, int, int], part: Callable[[slice, NDArray], None]) -> Steps[NDArray]:
    result = np.empty(shape, np.float32)
    for chosen in slabs(shape, 16):
        part(chosen, result)
        yield
    return result


def _floatSteps(imageData: Any) -> Steps[NDArray]:
    values = arrayOf(imageData)
    if values.dtype == np.float32:
        return values

    def part(chosen: slice, result: NDArray) -> None:
        result[chosen] = values[chosen]

    result = yield from _inSlabsSteps(values.shape, part)
    return result


def _floatImageSteps(imageData: Any) -> Steps[Any]:
    values = yield from _floatSteps(imageData)
    image = vtk.vtkImageData()
    image.SetDimensions(*imageData.GetDimensions())
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(np.ascontiguousarray(values).reshape(-1)))
    return image
