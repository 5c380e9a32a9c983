"""Images of random contrast made from labelmaps, and pairs of random shapes: what is drawn, and how it is made.

SynthMorph (Hoffmann et al., IEEE TMI 2021, arXiv 2004.10282); SynthSeg (Billot et al., Medical Image Analysis 2023,
arXiv 2107.09559).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.augmentation_configs import SynthesisConfig
from autofuse_engine.data.augmentation import ImageChange, Shape, draw_velocity
from autofuse_engine.data.image_changes import move_labels
from autofuse_engine.spatial.smooth import smooth_image

_SHAPE_NODE_DISTANCES_VOX = (8, 24)
_CURVE_NODES = 6
_OWN_SHARE = 0.2  # so labels of one tissue differ by a tenth from what the curve says, at most
_FRAME = 3.0
"""How much the background of random shapes is favoured at the border of the image, in standard deviations."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrast:
    """How one image shows its tissues.

    Attributes:
        means: intensity of each tissue, in [0, 1]; the first one is the background.
        deviations: standard deviation of the voxels of each tissue.
        blur_vox: standard deviation of the Gaussian that mixes neighbours.
        seed: draws the voxels.
        curve: new intensities of the measured image's foreground at equal steps from 0 to 1; None for an image that
            owes nothing to the measured one.
        keeps_details: with a curve, whether each voxel of the measured image goes through it, and nothing else of the
            above counts; if not, the mean of each tissue does, and ``means`` add a tenth of their distance from 0.5.
    """

    means: NDArray[np.float32]
    deviations: NDArray[np.float32]
    blur_vox: float
    seed: int
    curve: NDArray[np.float32] | None = None
    keeps_details: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomShapes:
    """A pair of label maps that shows nobody: where its regions are, and the two bends that make a pair of it.

    Attributes:
        seed: draws the regions.
        node_distance_vox: their size.
        framed: whether the outer part of the image is background.
        fixed: bends the regions into the fixed label map.
        moving: likewise.
    """

    seed: int
    node_distance_vox: float
    framed: bool
    fixed: ImageChange
    moving: ImageChange


@dataclass(frozen=True, kw_only=True, eq=False)
class Synthesis:
    """What is made of a pair: None for an image that stays as it was measured."""

    fixed: Contrast | None
    moving: Contrast | None
    shapes: RandomShapes | None


def draw_synthesis(config: SynthesisConfig, labels: int, shape: Shape, seed: int) -> Synthesis | None:
    """Draw what to make of a pair; the same seed gives the same. None: the pair stays as it is.

    Args:
        config: the ranges.
        labels: number of labels of the dataset, background left out. Tissues are background, these, and one more for
            the foreground that no label covers.
        shape: ``(D, H, W)``.
        seed: of this pair at this step.
    """
    rng = np.random.default_rng(seed)
    happens, is_mixed, is_shapes, which = rng.random(4)
    if happens >= config.probability:
        return None
    shapes = None
    if is_shapes < config.shapes:
        fixed, moving = (ImageChange(velocity_nodes=draw_velocity(config.shape_warp_vox, shape, rng)) for _ in range(2))
        shapes = RandomShapes(
            seed=int(rng.integers(2**62)),
            node_distance_vox=float(rng.uniform(*_SHAPE_NODE_DISTANCES_VOX)),
            framed=bool(rng.random() < 0.5),
            fixed=fixed,
            moving=moving,
        )
        labels = config.shape_labels - 1
    contrasts: list[Contrast | None] = [
        draw_contrast(config, labels + 2, rng, measured=shapes is None) for _ in range(2)
    ]
    if shapes is None and is_mixed < config.mixed:
        contrasts[int(which < 0.5)] = None
    return Synthesis(fixed=contrasts[0], moving=contrasts[1], shapes=shapes)


def draw_contrast(
    config: SynthesisConfig, tissues: int, rng: np.random.Generator, *, measured: bool = True
) -> Contrast:
    """A random contrast of so many tissues, the background counted; ``measured`` says whether there is an image."""
    means = rng.uniform(0, 1, tissues).astype(np.float32)
    deviations = (config.sd * rng.uniform(0, 1, tissues)).astype(np.float32)
    if rng.random() >= config.background:
        means[0] = deviations[0] = 0
    blur, seed = config.blur_vox * float(rng.uniform()), int(rng.integers(2**62))
    remapped, curve = rng.random() < config.remapped, rng.uniform(0, 1, _CURVE_NODES).astype(np.float32)
    curved = measured and (remapped or rng.random() < config.alike)
    return Contrast(
        means=means,
        deviations=deviations,
        blur_vox=blur,
        seed=seed,
        curve=curve if curved else None,
        keeps_details=remapped,
    )


