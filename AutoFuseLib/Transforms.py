"""Transforms of a result in Slicer's scene: one linear oriented grid, from parent, which any module can use.

``warped(x) = moving(transform(x))``, x in the fixed image: the transform is what Slicer calls *from parent* for things
that are put under the node. See docs/coordinates.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from numpy.typing import NDArray

from AutoFuseLib.ArrayFiles import arrayOf
from AutoFuseLib.Chains import displacementSlab, latticeOf, readChain
from AutoFuseLib.Geometry import Grid
from AutoFuseLib.Steps import Steps

INVERSE_TOLERANCE_MM = 1e-3
"""How exactly VTK undoes the grid for points: finer than its own 0.01 mm, coarser than the rounding of its places."""

_NODES_A_PIECE = 100_000


def importTransformSteps(
    node: Any, chain: Sequence[Mapping[str, Any]], files: Mapping[str, str | Path], covering: Grid
) -> Steps[Any]:
    """Fill a grid transform node from a chain of the worker's report.

    Inside of its grid the node is the chain itself, up to rounding. The grid holds the box of ``covering`` too; beyond
    it Slicer goes on with the border's displacement, and programs on ITK with the identity. Where neither the grid's
    own nodes nor a limit of memory matter, see :func:`AutoFuseLib.Chains.latticeOf`.

    Args:
        node: vtkMRMLGridTransformNode; it is modified once, at the end, and loses its parent transform.
        chain: ``transform`` or ``inverse`` of the report.
        files: ``files`` of the result; read until this is done.
        covering: grid of the image whose points are moved, in the world: the fixed image for ``transform``, the moving
            image for ``inverse``.

    Returns:
        The node.

    Raises:
        FileError: ``file-not-found`` or ``file-not-readable``.
    """
    steps = readChain(chain, files)
    lattice = latticeOf(steps, covering)
    depth, height, width = lattice.grid.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, depth)
    image.AllocateScalars(vtk.VTK_DOUBLE, 3)
    yield
    values = arrayOf(image)
    count = max(1, _NODES_A_PIECE // (height * width))
    for start in range(0, depth, count):
        part = slice(start, min(depth, start + count))
        values[part] = displacementSlab(steps, lattice, part)
        yield
    modifying = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        node.SetAndObserveTransformFromParent(orientedGrid(image, lattice.grid.rasFromIjk))
    finally:
        node.EndModify(modifying)
    return node


def orientedGrid(image: Any, rasFromIjk: NDArray) -> Any:
    """A vtkOrientedGridTransform, linear, of an image of displacements (three components, RAS mm).

    Args:
        image: vtkImageData; its origin and spacing are set.
        rasFromIjk: 4x4; place of its nodes. The axes need not be at right angles.
    """
    spacing = np.linalg.norm(rasFromIjk[:3, :3], axis=0)
    directions = np.eye(4)
    directions[:3, :3] = rasFromIjk[:3, :3] / spacing
    image.SetSpacing(*spacing.tolist())
    image.SetOrigin(*rasFromIjk[:3, 3].tolist())
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetGridDirectionMatrix(slicer.util.vtkMatrixFromArray(directions))
    makeLinear(grid)
    return grid


def makeLinear(transform: Any) -> None:
    """Interpolate grids linearly, as they were computed: Slicer reads them from files as cubic ones.

    Args:
        transform: any vtkAbstractTransform; concatenated ones are gone through, other kinds left alone.
    """
    if transform.IsA("vtkGeneralTransform"):
        for number in range(transform.GetNumberOfConcatenatedTransforms()):
            makeLinear(transform.GetConcatenatedTransform(number))
    elif transform.IsA("vtkGridTransform"):
        for direction in (transform, transform.GetInverse()):
            direction.SetInterpolationModeToLinear()
            direction.SetInverseTolerance(INVERSE_TOLERANCE_MM)


def makeNodeLinear(node: Any) -> None:
    """:func:`makeLinear` for a transform node that was read from a file."""
    for direction in (node.GetTransformFromParent(), node.GetTransformToParent()):
        if direction is not None:
            makeLinear(direction)
    node.TransformModified()
