"""Voxel coordinates, and the affine maps between the voxel grids of two volumes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IJK_FROM_KJI = np.eye(4)[[2, 1, 0, 3]]
"""Reverses the order of the three axes: tensor order (k, j, i) to (i, j, k) and back."""


def voxel_grid(
    shape: tuple[int, ...], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Coordinates of all voxels: ``(1, 3, D, H, W)``, voxels; channel ``c`` counts along tensor axis ``c + 2``."""
    axes = [torch.arange(size, device=device, dtype=dtype) for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def voxel_map(
    target_ras_from_ijk: NDArray[np.float64],
    source_ras_from_ijk: NDArray[np.float64],
    source_from_target_ras: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """4x4 map from voxels of the target grid to voxels of the source grid, both in tensor order (k, j, i).

    Args:
        target_ras_from_ijk: 4x4, the grid that is walked over (the fixed image).
        source_ras_from_ijk: 4x4, the grid that is looked up (the moving image).
        source_from_target_ras: 4x4, RAS mm, between the two spaces; identity when None.
    """
    between = np.eye(4) if source_from_target_ras is None else source_from_target_ras
    ijk_map = np.linalg.inv(source_ras_from_ijk) @ between @ target_ras_from_ijk
    return IJK_FROM_KJI @ ijk_map @ IJK_FROM_KJI


def apply_matrix(matrix: NDArray[np.float64], coordinates: Tensor) -> Tensor:
    """Map coordinates ``(B, 3, ...)`` by a 4x4 matrix in the same axis order; shape, type and device are kept."""
    linear = torch.as_tensor(matrix[:3, :3], dtype=coordinates.dtype, device=coordinates.device)
    offset = torch.as_tensor(matrix[:3, 3], dtype=coordinates.dtype, device=coordinates.device)
    flat = coordinates.flatten(2)
    return (linear @ flat + offset[None, :, None]).view(coordinates.shape)


def spacing_of(ras_from_ijk: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(3,)`` lengths of the voxel axes in mm, tensor order (k, j, i)."""
    return np.linalg.norm(ras_from_ijk[:3, :3], axis=0)[::-1].copy()


def nearest_index(places_vox: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Index into a flat array of ``shape`` of the voxel nearest to each of the places ``(1, 3, ...)``."""
    nearest = [places_vox[0, axis].round().long().clamp(0, size - 1) for axis, size in enumerate(shape)]
    return (nearest[0] * shape[1] + nearest[1]) * shape[2] + nearest[2]
