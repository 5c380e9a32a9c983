"""Applies what ``data.augmentation`` drew: moves images and labels alike, then disturbs how the images look."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.augmentation import ImageChange
from autofuse_engine.spatial.grid import apply_matrix, nearest_index, voxel_grid
from autofuse_engine.spatial.integrate import integrate
from autofuse_engine.spatial.resample import inside
from autofuse_engine.spatial.smooth import enlarge_field, smooth_image
from autofuse_engine.spatial.warp import sample

_SQUARINGS = 5
_LEAST_BLUR_VOX = 0.3
_SIGMA_OF_THICKNESS = 0.42
"""A Gaussian of this share of a slice's thickness is as wide, at half its height, as the slice is thick."""


def change_image(image: Tensor, change: ImageChange, flips: tuple[int, ...] = ()) -> Tensor:
    """The image ``(1, 1, D, H, W)`` in [0, 1] under a whole change, in [0, 1]."""
    return disturb(move_image(image, change), change).flip(flips)


def change_labels(labels: Tensor, change: ImageChange, flips: tuple[int, ...] = ()) -> Tensor:
    """The labelmap ``(1, 1, D, H, W)`` of that image under the same change; nearest voxel, 0 from outside."""
    return move_labels(labels, change).flip(flips)


def move_image(image: Tensor, change: ImageChange) -> Tensor:
    """The image moved and bent, trilinear; what comes from outside is 0."""
    places = _places(image, change)
    return image if places is None else sample(image, places) * inside(places, image.shape[2:])


def move_labels(labels: Tensor, change: ImageChange) -> Tensor:
    """The labelmap moved and bent as :func:`move_image` does it; the nearest voxel's label."""
    places = _places(labels, change)
    if places is None:
        return labels
    index = nearest_index(places, labels.shape[2:])
    return labels.flatten()[index].view(labels.shape) * inside(places, labels.shape[2:])


def _places(image: Tensor, change: ImageChange) -> Tensor | None:
    """Where each voxel is looked up: bent first, then moved."""
    if change.source_from_target_vox is None and change.velocity_nodes is None:
        return None
    places = voxel_grid(image.shape[2:], image.device)
    if change.velocity_nodes is not None:
        places = places + bend(change.velocity_nodes, image.shape[2:], image.device)
    return places if change.source_from_target_vox is None else apply_matrix(change.source_from_target_vox, places)


def bend(velocity_nodes: NDArray[np.float32], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Displacement ``(1, 3, D, H, W)``, voxels, of the flow of a velocity that is known at a few nodes.

    It is integrated at half the resolution, after the creases of linear interpolation were smoothed.
    """
    half = tuple(max(2, side // 2) for side in shape)
    velocity = _spread(velocity_nodes, half, device) / 2
    return enlarge_field(integrate(smooth_image(velocity, 2.0), _SQUARINGS), shape)


def disturb(image: Tensor, change: ImageChange) -> Tensor:
    """Another look of the same thing: contrast, bias field, thick slices, rim, noise, cut-off side; in [0, 1]."""
    if change.exponent != 1.0:
        image = image.pow(change.exponent)
    if change.bias is not None:
        image = image * _spread(change.bias[None], image.shape[2:], image.device)
    if max(change.thickness_vox) > 1:
        image = with_thick_voxels(image, change.thickness_vox)
    if change.rim_nodes is not None:
        inwards = _spread(change.rim_nodes[None], image.shape[2:], image.device)
        image = with_moved_rim(image, inwards, float(np.abs(change.rim_nodes).max()), change.rim_brightness)
    if change.noise > 0:
        generator = torch.Generator(image.device).manual_seed(change.noise_seed)
        image = image + change.noise * torch.randn(image.shape, generator=generator, device=image.device)
    image = image.clamp(0, 1)
    if change.crop is not None:
        axis, first, end = change.crop
        image = image.clone()
        image.narrow(axis, first, end - first).zero_()
    return image


def with_thick_voxels(image: Tensor, thickness_vox: tuple[float, float, float]) -> Tensor:
    """The image as voxels of another size show it: averaged over them, then interpolated back onto its grid.

    Args:
        image: ``(1, 1, D, H, W)``.
        thickness_vox: along D, H, W, in voxels of the image; at least 1, which leaves an axis as it is.
    """
    sigmas = [_SIGMA_OF_THICKNESS * one if one > 1 else 0.0 for one in thickness_vox]
    coarse = [max(2, round(side / one)) for side, one in zip(image.shape[2:], thickness_vox, strict=True)]
    small = F.interpolate(smooth_image(image, sigmas), size=coarse, mode="trilinear", align_corners=False)
    return F.interpolate(small, size=image.shape[2:], mode="trilinear", align_corners=False)


def with_moved_rim(image: Tensor, inwards_vox: Tensor, reach_vox: float, brightness: float = 1.0) -> Tensor:
    """The image with the border of its foreground (all above 0) moved.

    A blurred mask crosses one half at a flat border and ``Phi(d)`` at the depth of ``d`` blurs: comparing it with
    ``Phi(inwards)`` moves the border by that depth. Where the foreground ends with the image there is no border.

    Args:
        image: ``(1, 1, D, H, W)``.
        inwards_vox: same shape, voxels; below 0 the foreground grows.
        reach_vox: the most that the border moves; sets the blur.
        brightness: what it grows by has this share of the intensity of the tissue around.
    """
    mask = (image > 0).float()
    blur = max(_LEAST_BLUR_VOX, reach_vox)
    near = smooth_image(mask, blur)
    wanted = near > 0.5 * (1 + torch.erf(inwards_vox / (blur * math.sqrt(2))))
    tissue = smooth_image(image, blur) / near.clamp(min=1e-3)
    return torch.where(wanted, torch.where(mask > 0, image, brightness * tissue), torch.zeros_like(image))


def _spread(nodes: NDArray[np.float32], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Values ``(C, d, h, w)`` at the nodes of a coarse grid over the image, interpolated: ``(1, C, D, H, W)``."""
    values = torch.from_numpy(nodes)[None].to(device)
    return F.interpolate(values, size=tuple(shape), mode="trilinear", align_corners=True)
