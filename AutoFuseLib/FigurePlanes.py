"""Axial, coronal and sagittal planes through a volume in the patient's axes, and what images show on them.

Radiological convention: the patient's right is on the left of axial and coronal pictures, anterior on the left of
sagittal ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer.util
import vtk
from numpy.typing import NDArray
from vtk.util import numpy_support

from AutoFuseLib.CheckVolumes import intensityRange
from AutoFuseLib.Geometry import Grid, mapPoints

_SURVEY_VOXELS = 1 << 18
_FOREGROUND_SHARE = 0.12
_MARGIN_SHARE = 0.04

_VIEWS = (("axial", 0, 1, "RLAP"), ("coronal", 0, 2, "RLSI"), ("sagittal", 1, 2, "APSI"))
"""Name, RAS axis that falls from left to right, RAS axis that falls from top to bottom, letters of the four sides."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A flat piece of the patient with square pixels.

    Attributes:
        name: axial, coronal or sagittal.
        grid: one slice of pixels, shape (1, rows, columns); row 0 is the top of the picture, column 0 its left.
        axes: RAS axes (0, 1, 2) along the columns and along the rows; both fall with the index.
        letters: which side of the patient lies left, right, at the top and at the bottom.
    """

    name: str
    grid: Grid
    axes: tuple[int, int]
    letters: str

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.grid.shape[1], self.grid.shape[2]

    @property
    def pixelMm(self) -> float:
        """Side of a pixel."""
        return float(self.grid.spacing[0])

    def points(self) -> NDArray[np.float64]:
        """(rows, columns, 3), RAS mm."""
        rows, columns = np.indices(self.shape)
        return mapPoints(self.grid.rasFromIjk, np.stack([columns, rows, np.zeros_like(rows)], axis=-1))


def planesThrough(volumeNode: Any, columns: int) -> tuple[Plane, ...]:
    """The planes through the middle of what stands out of the background, cropped to it, all at one scale.

    Args:
        volumeNode: under linear parent transforms.
        columns: pixels of the widest plane.
    """
    middle, low, high = _foregroundBox(volumeNode)
    size = high - low
    pixel = float(max(size[across] for _, across, _, _ in _VIEWS)) / columns
    planes: list[Plane] = []
    for name, across, down, letters in _VIEWS:
        shape = (1, max(8, round(size[down] / pixel)), max(8, round(size[across] / pixel)))
        place = np.eye(4)
        place[:3, :3] = 0.0
        place[across, 0] = place[down, 1] = -pixel
        place[3 - across - down, 2] = pixel
        place[:3, 3] = middle
        for axis, count in ((across, shape[2]), (down, shape[1])):
            place[axis, 3] = (low[axis] + high[axis]) / 2 + (count - 1) / 2 * pixel
        planes.append(Plane(name, Grid(place, shape), (across, down), letters))
    return tuple(planes)


def throughTransform(transform: Any, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take points (..., 3), RAS mm, through a vtkAbstractTransform."""
    given, moved = vtk.vtkPoints(), vtk.vtkPoints()
    for holder in (given, moved):
        holder.SetDataTypeToDouble()
    given.SetData(numpy_support.numpy_to_vtk(np.ascontiguousarray(points.reshape(-1, 3)), deep=1))
    transform.TransformPoints(given, moved)
    return numpy_support.vtk_to_numpy(moved.GetData()).reshape(points.shape).copy()


def _foregroundBox(volumeNode: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centre, lower and upper corner (3,) of what stands out of the background, RAS mm, with a small margin."""
    grid = Grid.ofVolume(volumeNode)
    array = slicer.util.arrayFromVolume(volumeNode)
    step = max(1, int(np.ceil((array.size / _SURVEY_VOXELS) ** (1 / 3))))
    survey = np.asarray(array[::step, ::step, ::step], dtype=np.float64)
    black, white = intensityRange(array)
    inside = survey > black + _FOREGROUND_SHARE * (white - black)
    found = np.argwhere(inside if inside.any() else np.ones_like(inside)) * step
    points = mapPoints(grid.rasFromIjk, found[:, ::-1])
    lower, upper = np.percentile(points, 0.2, axis=0), np.percentile(points, 99.8, axis=0)
    margin = max(float((upper - lower).max()) * _MARGIN_SHARE, float(grid.spacing.max()))
    corners = grid.corners()
    return points.mean(axis=0), np.maximum(lower - margin, corners.min(0)), np.minimum(upper + margin, corners.max(0))
