"""What users bring, done to a moving image on purpose: turned, moved, scaled, shaded, noisy, coarse, cut off.

A disturbance returns the disturbed image and the 4x4 matrix (RAS, mm) that took the patient to its new place, so that
labels, which stay undisturbed, can follow by their header alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from autofuse_engine.data.resample import resample_image
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.data.volume import AxisOrder, Volume

AXIS_RAS = np.array([0.48, 0.6, 0.64])
"""Unit vector about which images are turned: oblique to all axes."""
SHIFT_MM = (25.0, -15.0, 20.0)
CROPPED = 0.2
"""Share of the extent that the cropped image lacks, on the side where its last voxel axis begins."""

Disturbed = tuple[Volume, NDArray[np.float64]]


def rotated(image: Volume, degrees: float) -> Disturbed:
    """Turned about the middle of the field of view: the grid turns along, so that no value changes."""
    angle, (x, y, z) = np.deg2rad(degrees), AXIS_RAS
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    return placed(image, about_middle(image, turn))


def scaled(image: Volume, factor: float) -> Disturbed:
    """Larger or smaller by a factor, about the middle."""
    return placed(image, about_middle(image, factor * np.eye(3)))


def translated(image: Volume) -> Disturbed:
    """Moved by :data:`SHIFT_MM`."""
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT_MM
    return placed(image, matrix)


def about_middle(image: Volume, linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """4x4 matrix that applies ``linear`` and leaves the middle of the image where it is."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = image.center_ras - linear @ image.center_ras
    return matrix


def placed(image: Volume, matrix_ras: NDArray[np.float64]) -> Disturbed:
    """The image with another header: the patient moved by the matrix."""
    return replace(image, ras_from_ijk=matrix_ras @ image.ras_from_ijk), matrix_ras


def shaded(image: Volume, strength: float = 0.4, seed: int = 3) -> Disturbed:
    """A smooth factor between ``1 - strength`` and ``1 + strength``, as uneven coils make it."""
    nodes = np.random.default_rng(seed).uniform(-1, 1, (3, 3, 3))
    factor = 1 + strength * zoom(nodes, [side / 3 for side in image.shape], order=1)
    return unmoved(image, image.array.astype(np.float32) * factor.astype(np.float32))


def noisy(image: Volume, share: float = 0.05, seed: int = 4) -> Disturbed:
    """Noise with a standard deviation of a share of the 99th percentile; Rician, as in magnitude images."""
    array = image.array.astype(np.float32)
    parts = np.random.default_rng(seed).normal(0, share * np.percentile(array, 99), (2, *array.shape))
    return unmoved(image, np.hypot(array + parts[0], parts[1]).astype(np.float32))


def rescaled_intensities(image: Volume) -> Disturbed:
    """Other units and another contrast curve: 1000 times the value to the power 0.7, plus 200."""
    array = image.array.astype(np.float32)
    return unmoved(image, 1000 * (array / max(float(array.max()), 1e-6)) ** 0.7 + 200)


def unmoved(image: Volume, array: NDArray) -> Disturbed:
    """Other values in the same place."""
    return image.with_array(array), np.eye(4)


def at_spacing(image: Volume, spacing_mm: float) -> Disturbed:
    """The same field of view at another spacing; blurred first, as thicker voxels average."""
    old = image.spacing_mm
    sigma_vox = [0.42 * spacing_mm / one if spacing_mm > one else 0.0 for one in reversed(old)]
    blurred = image.with_array(gaussian_filter(image.array.astype(np.float32), sigma_vox))
    sides = [max(8, round(side * one / spacing_mm)) for side, one in zip(image.shape, reversed(old), strict=True)]
    matrix = image.ras_from_ijk.copy()
    matrix[:3, :3] = image.directions_ras * spacing_mm
    corner = (np.array([spacing_mm] * 3) / old - 1) / 2  # the outer faces stay where they are
    matrix[:3, 3] = image.ras_from_ijk[:3, :3] @ corner + image.ras_from_ijk[:3, 3]
    grid = Volume(array=np.zeros(sides, np.uint8), ras_from_ijk=matrix, name=image.name)
    return resample_image(blurred, SpatialTransform(steps=(MatrixStep(matrix_ras=np.eye(4)),)), grid), np.eye(4)


def stored_otherwise(image: Volume) -> Disturbed:
    """Axes in another order, two of them mirrored; every voxel keeps its place in the patient."""
    return image.reordered(AxisOrder(order=(2, 0, 1), flips=(True, False, True))), np.eye(4)


def cropped(image: Volume) -> Disturbed:
    """The first :data:`CROPPED` of the slices are missing."""
    first = round(CROPPED * image.shape[0])
    matrix = image.ras_from_ijk.copy()
    matrix[:3, 3] += first * matrix[:3, 2]
    return Volume(array=image.array[first:].copy(), ras_from_ijk=matrix, name=image.name), np.eye(4)


DISTURBANCES: Mapping[str, Callable[[Volume], Disturbed]] = {
    "none": lambda image: (image, np.eye(4)),
    "rotation 10 degrees": lambda image: rotated(image, 10),
    "rotation 20 degrees": lambda image: rotated(image, 20),
    "rotation 30 degrees": lambda image: rotated(image, 30),
    "translation 35 mm": translated,
    "scaling 0.85": lambda image: scaled(image, 0.85),
    "scaling 1.15": lambda image: scaled(image, 1.15),
    "bias field 40 %": shaded,
    "noise 5 %": noisy,
    "other intensity scale": rescaled_intensities,
    "1 mm input": lambda image: at_spacing(image, 1.0),
    "3 mm input": lambda image: at_spacing(image, 3.0),
    "axes permuted and flipped": stored_otherwise,
    "field of view cropped 20 %": cropped,
}
"""By the name under which tables show them; the first one is what all others are compared with."""
