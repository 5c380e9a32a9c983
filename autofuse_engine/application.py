"""Apply a transform to other images, labelmaps and point lists.

A registration's ``transform`` carries objects from the moving image to the fixed image, its ``inverse`` the other
way round. Images are resampled, ``warped(x) = moving(transform(x))``; points go through the numerical inverse of the
same transform, so that a landmark stays on its anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class ApplyOptions:
    """How to carry an object.

    Attributes:
        labels: the image is a labelmap: keep its type and its values.
        nearest: of a labelmap, take the nearest voxel's label instead of the label with the largest linear weight.
        background: value outside of an image; None means zero, or the lowest value of its border where that is below
            zero, as in CT.
    """

    labels: bool = False
    nearest: bool = False
    background: float | None = None

    def __post_init__(self) -> None:
        if self.nearest and not self.labels:
            raise ValueError("nearest goes with labels, received nearest without labels")
        if self.labels and self.background is not None:
            raise ValueError(f"background is for images, labelmaps get 0, received {self.background!r}")


def apply_to_volume(
    transform: SpatialTransform, volume: Volume, reference: Volume, options: ApplyOptions | None = None
) -> Volume:
    """Carry an image or labelmap onto the reference's grid: ``warped(x) = volume(transform(x))``.

    Args:
        transform: takes points of the reference to points of the volume.
        volume: the image or labelmap.
        reference: gives the grid; for a registration's transform, the fixed image.
        options: see :class:`ApplyOptions`.

    Returns:
        An image in float32 (float64 where it is), a labelmap in its own type.

    Raises:
        InputError: where the geometry of one of both cannot be used, or ``labels-not-integer``.
    """
    options = options or ApplyOptions()
    for item, role in ((volume, "image"), (reference, "reference image")):
        check_geometry(item, role, smallest_side=1)
    if not options.labels:
        return resample_image(volume, transform, reference, background=options.background)
    if not np.issubdtype(volume.array.dtype, np.integer):
        raise InputError(
            "labels-not-integer",
            f"The labelmap {volume.name} holds values of the type {volume.array.dtype}.",
            "Choose a labelmap, whose values are whole numbers, or apply the transform to it as an image.",
        )
    return resample_labels(volume, transform, reference, nearest=options.nearest)


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


def apply_files(
    transform_path: str | Path,
    input_path: str | Path,
    output_path: str | Path,
    *,
    reference_path: str | Path | None = None,
    options: ApplyOptions | None = None,
    report: Report = silent,
) -> dict[str, Any]:
    """Read, carry and write an image, labelmap or point list, whichever the input is.

    Args:
        transform_path: anything that ``read_transform`` reads.
        input_path: an image, or a ``.mrk.json``, ``.fcsv`` or ``.csv`` point list.
        output_path: an image or a point list, as the input.
        reference_path: an image that gives the output's grid; needed for images, not used for points.
        options: see :class:`ApplyOptions`.
        report: receives progress and warnings.

    Returns:
        Figures that JSON can hold: ``kind``, and ``points`` or ``shape``.

    Raises:
        InputError: ``reference-needed``, and whatever reading, carrying and writing raise.
    """
    options = options or ApplyOptions()
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
    volume = read_labelmap(input_path) if options.labels else read_volume(input_path)
    reference = read_volume(reference_path)
    report(Progress(stage="outputs", fraction=0.3, text=f"carrying {volume.name}"))
    warped = apply_to_volume(transform, volume, reference, options)
    report(Progress(stage="saving", fraction=0.9, text=str(output_path)))
    write_volume(output_path, warped)
    return {"kind": "labels" if options.labels else "image", "shape": list(warped.shape)}
