"""FocalDice between labels and what a network segments, also when one of them is warped (AutoFuse paper, section 3.4).

A voxel has one label, so of the memberships of all classes only those count where a label is: one class a voxel, or one
for each of the eight corners that a warped voxel lies between. What a term needs of all classes is the sum of each over
the image. So a term costs about the same for four classes and for forty; only the softmax grows with their number
(docs/decisions/0136).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from autofuse_engine.losses.overlap import LEAST_PROBABILITY, focal_dice_of_sums, focal_loss
from autofuse_engine.spatial.grid import voxel_grid
from autofuse_engine.training_configs import SEGMENTATION_TERMS


def segmentation_terms(
    fixed_logits: Tensor,
    moving_logits: Tensor,
    fixed_labels: Tensor | None,
    moving_labels: Tensor | None,
    displacement_vox: Tensor,
    wanted: Sequence[str],
) -> dict[str, Tensor]:
    """FocalDice of the wanted terms of ``SEGMENTATION_TERMS`` whose labels are known.

    Labels are warped as memberships, trilinearly: each term has a gradient.

    Args:
        fixed_logits: ``(1, K, D, H, W)``; taken in float32.
        moving_logits: same shape.
        fixed_labels: ``(1, 1, D, H, W)``, integer classes 0..K-1, or None.
        moving_labels: likewise.
        displacement_vox: ``(1, 3, D, H, W)``, voxels.
        wanted: names.
    """
    known = {"fixed": fixed_labels is not None, "moving": moving_labels is not None}
    names = [name for name in wanted if all(known[label] for label in SEGMENTATION_TERMS[name])]
    if not names:
        return {}
    fixed, moving = _Segmented(fixed_logits, fixed_labels), _Segmented(moving_logits, moving_labels)
    corners = _Corners(displacement_vox)
    terms: dict[str, Callable[[], Tensor]] = {
        "moving_segmentation": moving.term,
        "fixed_segmentation": fixed.term,
        "warped_segmentation": lambda: _warped_segmentation(fixed, moving, corners),
        "segmentation_of_warped_labels": lambda: _segmentation_of_warped_labels(fixed, moving, corners),
        "warped_labels": lambda: _warped_labels(fixed, moving, corners),
    }
    return {name: terms[name]() for name in names}


def segmentation_term(logits: Tensor, labels: Tensor) -> Tensor:
    """FocalDice of one image's segmentation alone.

    Args:
        logits: ``(1, K, D, H, W)``; taken in float32.
        labels: ``(1, 1, D, H, W)``, integer classes 0..K-1.
    """
    return _Segmented(logits, labels).term()


class _Segmented:
    """One image: probabilities ``(K, V)`` of its V voxels, and their labels ``(V,)``."""

    def __init__(self, logits: Tensor, labels: Tensor | None) -> None:
        self._logits, self._labels = logits, labels
        self.classes, self.voxels = logits.shape[1], logits[0, 0].numel()

    @cached_property
    def log_probabilities(self) -> Tensor:
        return self._logits[0].float().flatten(1).log_softmax(dim=0)

    @cached_property
    def probabilities(self) -> Tensor:
        return self.log_probabilities.exp()

    @cached_property
    def totals(self) -> Tensor:
        """Sum of each class's probability, ``(K,)``."""
        return self.probabilities.sum(dim=1).double()

    @cached_property
    def labels(self) -> Tensor:
        if self._labels is None:
            raise ValueError("the term needs labels of this image")
        return self._labels.flatten().long()

    @cached_property
    def counts(self) -> Tensor:
        """Voxels of each label, ``(K,)``."""
        return self.by_class(self.labels, torch.ones_like(self.labels))  # bincount would wait for a GPU

    def by_class(self, classes: Tensor, values: Tensor) -> Tensor:
        """Sums of values by their class, ``(K,)``, in double precision: their order counts no more."""
        sums = torch.zeros(self.classes, dtype=torch.float64, device=values.device)
        return sums.index_add(0, classes.flatten(), values.flatten().double())

    def term(self) -> Tensor:
        """Between the labels and the segmentation of this image."""
        log_probability = self.log_probabilities.gather(0, self.labels[None])[0]
        probability = log_probability.exp()
        focal = focal_loss(probability, log_probability).sum()
        both = self.by_class(self.labels, probability)
        return focal_dice_of_sums(both, self.counts, self.totals, focal, self.voxels)


