"""The images of a pair as the refinement and a network look at them: normalised, on a working grid, with weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.preprocessing import Grid, anti_aliasing_sigmas_vox, foreground, normalised
from autofuse_engine.model_card import Preprocessing
from autofuse_engine.refinement import RefinementPair
from autofuse_engine.search_records import PairImages
from autofuse_engine.spatial.grid import voxel_map
from autofuse_engine.spatial.resample import resample
from autofuse_engine.spatial.smooth import smooth, smooth_image

_WEIGHT_SIGMA_VOX = 2.0
_WEIGHT_THRESHOLD = 0.02


def pair_on_grid(
    images: PairImages,
    grid: Grid,
    prepared: Preprocessing,
    device: torch.device,
    between: Callable[[], None] = lambda: None,
) -> RefinementPair:
    """Both images under the initial alignment.

    Args:
        images: as the user gave them.
        grid: where the work is done.
        prepared: how intensities become numbers in [0, 1].
        device: where the tensors lie.
        between: called between pieces of the work; may raise to stop.
    """
    images = images.in_canonical_order()
    limits = (prepared.intensity_percentiles, prepared.intensity_window)
    fixed_map = voxel_map(grid.ras_from_ijk, images.fixed.ras_from_ijk)
    moving_ratio = grid.spacing_mm.mean() / images.moving.spacing_mm[::-1]
    prepared_images = []
    for volume in (images.fixed, images.moving):
        between()
        image = _tensor(normalised(volume.array, *limits), device)
        between()
        sigmas = anti_aliasing_sigmas_vox(grid.spacing_mm, volume.spacing_mm)
        prepared_images.append(smooth_image(image, sigmas, between=between))
    fixed, moving = prepared_images
    if images.fixed_mask is not None:
        weight = resample(_tensor(images.fixed_mask.array != 0, device), fixed_map, grid.shape, between=between)
    else:
        shown = foreground(images.fixed.array)
        between()
        weight = resample(_tensor(shown, device), fixed_map, grid.shape, between=between)
        weight = (smooth(weight, _WEIGHT_SIGMA_VOX) > _WEIGHT_THRESHOLD).float()
    mask = images.moving_mask
    return RefinementPair(
        fixed=resample(fixed, fixed_map, grid.shape, between=between),
        moving=moving,
        moving_from_fixed_vox=moving_map(images, grid),
        moving_voxels_per_fixed=(float(moving_ratio[0]), float(moving_ratio[1]), float(moving_ratio[2])),
        fixed_weight=weight,
        moving_weight=None if mask is None else _tensor(mask.array != 0, device),
    )


def covered_share(images: PairImages, side: Literal["fixed", "moving"], grid: Grid, device: torch.device) -> Tensor:
    """How much of each voxel of one image the foreground covers, where :func:`pair_on_grid` puts that image: 1 inside,
    0 outside, and between where smoothing and interpolation mixed both."""
    images = images.in_canonical_order()
    volume = images.fixed if side == "fixed" else images.moving
    sigmas = anti_aliasing_sigmas_vox(grid.spacing_mm, volume.spacing_mm)
    shown = smooth_image(_tensor(foreground(volume.array), device), sigmas)
    if side == "moving":
        return shown
    return resample(shown, voxel_map(grid.ras_from_ijk, volume.ras_from_ijk), grid.shape)


def moving_map(images: PairImages, grid: Grid) -> NDArray[np.float64]:
    """From voxels of the grid to those of the moving image in canonical order, through the initial alignment."""
    moving = images.in_canonical_order().moving
    return voxel_map(grid.ras_from_ijk, moving.ras_from_ijk, images.moving_from_fixed_ras)


def _tensor(array: NDArray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None].to(device)
