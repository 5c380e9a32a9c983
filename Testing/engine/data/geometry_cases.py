"""Geometry that hides no mistake: oblique, anisotropic, flipped, non-cubic; and judges built on SimpleITK alone."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from autofuse_engine.data.transform import GridStep, MatrixStep
from autofuse_engine.data.volume import Volume

RAS_SIGNS = np.array([-1.0, -1.0, 1.0])
SHAPE = (9, 11, 13)


def turn(axis: tuple[float, float, float], degrees: float) -> NDArray:
    """3x3 rotation about an axis by Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def placed(linear: NDArray, offset: tuple[float, float, float]) -> NDArray:
    """4x4 from a 3x3 part and an offset."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = offset
    return matrix


OBLIQUE = placed(turn((1, 2, -1), 40) @ np.diag([1.25, 2.5, 0.75]), (12.5, -33.0, 7.25))
"""Turned by 40 degrees, spacing 1.25 x 2.5 x 0.75 mm."""

FLIPPED = placed(turn((0, 1, 3), -25) @ np.diag([-2.0, 1.5, -1.0]) @ np.eye(3)[:, [2, 0, 1]], (-8.0, 21.0, 40.0))
"""Permuted axes and a reflection: a left-handed grid."""


def random_volume(matrix: NDArray = OBLIQUE, shape: tuple[int, int, int] = SHAPE, dtype: str = "float32") -> Volume:
    """Noise; integers use the whole range of small types."""
    generator = np.random.default_rng(7)
    if np.issubdtype(np.dtype(dtype), np.integer):
        array = generator.integers(0, 100, size=shape).astype(dtype)
    else:
        array = generator.normal(size=shape).astype(dtype)
    return Volume(array=array, ras_from_ijk=matrix, name="noise")


def random_grid(
    matrix: NDArray = OBLIQUE, shape: tuple[int, int, int] = SHAPE, size_mm: float = 3.0, dtype: str = "float64"
) -> GridStep:
    """A rough field: neighbouring vectors have nothing in common."""
    displacement = np.random.default_rng(11).normal(scale=size_mm, size=(*shape, 3)).astype(dtype)
    return GridStep(displacement_ras=displacement, ras_from_ijk=matrix)


def smooth_grid(matrix: NDArray = OBLIQUE, shape: tuple[int, int, int] = SHAPE, size_mm: float = 1.0) -> GridStep:
    """An invertible field of sines."""
    k, j, i = (axis / side for axis, side in zip(np.indices(shape), shape, strict=True))
    waves = [np.sin(5 * k + 2 * i), np.cos(4 * j - 3 * k), np.sin(3 * i + 2 * j + 1)]
    return GridStep(displacement_ras=size_mm * np.stack(waves, axis=-1), ras_from_ijk=matrix)


STRETCH = np.array([[1.1, 0.1, 0.0], [0.0, 0.9, -0.05], [0.0, 0.0, 1.05]])
AFFINE = MatrixStep(matrix_ras=placed(turn((2, -1, 1), 12) @ STRETCH, (3, -4, 5)))


def points_in(matrix: NDArray, shape: tuple[int, int, int], count: int = 300, beyond: float = 0.0) -> NDArray:
    """Random points, RAS, from ``beyond`` voxels outside of the first voxel to ``beyond`` outside of the last."""
    sides = np.array(shape[::-1])
    ijk = np.random.default_rng(3).uniform(-beyond, sides - 1 + beyond, size=(count, 3))
    return ijk @ matrix[:3, :3].T + matrix[:3, 3]


def itk_points(transform: sitk.Transform, points_ras: NDArray) -> NDArray:
    """What ITK makes of points, with the change of sign done here."""
    return np.array([transform.TransformPoint((point * RAS_SIGNS).tolist()) for point in points_ras]) * RAS_SIGNS


def itk_image(array: NDArray, ras_from_ijk: NDArray) -> sitk.Image:
    """A SimpleITK image placed by its own functions: corner by corner, not by the code under test."""
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    columns = ras_from_ijk[:3, :3] * RAS_SIGNS[:, None]
    lengths = np.sqrt((columns**2).sum(axis=0))
    image.SetSpacing(lengths.tolist())
    image.SetDirection((columns / lengths).flatten().tolist())
    image.SetOrigin((ras_from_ijk[:3, 3] * RAS_SIGNS).tolist())
    return image


def itk_field(grid: GridStep) -> sitk.DisplacementFieldTransform:
    """ITK's own displacement field of a grid."""
    return sitk.DisplacementFieldTransform(
        itk_image(grid.displacement_ras.astype(np.float64) * RAS_SIGNS, grid.ras_from_ijk)
    )


def itk_affine(step: MatrixStep) -> sitk.AffineTransform:
    """ITK's own affine transform of a matrix."""
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((step.matrix_ras[:3, :3] * np.outer(RAS_SIGNS, RAS_SIGNS)).flatten().tolist())
    affine.SetTranslation((step.matrix_ras[:3, 3] * RAS_SIGNS).tolist())
    return affine
