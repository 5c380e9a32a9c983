"""Carry images and labelmaps through any transform onto any grid, on the CPU: ``warped(x) = moving(transform(x))``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from autofuse_engine.data.files import LPS_FROM_RAS, to_sitk
from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.transform_files import transform_to_sitk
from autofuse_engine.data.volume import Volume, map_points

_VOXELS_AT_ONCE = 1 << 19
_TIE = 1e-9


def resample_image(
    image: Volume, transform: SpatialTransform, reference: Volume, *, background: float | None = None
) -> Volume:
    """Resample an image onto the reference's grid, trilinear.

    Args:
        image: the moving image, any scalar type.
        transform: takes points of the reference to points of the image.
        reference: gives the grid; its values do not matter.
        background: value outside of the image; None means :func:`background_value`.

    Returns:
        float64 where the image is, else float32.
    """
    precise = image.array.dtype == np.float64
    value = background_value(image) if background is None else background
    image_itk = sitk.Cast(to_sitk(image), sitk.sitkFloat64 if precise else sitk.sitkFloat32)
    warped = sitk.Resample(
        image_itk, _empty_grid(reference), transform_to_sitk(transform), sitk.sitkLinear, float(value)
    )
    return reference.with_array(sitk.GetArrayFromImage(warped), name=image.name)


def background_value(image: Volume) -> float:
    """What lies around an image: zero, or the lowest value of its border where that is below zero (air in CT)."""
    array = image.array
    faces = [array[0], array[-1], array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1]]
    return min(0.0, *(float(face.min()) for face in faces))


def resample_labels(
    labels: Volume,
    transform: SpatialTransform,
    reference: Volume,
    *,
    nearest: bool = False,
    between: Callable[[], None] = lambda: None,
) -> Volume:
    """Resample a labelmap onto the reference's grid; the type and the values of the labels are kept.

    By default each voxel takes the label with the largest sum of trilinear weights among the eight corners around
    it, which is the argmax over linearly resampled label masks; of equal sums the smallest label wins. Voxels outside
    of the labelmap are 0.

    Args:
        labels: integer labelmap.
        transform: takes points of the reference to points of the labelmap.
        reference: gives the grid.
        nearest: take the nearest voxel's label instead.
        between: called between pieces of the work; may raise to stop.
    """
    transform_itk = transform_to_sitk(transform)
    if nearest:
        warped = sitk.Resample(to_sitk(labels), _empty_grid(reference), transform_itk, sitk.sitkNearestNeighbor, 0)
        return reference.with_array(sitk.GetArrayFromImage(warped).astype(labels.array.dtype), name=labels.name)
    array = np.zeros(reference.shape, labels.array.dtype)
    ijk_from_lps = np.linalg.inv(LPS_FROM_RAS @ labels.ras_from_ijk)
    for slices, points_lps in _points_by_slab(reference, transform_itk):
        between()
        array[slices] = _vote(labels.array, map_points(ijk_from_lps, points_lps)).reshape(array[slices].shape)
    return reference.with_array(array, name=labels.name)


def _vote(labels: NDArray, points_ijk: NDArray[np.float64]) -> NDArray:
    """Label of the largest trilinear weight at ``(N, 3)`` index coordinates; 0 outside of the half-voxel margin."""
    sides = np.array(labels.shape[::-1])
    winner = np.zeros(len(points_ijk), labels.dtype)
    inside = np.flatnonzero(((points_ijk >= -0.5) & (points_ijk < sides - 0.5)).all(axis=1))
    clamped = np.clip(points_ijk[inside], 0, sides - 1)
    lower = np.minimum(np.floor(clamped).astype(np.int64), np.maximum(sides - 2, 0))
    strides = np.array([1, sides[0], sides[0] * sides[1]])
    offsets = [np.minimum(corner, sides - 1) @ strides for corner in np.ndindex(2, 2, 2)]
    corners = labels.reshape(-1)[(lower @ strides)[None] + np.array(offsets)[:, None]]
    winner[inside] = corners[0]
    mixed = np.flatnonzero((corners != corners[0]).any(axis=0))  # all others have one label around them
    corners, share = corners[:, mixed], (clamped - lower)[mixed]
    weights = np.stack([np.where(corner, share, 1 - share).prod(axis=1) for corner in np.ndindex(2, 2, 2)])
    best_label, best_sum = corners[0], np.zeros(len(mixed))
    for candidate in corners:
        candidate_sum = (weights * (corners == candidate)).sum(axis=0)
        tied = np.abs(candidate_sum - best_sum) <= _TIE
        better = np.where(tied, candidate < best_label, candidate_sum > best_sum)
        best_label, best_sum = np.where(better, candidate, best_label), np.where(better, candidate_sum, best_sum)
    winner[inside[mixed]] = best_label
    return winner


def _points_by_slab(reference: Volume, transform: sitk.Transform) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Points ``(N, 3)``, LPS mm, to which the transform takes the voxel centres of some slices at a time."""
    depth, height, width = reference.shape
    step = max(1, _VOXELS_AT_ONCE // (height * width))
    lps_from_ijk = LPS_FROM_RAS @ reference.ras_from_ijk
    spacing = reference.spacing_mm
    direction = (lps_from_ijk[:3, :3] / spacing).ravel().tolist()
    for start in range(0, depth, step):
        stop = min(depth, start + step)
        k, j, i = np.indices((stop - start, height, width)).reshape(3, -1)
        centres = map_points(lps_from_ijk, np.stack([i, j, k + start], axis=1))
        origin = map_points(lps_from_ijk, np.array([0, 0, start])).tolist()
        field = sitk.TransformToDisplacementField(
            transform, sitk.sitkVectorFloat64, (width, height, stop - start), origin, spacing.tolist(), direction
        )
        yield slice(start, stop), centres + sitk.GetArrayFromImage(field).reshape(-1, 3)


def _empty_grid(reference: Volume) -> sitk.Image:
    return to_sitk(reference.with_array(np.zeros(reference.shape, np.uint8)))
