"""Apply a transform to other images, labelmaps and point lists.

A registration's ``transform`` carries objects from the moving image to the fixed image, its ``inverse`` the other
way round. Images are resampled, ``warped(x) = moving(transform(x))``; points go through the numerical inverse of the
same transform, so that a landmark stays on its anatomy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autofuse_engine.data.checks import check_geometry
from autofuse_engine.data.files import read_labelmap, read_volume, write_volume
from autofuse_engine.data.points import PointList, is_point_file, read_points, write_points
from autofuse_engine.data.resample import resample_image, resample_labels
from autofuse_engine.data.transform import SpatialTransform, invert_points
from autofuse_engine.data.transform_files import read_transform
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import InputError
from autofuse_engine.events import Progress, Report, Warning, silent

_POINT_TOLERANCE_MM = 1e-4


def apply_to_image(
    transform: SpatialTransform, image: Volume, reference: Volume, *, background: float | None = None
) -> Volume:
    """Carry an image onto the reference's grid, trilinear: ``warped(x) = image(transform(x))``.

    Args:
        transform: takes points of the reference to points of the image.
        image: any scalar type.
        reference: gives the grid; for a registration's transform, the fixed image.
        background: value outside of the image; None means zero, or the lowest value of its border where that is
            below zero, as in CT.

    Returns:
        float64 where the image is, else float32.

    Raises:
        InputError: where the geometry of one of both cannot be used.
    """
    _check_grids(image, reference)
    return resample_image(image, transform, reference, background=background)


def apply_to_labels(transform: SpatialTransform, labels: Volume, reference: Volume, *, nearest: bool = False) -> Volume:
    """Carry a labelmap onto the reference's grid; its type and values are kept, outside is 0.

    Args:
        transform: takes points of the reference to points of the labelmap.
        labels: integer labelmap.
        reference: gives the grid.
        nearest: take the nearest voxel's label instead of the label with the largest trilinear weight.

    Raises:
        InputError: ``labels-not-integer``, or where the geometry of one of both cannot be used.
    """
    _check_grids(labels, reference)
    if not np.issubdtype(labels.array.dtype, np.integer):
        raise InputError(
            "labels-not-integer",
            f"The labelmap {labels.name} holds values of the type {labels.array.dtype}.",
            "Choose a labelmap, whose values are whole numbers, or apply the transform to it as an image.",
        )
    return resample_labels(labels, transform, reference, nearest=nearest)


def apply_to_points(transform: SpatialTransform, points: PointList, *, report: Report = silent) -> PointList:
    """Carry points in the direction in which the transform carries images: through its inverse, to 1e-4 mm.

    Where the transform folds, some points have no exact place; they get the nearest that was found, and a warning
    ``points-not-inverted`` tells how many they are and by how much they miss.
    """
    found = invert_points(transform, points.points_ras, _POINT_TOLERANCE_MM)
    missed = np.flatnonzero(~found.converged)
    if len(missed):
        report(
            Warning(
                code="points-not-inverted",
                text=f"{len(missed)} of {len(points.points_ras)} points of {points.name} have no exact place, because "
                f"the transform folds there; they miss by up to {found.error_mm.max():.3g} mm.",
            )
        )
    return points.with_points(found.points_ras)


def apply_transform(
    transform_path: str | Path,
    input_path: str | Path,
    reference_path: str | Path | None,
    output_path: str | Path,
    *,
    labels: bool = False,
    nearest: bool = False,
    background: float | None = None,
    report: Report = silent,
) -> dict[str, Any]:
    """Read, carry and write an image, labelmap or point list, whichever the input is.

    Args:
        transform_path: anything that ``read_transform`` reads.
        input_path: an image, or a ``.mrk.json``, ``.fcsv`` or ``.csv`` point list.
        reference_path: an image that gives the output's grid; needed for images, not used for points.
        output_path: an image or a point list, as the input.
        labels: the image is a labelmap: keep its type and its values.
        nearest: see :func:`apply_to_labels`; goes with ``labels``.
        background: see :func:`apply_to_image`; does not go with ``labels``.
        report: receives progress and warnings.

    Returns:
        Figures that JSON can hold: ``kind``, and ``points`` or ``shape``.

    Raises:
        InputError: ``reference-needed``, and whatever reading, carrying and writing raise.
    """
    if (nearest and not labels) or (background is not None and labels):
        raise ValueError(
            f"nearest goes with labels and background with images, received {labels=}, {nearest=}, {background=}"
        )
    transform = read_transform(transform_path)
    if is_point_file(input_path):
        points = read_points(input_path)
        report(Progress(stage="outputs", fraction=0.5, text=f"carrying {len(points.points_ras)} points"))
        write_points(output_path, apply_to_points(transform, points, report=report))
        return {"kind": "points", "points": len(points.points_ras)}
    if reference_path is None:
        raise InputError(
            "reference-needed",
            f"Carrying the image {input_path} needs a reference image for the grid of the result.",
            "Name the fixed image of the registration as reference (the moving image for the inverse transform).",
        )
    volume = read_labelmap(input_path) if labels else read_volume(input_path)
    reference = read_volume(reference_path)
    report(Progress(stage="outputs", fraction=0.3, text=f"carrying {volume.name}"))
    if labels:
        warped = apply_to_labels(transform, volume, reference, nearest=nearest)
    else:
        warped = apply_to_image(transform, volume, reference, background=background)
    report(Progress(stage="saving", fraction=0.9, text=str(output_path)))
    write_volume(output_path, warped)
    return {"kind": "labels" if labels else "image", "shape": list(warped.shape)}


def _check_grids(volume: Volume, reference: Volume) -> None:
    check_geometry(volume, "image", smallest_side=1)
    check_geometry(reference, "reference image", smallest_side=1)
