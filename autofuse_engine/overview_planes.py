"""Axial, coronal and sagittal planes through a volume, in the patient's axes however the file is stored.

Pictures follow the radiological convention: the patient's right is on the left of axial and coronal pictures,
anterior on the left of sagittal ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from autofuse_engine.data.overlap import foreground, intensity_range
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.spatial.warp import sample

_MARGIN_SHARE = 0.04
_MOST_PIXELS = 320
_FEWEST_PIXELS = 160
_SURVEY_VOXELS = 1 << 21

_VIEWS = (("axial", 0, 1, "RLAP"), ("coronal", 0, 2, "RLSI"), ("sagittal", 1, 2, "APSI"))
"""Name, RAS axis that falls from left to right, RAS axis that falls from top to bottom, letters of the four sides."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """A flat piece of the patient.

    Attributes:
        name: axial, coronal or sagittal.
        points_ras: ``(rows, columns, 3)``, mm; row 0 is the top of the picture, column 0 its left.
        axes_ras: RAS axes (0, 1, 2) along the columns and along the rows; both fall with the index.
        size_mm: width and height of the picture.
        letters: which side of the patient lies left, right, at the top and at the bottom.
    """

    name: str
    points_ras: NDArray[np.float64]
    axes_ras: tuple[int, int]
    size_mm: tuple[float, float]
    letters: str


def planes_through(volume: Volume) -> tuple[Plane, ...]:
    """Axial, coronal and sagittal plane through the centre of the foreground, cropped to it; square pixels."""
    center, low, high = foreground_box_ras(volume)
    pixel_mm = float(np.clip(volume.spacing_mm.min(), (high - low).max() / _MOST_PIXELS,
                             (high - low).max() / _FEWEST_PIXELS))  # fmt: skip
    planes: list[Plane] = []
    for name, across, down, letters in _VIEWS:
        columns = _falling(low[across], high[across], pixel_mm)
        rows = _falling(low[down], high[down], pixel_mm)
        points = np.tile(center, (len(rows), len(columns), 1))
        points[:, :, across] = columns
        points[:, :, down] = rows[:, None]
        size = (len(columns) * pixel_mm, len(rows) * pixel_mm)
        planes.append(Plane(name=name, points_ras=points, axes_ras=(across, down), size_mm=size, letters=letters))
    return tuple(planes)


def slice_of(volume: Volume, plane: Plane, *, nearest: bool = False) -> NDArray[np.float32]:
    """Values of a volume on a plane ``(rows, columns)``; NaN outside the volume's voxels.

    Args:
        volume: any place and orientation.
        plane: where to look.
        nearest: for labels; otherwise trilinear.
    """
    points_ijk = map_points(np.linalg.inv(volume.ras_from_ijk), plane.points_ras)
    inside = ((points_ijk >= -0.5) & (points_ijk <= np.array(volume.shape[::-1]) - 0.5)).all(axis=2)
    if nearest:
        index = np.clip(np.rint(points_ijk).astype(np.int64), 0, np.array(volume.shape[::-1]) - 1)
        values = volume.array[index[..., 2], index[..., 1], index[..., 0]].astype(np.float32)
    else:
        coordinates = torch.from_numpy(np.ascontiguousarray(points_ijk[..., ::-1].transpose(2, 0, 1)))
        image = torch.from_numpy(np.ascontiguousarray(volume.array, dtype=np.float32))
        values = sample(image[None, None], coordinates.float()[None, :, None])[0, 0, 0].numpy()
    return np.where(inside, values, np.float32(np.nan))


def display_range(volume: Volume) -> tuple[float, float]:
    """Intensities that a picture shows as black and white: the background and the foreground's 99.5th percentile."""
    values, _ = _survey(volume)
    low, high = intensity_range(values)
    bright = values[foreground(values)]
    high = float(np.percentile(bright, 99.5)) if bright.size else high
    return (low, high) if high > low else (low, low + 1.0)


def foreground_box_ras(volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centre, lower and upper corner ``(3,)`` of what stands out of the background, RAS mm, with a small margin."""
    values, step = _survey(volume)
    inside = foreground(values)
    found = np.argwhere(inside if inside.any() else np.ones_like(inside))
    points = map_points(volume.ras_from_ijk, found[:, ::-1] * step)
    lower, upper = np.percentile(points, 0.2, axis=0), np.percentile(points, 99.8, axis=0)
    margin = np.maximum((upper - lower).max() * _MARGIN_SHARE, volume.spacing_mm.max())
    corners = np.array(list(np.ndindex(2, 2, 2))) * np.array(volume.shape[::-1]) - 0.5
    view = map_points(volume.ras_from_ijk, corners)
    return points.mean(axis=0), np.maximum(lower - margin, view.min(0)), np.minimum(upper + margin, view.max(0))


def _survey(volume: Volume) -> tuple[NDArray[np.float32], int]:
    """Every n-th voxel along each axis as float, and n; enough for percentiles and the rough place of things."""
    step = max(1, int(np.ceil((volume.array.size / _SURVEY_VOXELS) ** (1 / 3))))
    return volume.array[::step, ::step, ::step].astype(np.float32), step


def _falling(low: float, high: float, pixel_mm: float) -> NDArray[np.float64]:
    count = max(2, round((high - low) / pixel_mm))
    return np.float64((low + high) / 2) + ((count - 1) / 2 - np.arange(count, dtype=np.float64)) * pixel_mm
