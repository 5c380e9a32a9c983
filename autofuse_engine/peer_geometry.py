"""Between volumes in RAS and the images of packages that are built on ITK, which count in LPS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.files import LPS_FROM_RAS
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume, map_points

_SIGNS = LPS_FROM_RAS.diagonal()[:3]


@dataclass(frozen=True, kw_only=True)
class LpsPlacement:
    """Where an image lies, as ITK says it: ``origin`` of the first voxel and ``spacing`` in mm, both in x, y, z or
    i, j, k order, and ``direction`` ``(3, 3)`` whose columns are the unit vectors of the axes i, j, k."""

    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]
    direction: NDArray[np.float64]


def placement_of(volume: Volume) -> LpsPlacement:
    """The place of a volume in LPS."""
    lps_from_ijk = LPS_FROM_RAS @ volume.ras_from_ijk
    spacing = np.linalg.norm(lps_from_ijk[:3, :3], axis=0)
    x, y, z = (float(value) for value in lps_from_ijk[:3, 3])
    i, j, k = (float(value) for value in spacing)
    return LpsPlacement(origin=(x, y, z), spacing=(i, j, k), direction=lps_from_ijk[:3, :3] / spacing)


def lps_matrix(matrix_ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """4x4 between points in LPS that does what ``matrix_ras`` does between points in RAS."""
    return LPS_FROM_RAS @ matrix_ras @ LPS_FROM_RAS


def grid_of_lps(displacement_lps: NDArray, place: Volume) -> GridStep:
    """A grid on the voxels of ``place`` from vectors ``(D, H, W, 3)``, mm, LPS."""
    if displacement_lps.shape != (*place.shape, 3):
        raise ValueError(f"the vectors have the shape {(*place.shape, 3)}, received {displacement_lps.shape}")
    return GridStep(displacement_ras=displacement_lps * _SIGNS, ras_from_ijk=place.ras_from_ijk)


def grid_then_matrix(displacement_lps: NDArray, place: Volume, matrix_ras: NDArray[np.float64]) -> SpatialTransform:
    """The chain grid, matrix of a whole transform that is known at the voxel centres of ``place``.

    The grid holds ``inverse(matrix)(transform(x)) - x``, so that beyond it the matrix alone remains.

    Args:
        displacement_lps: ``(D, H, W, 3)``, mm, LPS: ``transform(x) - x`` with the matrix in it.
        place: gives the grid.
        matrix_ras: 4x4, the linear part.
    """
    k, j, i = np.indices(place.shape).reshape(3, -1)
    centres = map_points(place.ras_from_ijk, np.stack([i, j, k], axis=1))
    landed = centres + displacement_lps.reshape(-1, 3).astype(np.float64) * _SIGNS
    rest = map_points(np.linalg.inv(matrix_ras), landed) - centres
    grid = GridStep(displacement_ras=rest.reshape(*place.shape, 3), ras_from_ijk=place.ras_from_ijk)
    return SpatialTransform(steps=(grid, MatrixStep(matrix_ras=matrix_ras)))


def values_of(volume: Volume) -> NDArray[np.float32]:
    """The volume's values ``(D, H, W)`` as contiguous float32, which all peers compute with."""
    return np.ascontiguousarray(volume.array, dtype=np.float32)
