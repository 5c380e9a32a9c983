"""Random changes of a training pair, drawn as plain numbers; ``data.image_changes`` applies them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.augmentation_configs import AugmentationConfig

Shape = tuple[int, int, int]
_BIAS_NODES = (3, 4, 3)
_RIM_NODES = (6, 7, 6)
_WARP_NODE_DISTANCE_VOX = 16
_CHANCE = 0.5
"""Of thick slices, of a changed rim, and of a crop, for each image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageChange:
    """What happens to one image; geometry first, then looks in the order of the attributes.

    Attributes:
        source_from_target_vox: 4x4, tensor axis order; where each voxel's new value is looked up. None: stays.
        velocity_nodes: ``(3, d, h, w)``, voxels, on a coarse grid over the image: the flow that bends it. None: none.
        exponent: of the intensities.
        bias: factors on a coarse grid over the image, interpolated between; None for 1 everywhere.
        thickness_vox: of the voxels that are simulated, along D, H, W; 1 leaves an axis as it is.
        rim_nodes: on a coarse grid, how many voxels the border of the foreground moves inwards; None for none.
        rim_brightness: share of the nearby tissue's intensity that fills what the rim gains.
        noise: standard deviation of what is added.
        noise_seed: draws it.
        crop: axis (2, 3, 4), first and end of the slab that becomes 0; None for none.
    """

    source_from_target_vox: NDArray[np.float64] | None = None
    velocity_nodes: NDArray[np.float32] | None = None
    exponent: float = 1.0
    bias: NDArray[np.float32] | None = None
    thickness_vox: tuple[float, float, float] = (1.0, 1.0, 1.0)
    rim_nodes: NDArray[np.float32] | None = None
    rim_brightness: float = 1.0
    noise: float = 0.0
    noise_seed: int = 0
    crop: tuple[int, int, int] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class PairChange:
    """What happens to both images of a pair; ``flips`` are tensor axes (2, 3, 4) along which both are mirrored."""

    fixed: ImageChange
    moving: ImageChange
    flips: tuple[int, ...]


def draw_change(
    config: AugmentationConfig, shape: Shape, spacing_mm: tuple[float, float, float], seed: int
) -> PairChange | None:
    """Draw a change; the same seed gives the same one. None where the configuration changes nothing.

    Args:
        config: the ranges.
        shape: ``(D, H, W)``; images turn about their middle.
        spacing_mm: along D, H, W: turns are rigid in mm.
        seed: of this pair at this step.
    """
    if config == AugmentationConfig():
        return None
    rng = np.random.default_rng(seed)
    pose = _draw_pose(config, shape, spacing_mm, seed)
    fixed, moving = (_posed(_draw_image(config, shape, spacing_mm, rng), pose) for _ in range(2))
    flips = tuple("DHW".index(axis) + 2 for axis in sorted(config.flips) if rng.random() < 0.5)
    return PairChange(fixed=fixed, moving=moving, flips=flips)


def draw_velocity(warp_vox: float, shape: Shape, rng: np.random.Generator) -> NDArray[np.float32] | None:
    """Nodes of a random velocity ``(3, d, h, w)`` with a standard deviation of ``warp_vox`` voxels; None for 0."""
    if warp_vox == 0:
        return None
    nodes = [max(3, round(side / _WARP_NODE_DISTANCE_VOX) + 1) for side in shape]
    return (warp_vox * rng.standard_normal((3, *nodes))).astype(np.float32)