class _Corners:
    """The eight voxels around each place ``x + displacement(x)``, and their trilinear weights.

    Places beyond the border count as at the border, as in ``spatial.warp``.
    """

    def __init__(self, displacement_vox: Tensor) -> None:
        self._displacement = displacement_vox
        self._shape = displacement_vox.shape[2:]

    @cached_property
    def _lower(self) -> list[tuple[Tensor, Tensor]]:
        """Of each axis: the lower voxel ``(V,)``, and the share of the upper one, which has the gradient."""
        places = self._displacement[0].float() + voxel_grid(self._shape, self._displacement.device)[0]
        found = []
        for axis, size in enumerate(self._shape):
            place = places[axis].flatten().clamp(0, size - 1)
            lower = place.detach().floor().clamp(max=max(size - 2, 0))
            found.append((lower.long(), place - lower))
        return found

    @cached_property
    def index(self) -> Tensor:
        """``(8, V)``, which voxels."""
        (depth, _), (row, _), (column, _) = self._lower
        _, height, width = self._shape
        steps = [int(size > 1) for size in self._shape]
        first = (depth * height + row) * width + column
        offsets = [
            (i * steps[0] * height + j * steps[1]) * width + k * steps[2]
            for i in (0, 1)
            for j in (0, 1)
            for k in (0, 1)
        ]
        return torch.stack([first + offset for offset in offsets])

    @cached_property
    def weights(self) -> Tensor:
        """``(8, V)``; their sum is 1."""
        shares = [(1 - upper, upper) for _, upper in self._lower]
        planes = [a * b for a in shares[0] for b in shares[1]]
        return torch.stack([plane * c for plane in planes for c in shares[2]])


def _warped_segmentation(fixed: _Segmented, moving: _Segmented, corners: _Corners) -> Tensor:
    """Between labels of the fixed image and the warped segmentation of the moving image."""
    at_corners = moving.probabilities.flatten().take(corners.index + fixed.labels * moving.voxels)
    warped = (corners.weights * at_corners).sum(dim=0).clamp(min=LEAST_PROBABILITY)
    both = fixed.by_class(fixed.labels, warped)
    seen = torch.zeros(moving.voxels, device=warped.device)
    seen = seen.index_add(0, corners.index.flatten(), corners.weights.flatten())  # how much of each voxel is looked up
    totals = (moving.probabilities @ seen).double()
    return focal_dice_of_sums(both, fixed.counts, totals, focal_loss(warped, warped.log()).sum(), fixed.voxels)


def _segmentation_of_warped_labels(fixed: _Segmented, moving: _Segmented, corners: _Corners) -> Tensor:
    """Between warped labels of the moving image and the segmentation of the fixed image."""
    carried = moving.labels[corners.index]
    log_probability = fixed.log_probabilities.gather(0, carried)
    probability = log_probability.exp()
    both = fixed.by_class(carried, corners.weights * probability)
    warped = fixed.by_class(carried, corners.weights)
    focal = (corners.weights * focal_loss(probability, log_probability)).sum()
    return focal_dice_of_sums(both, warped, fixed.totals, focal, fixed.voxels)


def _warped_labels(fixed: _Segmented, moving: _Segmented, corners: _Corners) -> Tensor:
    """Between labels of the fixed image and warped labels of the moving image."""
    carried = moving.labels[corners.index]
    agreeing = (corners.weights * (carried == fixed.labels)).sum(dim=0)
    both = fixed.by_class(fixed.labels, agreeing)
    warped = fixed.by_class(carried, corners.weights)
    log_agreeing = agreeing.clamp(min=LEAST_PROBABILITY).log()
    return focal_dice_of_sums(both, fixed.counts, warped, focal_loss(agreeing, log_agreeing).sum(), fixed.voxels)
