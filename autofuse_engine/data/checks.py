"""What an image, labelmap or mask must fulfil before registration: pure functions that raise with a cure."""

from __future__ import annotations

import numpy as np

from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import InputError

SMALLEST_SIDE = 8
"""Voxels. Networks pad each side to a multiple of 16: below 8 more than half of it would be padding."""

LARGEST_VOXEL_COUNT = 2**31 - 1
"""Indices of flattened arrays are 32-bit in ITK's and torch's fast paths."""

_RIGHT_ANGLE_TOLERANCE = 1e-3


def check_image(volume: Volume, role: str) -> None:
    """Require a finite image that is not constant, on a regular grid of sane size.

    Args:
        volume: the image.
        role: how messages begin, for instance ``fixed image``.

    Raises:
        InputError: ``image-geometry-invalid``, ``image-sheared``, ``image-too-small``, ``image-too-large``,
            ``image-not-scalar``, ``image-not-finite`` or ``image-constant``.
    """
    label = f"The {role} {volume.name}"
    check_geometry(volume, role)
    if not np.issubdtype(volume.array.dtype, np.number) or np.issubdtype(volume.array.dtype, np.complexfloating):
        raise InputError(
            "image-not-scalar",
            f"{label} holds values of the type {volume.array.dtype}.",
            "Choose an image of integers or floating-point numbers.",
        )
    bad = 0
    if np.issubdtype(volume.array.dtype, np.floating):
        bad = volume.array.size - int(np.isfinite(volume.array).sum())
    if bad:
        raise InputError(
            "image-not-finite",
            f"{label} holds {bad} values that are not finite (NaN or infinite).",
            "Replace them by the background value first.",
        )
    lowest = volume.array.min()
    if lowest == volume.array.max():
        raise InputError(
            "image-constant",
            f"{label} has the value {lowest:g} everywhere.",
            "Choose an image that shows something; a mask or an empty crop cannot be registered.",
        )


def check_geometry(volume: Volume, role: str, *, smallest_side: int = SMALLEST_SIDE) -> None:
    """Require finite placement, spacing above zero, axes at right angles and a sane size; see :func:`check_image`."""
    label = f"The {role} {volume.name}"
    if not np.isfinite(volume.ras_from_ijk).all() or not np.array_equal(volume.ras_from_ijk[3], (0, 0, 0, 1)):
        raise InputError(
            "image-geometry-invalid",
            f"{label} has an orientation matrix that cannot be used: {volume.ras_from_ijk.round(3).tolist()}.",
            "Save the image again with a program that shows it in its right place, for instance 3D Slicer.",
        )
    spacing = volume.spacing_mm
    if not (spacing > 0).all():
        raise InputError(
            "image-geometry-invalid",
            f"{label} has the voxel spacing {' x '.join(f'{side:g}' for side in spacing)} mm.",
            "The spacing must be above zero: correct it, for instance in the Volumes module of 3D Slicer.",
        )
    directions = volume.directions_ras
    if np.abs(directions.T @ directions - np.eye(3)).max() > _RIGHT_ANGLE_TOLERANCE:
        raise InputError(
            "image-sheared",
            f"The voxel axes of the {role} {volume.name} are not at right angles.",
            "Resample it onto a regular grid first; in 3D Slicer, harden its transform and use Resample Image.",
        )
    shown = " x ".join(str(side) for side in volume.shape[::-1])
    if min(volume.shape) < smallest_side:
        raise InputError(
            "image-too-small",
            f"{label} has {shown} voxels.",
            f"Each side needs at least {smallest_side} voxels: choose a 3D image or a larger crop.",
        )
    if volume.array.size > LARGEST_VOXEL_COUNT:
        raise InputError(
            "image-too-large",
            f"{label} has {shown} = {volume.array.size} voxels.",
            f"Crop or resample it to at most {LARGEST_VOXEL_COUNT} voxels first.",
        )


def check_labelmap(labels: Volume, image: Volume, role: str) -> None:
    """Require integer labels on the image's grid, at least one of them above background.

    Raises:
        InputError: ``labels-not-integer``, ``labels-grid-differs`` or ``labels-empty``.
    """
    if not np.issubdtype(labels.array.dtype, np.integer) and labels.array.dtype != np.bool_:
        raise InputError(
            "labels-not-integer",
            f"The {role} {labels.name} holds values of the type {labels.array.dtype}.",
            "Choose a labelmap, whose values are whole numbers.",
        )
    if not labels.same_grid(image):
        raise InputError("labels-grid-differs", *_grids_differ(labels, image, role))
    if not labels.array.any():
        raise InputError(
            "labels-empty", f"The {role} {labels.name} holds background only.", "Choose a labelmap with a label in it."
        )


def check_mask(mask: Volume, image: Volume, role: str) -> None:
    """Require a mask on the image's grid with at least one voxel that is not zero.

    Raises:
        InputError: ``mask-grid-differs`` or ``mask-empty``.
    """
    if not mask.same_grid(image):
        raise InputError("mask-grid-differs", *_grids_differ(mask, image, role))
    if not mask.array.any():
        raise InputError(
            "mask-empty", f"The {role} {mask.name} is empty.", "Mark the region to register, or leave the mask out."
        )


def check_pair(fixed: Volume, moving: Volume) -> None:
    """Check both images, and that they are two.

    Raises:
        InputError: as :func:`check_image`; ``same-image-twice`` where both are one object, or equal copies.
    """
    if fixed is moving or fixed.array is moving.array or _are_equal(fixed, moving):
        raise InputError(
            "same-image-twice",
            f"The image {fixed.name} was chosen as fixed and as moving image.",
            "Choose two different images.",
        )
    check_image(fixed, "fixed image")
    check_image(moving, "moving image")


def _are_equal(fixed: Volume, moving: Volume) -> bool:
    """True for the same file read twice, or a copy of it under another name."""
    return np.array_equal(fixed.ras_from_ijk, moving.ras_from_ijk) and np.array_equal(fixed.array, moving.array)


def _grids_differ(other: Volume, image: Volume, role: str) -> tuple[str, str]:
    """Sentence and cure."""
    sizes = [" x ".join(str(side) for side in volume.shape[::-1]) for volume in (other, image)]
    difference = f"{sizes[0]} against {sizes[1]} voxels" if sizes[0] != sizes[1] else "their places differ"
    return (
        f"The {role} {other.name} does not lie on the grid of the image {image.name} ({difference}).",
        "Resample it onto the image's grid with nearest-neighbour interpolation.",
    )