def _draw_image(
    config: AugmentationConfig, shape: Shape, spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> ImageChange:
    matrix = _draw_matrix(config, shape, spacing_mm, rng)
    exponent = float(np.exp(config.gamma * rng.uniform(-1, 1)))
    bias = np.exp(np.log1p(config.bias) * rng.uniform(-1, 1, _BIAS_NODES)).astype(np.float32)
    rim = config.rim_vox * rng.uniform() * rng.uniform(-1, 1, _RIM_NODES).astype(np.float32)
    brightness, has_rim = float(rng.uniform(0.3, 1.2)), rng.random() < _CHANCE
    return ImageChange(
        source_from_target_vox=matrix,
        velocity_nodes=draw_velocity(config.warp_vox, shape, rng),
        exponent=exponent,
        bias=bias if config.bias > 0 else None,
        thickness_vox=_draw_thickness(config.slice_mm, spacing_mm, rng),
        rim_nodes=rim if config.rim_vox > 0 and has_rim else None,
        rim_brightness=brightness,
        noise=config.noise * float(rng.uniform()),
        noise_seed=int(rng.integers(2**62)),
        crop=_draw_crop(config.crop, shape, rng),
    )


def _draw_matrix(
    config: AugmentationConfig, shape: Shape, spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> NDArray[np.float64] | None:
    angles = np.deg2rad(config.rotation_degrees) * rng.uniform(-1, 1, 3)
    scales = np.exp(np.log1p(config.scaling) * rng.uniform(-1, 1, 3))
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = config.shear * rng.uniform(-1, 1, 3)
    shift = config.translation_vox * rng.uniform(-1, 1, 3)
    return _about_the_middle(_rotation(angles) @ shear @ np.diag(scales), shift, shape, spacing_mm, config.moves)


def _draw_pose(
    config: AugmentationConfig, shape: Shape, spacing_mm: tuple[float, float, float], seed: int
) -> NDArray[np.float64] | None:
    """Drawn apart from all else, so that the other changes of a seed do not depend on it."""
    rng = np.random.default_rng((seed, 1))
    angles = np.deg2rad(config.pose_rotation_degrees) * rng.uniform(-1, 1, 3)
    scales = np.exp(np.log1p(config.pose_scaling) * rng.uniform(-1, 1, 3))
    shift = config.pose_translation_vox * rng.uniform(-1, 1, 3)
    return _about_the_middle(_rotation(angles) @ np.diag(scales), shift, shape, spacing_mm, config.poses)


def _posed(change: ImageChange, pose: NDArray[np.float64] | None) -> ImageChange:
    """An image that was moved on its own, seen in the pose of its pair."""
    if pose is None:
        return change
    own = np.eye(4) if change.source_from_target_vox is None else change.source_from_target_vox
    return replace(change, source_from_target_vox=own @ pose)


def _about_the_middle(
    linear_mm: NDArray[np.float64],
    shift_vox: NDArray[np.float64],
    shape: Shape,
    spacing_mm: tuple[float, float, float],
    happens: bool,
) -> NDArray[np.float64] | None:
    if not happens:
        return None
    spacing, middle = np.diag(spacing_mm), (np.array(shape) - 1) / 2
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.inv(spacing) @ linear_mm @ spacing
    matrix[:3, 3] = middle + shift_vox - matrix[:3, :3] @ middle
    return matrix


def _draw_thickness(
    slice_mm: float, spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> tuple[float, float, float]:
    """One axis, or all of them alike, becomes coarser than the grid; in voxels."""
    thickness_mm, chosen, happens = slice_mm * rng.uniform(), int(rng.integers(4)), rng.random() < _CHANCE
    depth, height, width = (
        max(1.0, thickness_mm / step) if happens and chosen in (axis, 3) else 1.0
        for axis, step in enumerate(spacing_mm)
    )
    return depth, height, width


def _draw_crop(share: float, shape: Shape, rng: np.random.Generator) -> tuple[int, int, int] | None:
    axis, upper, happens = int(rng.integers(3)), rng.random() < 0.5, rng.random() < _CHANCE
    slices = round(share * rng.uniform() * shape[axis])
    if not happens or slices == 0:
        return None
    return (axis + 2, shape[axis] - slices, shape[axis]) if upper else (axis + 2, 0, slices)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (a, b) = np.eye(3), ((axis + 1) % 3, (axis + 2) % 3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix
