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
        """The voxels of a volume in the world; its parent transforms, if any, are linear (else ValueError)."""
        return cls(worldRasFromIjk(volumeNode), shapeOf(volumeNode.GetImageData()))

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


def hasLinearParent(node: Any) -> bool:
    """True without a parent transform, too."""
    parent = node.GetParentTransformNode()
    return parent is None or bool(parent.IsTransformToWorldLinear())


def worldFromNode(node: Any) -> NDArray[np.float64]:
    """4x4 of all parent transforms of a node.

    Raises:
        ValueError: if one of them is not linear.
    """
    matrix = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if parent is not None and not parent.GetMatrixTransformToWorld(matrix):
        raise ValueError(f"the parent transform of {node.GetName()} is not linear")
    return slicer.util.arrayFromVTKMatrix(matrix)


def worldRasFromIjk(volumeNode: Any) -> NDArray[np.float64]:
    """4x4 from voxels of a volume to the world, linear parent transforms included; see :func:`worldFromNode`."""
    return worldFromNode(volumeNode) @ rasFromIjkOf(volumeNode)


def setRasFromIjk(volumeNode: Any, rasFromIjk: NDArray) -> None:
    """Place a volume; left-handed and oblique axes are kept."""
    volumeNode.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.asarray(rasFromIjk, dtype=np.float64)))


def linearTransform(matrix: NDArray) -> Any:
    """A vtkTransform of a 4x4."""
    transform = vtk.vtkTransform()
    transform.SetMatrix(slicer.util.vtkMatrixFromArray(np.asarray(matrix, dtype=np.float64)))
    return transform


def nodeFromWorld(node: Any) -> Any:
    """The map from the world into the coordinates of a node's own data, as its parent transforms are now.

    Returns:
        4x4 array where it is linear, else a vtkGeneralTransform.
    """
    if hasLinearParent(node):
        return np.linalg.inv(worldFromNode(node))
    transform = vtk.vtkGeneralTransform()
    node.GetParentTransformNode().GetTransformFromWorld(transform)
    return transform


def regularWorldGrid(volumeNode: Any) -> Grid:
    """A grid with axes at right angles that holds the whole volume where sheared or non-linear transforms put it.

    Its axes and spacing follow the volume as far as right angles allow: an affine map is fitted to places all over the
    volume, and the rotation next to it taken.
    """
    shape = shapeOf(volumeNode.GetImageData())
    sides = [np.linspace(-0.5, count - 0.5, 9) for count in shape[::-1]]
    points = np.array(list(product(*sides)))
    local = mapPoints(rasFromIjkOf(volumeNode), points)
    toWorld = vtk.vtkGeneralTransform()
    if volumeNode.GetParentTransformNode() is not None:
        volumeNode.GetParentTransformNode().GetTransformToWorld(toWorld)
    world = np.array([toWorld.TransformPoint(*point) for point in local])
    design = np.column_stack([points, np.ones(len(points))])
    affine = np.linalg.lstsq(design, world, rcond=None)[0].T
    spacing = np.linalg.norm(affine[:, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:, :3] / spacing)
    axes = (left @ right) * spacing
    places = world @ np.linalg.inv(axes).T
    lowest, highest = places.min(axis=0), places.max(axis=0)
    counts = np.maximum(1, np.ceil(highest - lowest - 1e-6)).astype(int)
    rasFromIjk = np.eye(4)
    rasFromIjk[:3, :3] = axes
    rasFromIjk[:3, 3] = axes @ ((lowest + highest - counts + 1) / 2)
    return Grid(rasFromIjk, (int(counts[2]), int(counts[1]), int(counts[0])))