def tissues_of(labels: Tensor, image: Tensor, count: int) -> Tensor:
    """The labelmap with one more value, ``count + 1``, where the image shows something that has no label.

    Args:
        labels: ``(1, 1, D, H, W)``, classes 0 to ``count``.
        image: same shape; above 0 in the foreground.
        count: number of labels.
    """
    return torch.where((labels == 0) & (image > 0), torch.full_like(labels, count + 1), labels)


def in_contrast(image: Tensor, labels: Tensor, contrast: Contrast, count: int) -> Tensor:
    """A measured image in another contrast, ``(1, 1, D, H, W)`` in [0, 1].

    Args:
        image: as it was measured, that shape, in [0, 1], above 0 in the foreground.
        labels: of the image, that shape, classes 0 to ``count``.
        contrast: of ``count + 2`` tissues.
        count: number of labels.
    """
    if contrast.curve is not None and contrast.keeps_details:
        return remap(image, contrast.curve)
    return synthesise(tissues_of(labels, image, count), contrast, image)


def synthesise(tissues: Tensor, contrast: Contrast, measured: Tensor | None = None) -> Tensor:
    """An image ``(1, 1, D, H, W)``, float32 in [0, 1], of a map of tissues of that shape.

    Args:
        tissues: 0 is the background.
        contrast: how each shows.
        measured: the measured image, in [0, 1], for a contrast with a curve.
    """
    device = tissues.device
    means, deviations = (torch.from_numpy(values).to(device) for values in (contrast.means, contrast.deviations))
    tissues = tissues.long()
    if contrast.curve is not None and measured is not None:
        means = _means_through_curve(tissues, measured, contrast.curve, means)
    generator = torch.Generator(device).manual_seed(contrast.seed)
    noise = torch.randn(tissues.shape, generator=generator, device=device)
    image = (means[tissues] + deviations[tissues] * noise).clamp(0, 1)
    return smooth_image(image, contrast.blur_vox) if contrast.blur_vox > 0 else image


def _means_through_curve(tissues: Tensor, measured: Tensor, curve: NDArray[np.float32], means: Tensor) -> Tensor:
    """New means: those of the measured image through the curve, and a little of the drawn ones; the background keeps
    the drawn one."""
    counts = torch.bincount(tissues.ravel(), minlength=len(means)).clamp(min=1)
    known = torch.bincount(tissues.ravel(), measured.ravel().double(), minlength=len(means)) / counts
    moved = _through(known.float(), curve) + _OWN_SHARE * (means - 0.5)
    return torch.cat([means[:1], moved[1:].clamp(0, 1)])


def remap(image: Tensor, curve: NDArray[np.float32]) -> Tensor:
    """The image ``(1, 1, D, H, W)`` in [0, 1] with its foreground (above 0) through a piecewise linear curve."""
    return _through(image, curve) * (image > 0)


def _through(values: Tensor, curve: NDArray[np.float32]) -> Tensor:
    nodes = torch.from_numpy(curve).to(values.device)
    place = values.clamp(0, 1) * (len(curve) - 1)
    lower = place.floor().clamp(max=len(curve) - 2)
    index = lower.long()
    return torch.lerp(nodes[index], nodes[index + 1], place - lower)


def shape_maps(shapes: RandomShapes, labels: int, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two label maps ``(1, 1, D, H, W)``, int64, classes 0 to ``labels - 1``: one random map, bent in two ways."""
    regions = _regions(shapes, labels, shape, device)
    return move_labels(regions, shapes.fixed), move_labels(regions, shapes.moving)


def _regions(shapes: RandomShapes, labels: int, shape: Shape, device: torch.device) -> Tensor:
    """At each voxel the label whose smooth random image is largest."""
    nodes = [max(2, round(side / shapes.node_distance_vox) + 1) for side in shape]
    rng = np.random.default_rng(shapes.seed)
    best = torch.full((1, 1, *shape), -float("inf"), device=device)
    winner = torch.zeros((1, 1, *shape), dtype=torch.int64, device=device)
    for label in range(labels):
        values = rng.standard_normal(nodes)
        if label == 0 and shapes.framed:
            values = values + _FRAME * _towards_the_border(nodes)
        coarse = torch.from_numpy(values.astype(np.float32))[None, None].to(device)
        field = F.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)
        winner = torch.where(field > best, torch.full_like(winner, label), winner)
        best = torch.maximum(best, field)
    return winner


def _towards_the_border(nodes: list[int]) -> NDArray[np.float64]:
    """From -1 in the middle to 2 in the corners."""
    depth, height, width = np.meshgrid(*(np.linspace(-1, 1, count) for count in nodes), indexing="ij")
    return depth**2 + height**2 + width**2 - 1
