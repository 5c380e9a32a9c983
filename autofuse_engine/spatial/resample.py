"""Images and displacement fields from one grid to another, through their 4x4 voxel maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.spatial.grid import apply_matrix, voxel_grid
from autofuse_engine.spatial.warp import sample


def resample(
    image: Tensor,
    source_from_target_vox: NDArray[np.float64],
    shape: tuple[int, ...],
    *,
    continued: bool = False,
    between: Callable[[], None] = lambda: None,
) -> Tensor:
    """Look an image up on another grid; zero outside, where ITK's half-voxel rule says where outside begins.

    Args:
        image: ``(B, C, D, H, W)``.
        source_from_target_vox: 4x4, tensor axis order, from :func:`autofuse_engine.spatial.grid.voxel_map`.
        shape: ``(D', H', W')`` of the target grid.
        continued: outside, the values at the image's border go on instead.
        between: called between the slices; may raise to stop.

    Returns:
        ``(B, C, D', H', W')``. Coordinates are computed in float64, one slice of the target at a time.
    """
    slabs = []
    for first in range(shape[0]):
        between()
        coordinates = voxel_grid((1, *shape[1:]), image.device, torch.float64)
        coordinates[:, 0] += first
        coordinates = apply_matrix(source_from_target_vox, coordinates)
        values = sample(image, coordinates.expand(image.shape[0], -1, -1, -1, -1))
        slabs.append(values if continued else values * inside(coordinates, image.shape[2:]).to(values.dtype))
    return torch.cat(slabs, dim=2)


def inside(coordinates_vox: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Where positions ``(B, 3, ...)`` lie in [-0.5, n - 0.5) along every axis: ``(B, 1, ...)``, bool."""
    within = torch.ones_like(coordinates_vox[:, :1], dtype=torch.bool)
    for axis, size in enumerate(shape):
        position = coordinates_vox[:, axis : axis + 1]
        within &= (position >= -0.5) & (position < size - 0.5)
    return within


def resample_displacement(
    displacement_vox: Tensor,
    source_from_target_vox: NDArray[np.float64],
    shape: tuple[int, ...],
    *,
    continued: bool = False,
) -> Tensor:
    """A displacement field on another grid: places are looked up, vectors rescaled and rotated; zero outside.

    Args:
        displacement_vox: ``(B, 3, D, H, W)``, voxels of its own grid, tensor axis order.
        source_from_target_vox: 4x4, tensor axis order.
        shape: ``(D', H', W')`` of the target grid.
        continued: outside, the vectors at the field's border go on instead.

    Returns:
        ``(B, 3, D', H', W')``, voxels of the target grid: the same physical displacement.
    """
    looked_up = resample(displacement_vox, source_from_target_vox, shape, continued=continued)
    vectors = np.eye(4)
    vectors[:3, :3] = np.linalg.inv(source_from_target_vox[:3, :3])
    return apply_matrix(vectors, looked_up)
