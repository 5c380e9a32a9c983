"""Where voxels of Slicer's nodes lie in the world: matrices, grids of voxels, and chains of parent transforms.

Everything is RAS and mm. Arrays are (k, j, i); matrices take (i, j, k, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import slicer.util
import vtk
from numpy.typing import NDArray

RIGHT_ANGLE_TOLERANCE = 1e-3
"""Largest cosine between voxel axes; the engine refuses more."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Places of voxels.

    Attributes:
        rasFromIjk: 4x4, float64, mm; voxel (0, 0, 0) is the first of the array.
        shape: (k, j, i), numbers of voxels.
    """

    rasFromIjk: NDArray[np.float64]
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rasFromIjk", np.array(self.rasFromIjk, dtype=np.float64))
        if self.rasFromIjk.shape != (4, 4) or len(self.shape) != 3:
            raise ValueError(f"a grid has a 4x4 matrix and (k, j, i), received {self.rasFromIjk.shape}, {self.shape}")

    @classmethod
    def ofVolume(cls, volumeNode: Any) -> Grid:
        """The voxels of a volume in the world, as they are exported; see :func:`worldGrid`."""
        return worldGrid(volumeNode, volumeNode.GetParentTransformNode())

    @classmethod
    def ofArray(cls, path: Path, rasFromIjk: Sequence[Sequence[float]] | NDArray) -> Grid:
        """The voxels of a ``.npy`` file (k, j, i) or (k, j, i, components); only its header is read."""
        depth, height, width = np.load(path, mmap_mode="r", allow_pickle=False).shape[:3]
        return cls(np.array(rasFromIjk), (depth, height, width))

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) along i, j, k, mm."""
        return np.linalg.norm(self.rasFromIjk[:3, :3], axis=0)

    def corners(self) -> NDArray[np.float64]:
        """(8, 3), mm: the outer corners of the corner voxels, half a voxel beyond their centres."""
        ends = [(-0.5, count - 0.5) for count in self.shape[::-1]]
        return mapPoints(self.rasFromIjk, np.array(list(product(*ends))))


def mapPoints(matrix: NDArray, points: NDArray) -> NDArray[np.float64]:
    """Take points (..., 3) through a 4x4 matrix."""
    return np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def isSheared(rasFromIjk: NDArray) -> bool:
    """Whether the voxel axes are not at right angles; false for axes without length, which are another fault."""
    lengths = np.linalg.norm(rasFromIjk[:3, :3], axis=0)
    if not (lengths > 0).all():
        return False
    directions = rasFromIjk[:3, :3] / lengths
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() > RIGHT_ANGLE_TOLERANCE)


def shapeOf(imageData: Any) -> tuple[int, int, int]:
    """(k, j, i) of a vtkImageData."""
    width, height, depth = imageData.GetDimensions()
    return depth, height, width


