"""Resample a volume slab by slab through any transform, with VTK's reslicer and without touching the scene."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray

from AutoFuseLib.ArrayFiles import arrayOf
from AutoFuseLib.Geometry import Grid, linearTransform

VOXELS_A_PIECE = 150_000
"""A voxel takes some 0.2 microseconds through a chain of non-linear transforms."""


class Reslicer:
    """Values of an image at the voxels of another grid, box by box, of the image's own type."""

    def __init__(
        self,
        source: Any,
        sourceRasFromIjk: NDArray,
        target: Grid,
        *,
        through: Any = None,
        linear: bool = True,
        background: float = 0.0,
    ) -> None:
        """Connect without computing anything.

        Args:
            source: vtkImageData, one or more components.
            sourceRasFromIjk: 4x4; place of its voxels in its own coordinates, the first one is (0, 0, 0).
            target: where values are wanted, in the world.
            through: from the world to the source's own coordinates, a 4x4 array or a vtkAbstractTransform; None where
                they are the same.
            linear: trilinear interpolation; else the nearest voxel.
            background: value outside of the image, which ends half a voxel beyond its outermost voxels' centres.
        """
        reslice = vtk.vtkImageReslice()
        reslice.SetInputData(_inIndices(source))
        reslice.SetResliceTransform(_sourceFromTarget(target, through, np.linalg.inv(sourceRasFromIjk)))
        if linear:
            reslice.SetInterpolationModeToLinear()
        else:
            reslice.SetInterpolationModeToNearestNeighbor()
        reslice.SetBackgroundColor(background, background, background, background)
        reslice.SetOutputOrigin(0.0, 0.0, 0.0)
        reslice.SetOutputSpacing(1.0, 1.0, 1.0)
        self._reslice = reslice

    def values(self, box: tuple[slice, slice, slice]) -> NDArray:
        """A box (k, j, i) of the target; valid until the next call."""
        k, j, i = box
        self._reslice.SetOutputExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
        self._reslice.Update()
        return arrayOf(self._reslice.GetOutput())


def resampledSlabs(source: Any, sourceRasFromIjk: NDArray, target: Grid, **options: Any) -> Iterator[NDArray]:
    """All values of the target, slab after slab along k; the arguments are those of :class:`Reslicer`."""
    reslicer = Reslicer(source, sourceRasFromIjk, target, **options)
    _, height, width = target.shape
    for part in resliceSlabs(target):
        yield reslicer.values((part, slice(0, height), slice(0, width)))


def resliceSlabs(target: Grid) -> Iterator[slice]:
    """Ranges along k that take some 30 ms each at most."""
    depth, height, width = target.shape
    count = max(1, VOXELS_A_PIECE // (height * width))
    for start in range(0, depth, count):
        yield slice(start, min(depth, start + count))


def _inIndices(source: Any) -> Any:
    """The same voxels in an image whose places are their indices, the first (0, 0, 0)."""
    image = vtk.vtkImageData()
    image.ShallowCopy(source)
    extent = source.GetExtent()
    image.SetExtent(*(end - extent[number - number % 2] for number, end in enumerate(extent)))
    image.SetOrigin(0.0, 0.0, 0.0)
    image.SetSpacing(1.0, 1.0, 1.0)
    image.SetDirectionMatrix(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return image


def _sourceFromTarget(target: Grid, through: Any, sourceIjkFromRas: NDArray) -> Any:
    """From voxels of the target to voxels of the source; one matrix where that is possible, as VTK is fast then."""
    if through is None or isinstance(through, np.ndarray):
        return linearTransform(sourceIjkFromRas @ (np.eye(4) if through is None else through) @ target.rasFromIjk)
    chain = vtk.vtkGeneralTransform()
    chain.PostMultiply()
    chain.Concatenate(linearTransform(target.rasFromIjk))
    chain.Concatenate(through)
    chain.Concatenate(linearTransform(sourceIjkFromRas))
    return chain
