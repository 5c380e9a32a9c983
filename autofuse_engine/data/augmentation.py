"""Random changes of a training pair: drawn in one place as plain numbers, applied in another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.spatial.grid import apply_matrix, voxel_grid
from autofuse_engine.spatial.resample import inside
from autofuse_engine.spatial.warp import sample
from autofuse_engine.training_configs import AugmentationConfig

_BIAS_NODES = (3, 4, 3)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageChange:
    """What happens to one image.

    Attributes:
        source_from_target_vox: 4x4, tensor axis order; where each voxel's new value is looked up. None: stays.
        exponent: of the intensities.
        bias: factors on a coarse grid over the image, interpolated between; None for 1 everywhere.
        noise: standard deviation of what is added.
        noise_seed: draws it.
    """

    source_from_target_vox: NDArray[np.float64] | None
    exponent: float
    bias: NDArray[np.float32] | None
    noise: float
    noise_seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PairChange:
    """What happens to both images of a pair; ``flips`` are tensor axes (2, 3, 4) along which both are mirrored."""

    fixed: ImageChange
    moving: ImageChange
    flips: tuple[int, ...]


def draw_change(
    config: AugmentationConfig, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], seed: int
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
    fixed, moving = (_draw_image(config, shape, spacing_mm, rng) for _ in range(2))
    flips = tuple("DHW".index(axis) + 2 for axis in sorted(config.flips) if rng.random() < 0.5)
    return PairChange(fixed=fixed, moving=moving, flips=flips)


def _draw_image(
    config: AugmentationConfig,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> ImageChange:
    angles = np.deg2rad(config.rotation_degrees) * rng.uniform(-1, 1, 3)
    scales = np.exp(np.log1p(config.scaling) * rng.uniform(-1, 1, 3))
    shift = config.translation_vox * rng.uniform(-1, 1, 3)
    spread = np.log1p(config.bias)
    nodes = np.exp(spread * rng.uniform(-1, 1, _BIAS_NODES)).astype(np.float32)
    exponent = float(np.exp(config.gamma * rng.uniform(-1, 1)))
    noise_seed = int(rng.integers(2**62))
    matrix = None
    if config.moves:
        spacing, middle = np.diag(spacing_mm), (np.array(shape) - 1) / 2
        matrix = np.eye(4)
        matrix[:3, :3] = np.linalg.inv(spacing) @ _rotation(angles) @ np.diag(scales) @ spacing
        matrix[:3, 3] = middle + shift - matrix[:3, :3] @ middle
    return ImageChange(
        source_from_target_vox=matrix,
        exponent=exponent,
        bias=nodes if config.bias > 0 else None,
        noise=config.noise,
        noise_seed=noise_seed,
    )


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (a, b) = np.eye(3), ((axis + 1) % 3, (axis + 2) % 3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def change_image(image: Tensor, change: ImageChange, flips: tuple[int, ...] = ()) -> Tensor:
    """The image ``(1, 1, D, H, W)`` in [0, 1] under a change, in [0, 1]; what comes from outside is 0."""
    if change.source_from_target_vox is not None:
        places = _places(image, change.source_from_target_vox)
        image = sample(image, places) * inside(places, image.shape[2:])
    if change.exponent != 1.0:
        image = image.pow(change.exponent)
    if change.bias is not None:
        nodes = torch.from_numpy(change.bias)[None, None].to(image.device)
        image = image * F.interpolate(nodes, size=image.shape[2:], mode="trilinear", align_corners=True)
    if change.noise > 0:
        generator = torch.Generator(image.device).manual_seed(change.noise_seed)
        image = image + change.noise * torch.randn(image.shape, generator=generator, device=image.device)
    return image.clamp(0, 1).flip(flips)


def change_labels(labels: Tensor, change: ImageChange, flips: tuple[int, ...] = ()) -> Tensor:
    """The labelmap ``(1, 1, D, H, W)`` of that image under the same change; nearest voxel, 0 from outside."""
    if change.source_from_target_vox is not None:
        places = _places(labels, change.source_from_target_vox)
        index = nearest_index(places, labels.shape[2:])
        labels = labels.flatten()[index].view(labels.shape) * inside(places, labels.shape[2:])
    return labels.flip(flips)


def nearest_index(places_vox: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Index into a flat array of ``shape`` of the voxel nearest to each of the places ``(1, 3, ...)``."""
    nearest = [places_vox[0, axis].round().long().clamp(0, size - 1) for axis, size in enumerate(shape)]
    return (nearest[0] * shape[1] + nearest[1]) * shape[2] + nearest[2]


def _places(image: Tensor, matrix: NDArray[np.float64]) -> Tensor:
    return apply_matrix(matrix, voxel_grid(image.shape[2:], image.device))