def rasFromIjkOf(volumeNode: Any) -> NDArray[np.float64]:
    """4x4 of a volume without its parent transforms; (0, 0, 0) is the first voxel of its array."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    rasFromIjk = slicer.util.arrayFromVTKMatrix(matrix)
    if volumeNode.GetImageData() is not None:
        first = np.array(volumeNode.GetImageData().GetExtent()[::2], dtype=np.float64)
        rasFromIjk[:3, 3] += rasFromIjk[:3, :3] @ first
    return rasFromIjk


def isLinear(parent: Any) -> bool:
    """Whether a parent transform, with all its own parents, is linear; true for None, which is no transform."""
    return parent is None or bool(parent.IsTransformToWorldLinear())


def hasLinearParent(node: Any) -> bool:
    """:func:`isLinear` for what a node lies under."""
    return isLinear(node.GetParentTransformNode())


def worldFromParent(parent: Any) -> NDArray[np.float64]:
    """4x4 of a transform node and all its parents; the identity for None.

    Raises:
        ValueError: if one of them is not linear.
    """
    matrix = vtk.vtkMatrix4x4()
    if parent is not None and not parent.GetMatrixTransformToWorld(matrix):
        raise ValueError(f"the transform {parent.GetName()} is not linear")
    return slicer.util.arrayFromVTKMatrix(matrix)


def worldRasFromIjk(volumeNode: Any) -> NDArray[np.float64]:
    """4x4 from voxels of a volume to the world, linear parent transforms included; see :func:`worldFromParent`."""
    return worldFromParent(volumeNode.GetParentTransformNode()) @ rasFromIjkOf(volumeNode)


def setRasFromIjk(volumeNode: Any, rasFromIjk: NDArray) -> None:
    """Place a volume; left-handed and oblique axes are kept."""
    volumeNode.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.asarray(rasFromIjk, dtype=np.float64)))


def linearTransform(matrix: NDArray) -> Any:
    """A vtkTransform of a 4x4."""
    transform = vtk.vtkTransform()
    transform.SetMatrix(slicer.util.vtkMatrixFromArray(np.asarray(matrix, dtype=np.float64)))
    return transform


def localFromWorld(parent: Any) -> Any:
    """The map from the world into the coordinates of what lies under a transform node, as it is now.

    Args:
        parent: vtkMRMLTransformNode or None.

    Returns:
        4x4 array where it is linear, else a vtkAbstractTransform of its own.
    """
    if isLinear(parent):
        return np.linalg.inv(worldFromParent(parent))
    chain = vtk.vtkGeneralTransform()
    parent.GetTransformFromWorld(chain)
    own = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.DeepCopyTransform(own, chain)
    return own


def nodeFromWorld(node: Any) -> Any:
    """:func:`localFromWorld` for what a node lies under."""
    return localFromWorld(node.GetParentTransformNode())


def worldGrid(volumeNode: Any, parent: Any) -> Grid:
    """Where the voxels of a volume lie in the world if ``parent`` (a transform node or None) were its parent.

    Under a transform that bends or shears, this is a regular grid that holds the whole volume: its axes and spacing
    follow the volume as far as right angles allow (an affine map is fitted to places all over the volume, and the
    rotation next to it taken).
    """
    if liesRegularly(volumeNode, parent):
        return Grid(worldFromParent(parent) @ rasFromIjkOf(volumeNode), shapeOf(volumeNode.GetImageData()))
    sides = [np.linspace(-0.5, count - 0.5, 9) for count in shapeOf(volumeNode.GetImageData())[::-1]]
    points = np.array(list(product(*sides)))
    toWorld = vtk.vtkGeneralTransform()
    if parent is not None:
        parent.GetTransformToWorld(toWorld)
    world = np.array([toWorld.TransformPoint(*point) for point in mapPoints(rasFromIjkOf(volumeNode), points)])
    affine = np.linalg.lstsq(np.column_stack([points, np.ones(len(points))]), world, rcond=None)[0].T
    return _gridAround(affine[:, :3], world)


def regularGridAround(rasFromIjk: NDArray, shape: tuple[int, int, int]) -> Grid:
    """A grid with axes at right angles that holds a sheared one, in about the same spacing."""
    return _gridAround(rasFromIjk[:3, :3], Grid(rasFromIjk, shape).corners())


def _gridAround(axes: NDArray, points: NDArray) -> Grid:
    """The grid next to three voxel axes, columns in mm, whose voxels hold all points (N, 3)."""
    spacing = np.linalg.norm(axes, axis=0)
    left, _, right = np.linalg.svd(axes / spacing)
    regular = (left @ right) * spacing
    places = points @ np.linalg.inv(regular).T
    lowest, highest = places.min(axis=0), places.max(axis=0)
    counts = np.maximum(1, np.ceil(highest - lowest - 1e-6)).astype(int)
    rasFromIjk = np.eye(4)
    rasFromIjk[:3, :3] = regular
    rasFromIjk[:3, 3] = regular @ ((lowest + highest - counts + 1) / 2)
    return Grid(rasFromIjk, (int(counts[2]), int(counts[1]), int(counts[0])))


def liesRegularly(volumeNode: Any, parent: Any) -> bool:
    """Whether the voxels of a volume under ``parent`` lie at right angles and evenly in the world."""
    return isLinear(parent) and not isSheared(worldFromParent(parent) @ rasFromIjkOf(volumeNode))
