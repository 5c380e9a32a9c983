"""What training minimises: named terms of one pair, unsupervised or semi-supervised (AutoFuse paper, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from autofuse_engine.configs import Similarity
from autofuse_engine.losses.label_overlap import label_overlap
from autofuse_engine.losses.overlap import LEAST_PROBABILITY, focal_dice_from_sums, overlap_sums
from autofuse_engine.losses.regularity import folding_penalty, kl_divergence, squared_gradient
from autofuse_engine.losses.similarity import local_ncc, mean_squared_error, mind_ssc
from autofuse_engine.losses.spatially_varying import beta_prior, normal_prior, weighted_squared_gradient
from autofuse_engine.spatial.warp import warp
from autofuse_engine.training_configs import SEGMENTATION_TERMS, LossConfig

_CLASSES_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What the network made of one pair, and what is known of it.

    Attributes:
        fixed: ``(1, 1, D, H, W)``, intensities in [0, 1].
        moving: same shape.
        displacement_vox: ``(1, 3, D, H, W)``, voxels.
        velocity_mean: ``(1, 3, D/2, H/2, W/2)``, voxels of that grid.
        velocity_log_variance: same shape, or None for a network that knows no spread.
        regularity_weight: ``(1, 1, D, H, W)`` in (0, 1], how much smoothness counts, or None.
        varying_weights: weights of smoothness and prior in place of those of the configuration, ``(1,)`` each.
        fixed_logits: ``(1, K, D, H, W)``, or None for a network that does not segment.
        moving_logits: likewise.
        fixed_labels: ``(1, 1, D, H, W)``, integer classes 0..K-1, or None where nobody knows them.
        moving_labels: likewise.
        overlap_labels: ``(N,)``, the classes whose overlap counts at this step, or None.
        compares_images: whether the images show the same kind of thing, so that their similarity says something.
    """

    fixed: Tensor
    moving: Tensor
    displacement_vox: Tensor
    velocity_mean: Tensor
    velocity_log_variance: Tensor | None = None
    regularity_weight: Tensor | None = None
    varying_weights: tuple[Tensor, Tensor] | None = None
    fixed_logits: Tensor | None = None
    moving_logits: Tensor | None = None
    fixed_labels: Tensor | None = None
    moving_labels: Tensor | None = None
    overlap_labels: Tensor | None = None
    compares_images: bool = True


def objective(outcome: Outcome, config: LossConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one pair, and its terms before they are weighted.

    Terms are those of ``training_configs.term_names``. A segmentation term whose label is missing is left out, and so
    are terms of weight 0. Always in float32.
    """
    weights: dict[str, float | Tensor] = dict(config.weights())
    active = {name for name, weight in config.weights().items() if weight > 0}
    terms: dict[str, Tensor] = {}
    displacement = outcome.displacement_vox.float()
    if outcome.compares_images:
        warped = warp(outcome.moving.float(), displacement)
        terms["similarity"] = _similarity(config.similarity, config.similarity_radius)(outcome.fixed.float(), warped)
    if "kl" in active and outcome.velocity_log_variance is not None:
        spread = outcome.velocity_log_variance.float()
        terms["kl"] = kl_divergence(outcome.velocity_mean.float(), spread, config.kl_smoothness)
    if "folding" in active:
        terms["folding"] = folding_penalty(displacement)
    if "smoothness" in active:
        terms["smoothness"] = squared_gradient(displacement) / 3
    if outcome.regularity_weight is not None:
        terms["varying_smoothness"] = weighted_squared_gradient(displacement, outcome.regularity_weight).mean()
        prior = beta_prior if config.weight_prior_kind == "beta" else normal_prior
        terms["weight_prior"] = prior(outcome.regularity_weight).mean()
        if outcome.varying_weights is not None:
            weights |= zip(("varying_smoothness", "weight_prior"), outcome.varying_weights, strict=True)
            active |= {"varying_smoothness", "weight_prior"}
    if outcome.fixed_logits is not None and outcome.moving_logits is not None:
        wanted = [name for name in SEGMENTATION_TERMS if name in active]
        terms |= segmentation_terms(outcome, wanted)
    fixed_labels, moving_labels, chosen = outcome.fixed_labels, outcome.moving_labels, outcome.overlap_labels
    if "label_overlap" in active and fixed_labels is not None and moving_labels is not None and chosen is not None:
        terms["label_overlap"] = label_overlap(fixed_labels, moving_labels, displacement, chosen)
    terms = {name: value for name, value in terms.items() if name in active}
    total = torch.stack([(weights[name] * value).reshape(()) for name, value in terms.items()]).sum()
    return total, terms


def segmentation_terms(outcome: Outcome, wanted: list[str]) -> dict[str, Tensor]:
    """FocalDice of the wanted terms of ``SEGMENTATION_TERMS`` whose labels are known.

    Classes are taken a few at a time and computed once more in the backward pass, so that memory holds the warped
    memberships of a few classes only. Labels are warped as memberships, trilinearly: each term has a gradient.
    """
    if outcome.fixed_logits is None or outcome.moving_logits is None:
        raise ValueError("segmentation terms need the logits of both images")
    known = {"fixed": outcome.fixed_labels is not None, "moving": outcome.moving_labels is not None}
    names = [name for name in wanted if all(known[label] for label in SEGMENTATION_TERMS[name])]
    if not names:
        return {}
    fixed_logits, moving_logits = outcome.fixed_logits.float(), outcome.moving_logits.float()
    fixed_log_sum, moving_log_sum = (logits.logsumexp(dim=1, keepdim=True) for logits in (fixed_logits, moving_logits))
    first, parts = 0, []
    # Split, not slices: its gradient is put together once, where each slice would fill a whole array with zeros.
    for fixed_part, moving_part in zip(
        fixed_logits.split(_CLASSES_AT_ONCE, dim=1), moving_logits.split(_CLASSES_AT_ONCE, dim=1), strict=True
    ):
        arguments = (
            names,
            first,
            (fixed_part, fixed_log_sum, outcome.fixed_labels),
            (moving_part, moving_log_sum, outcome.moving_labels),
            outcome.displacement_vox.float(),
        )
        parts.append(checkpoint(_sums_of_classes, *arguments, use_reentrant=False, preserve_rng_state=False))
        first += fixed_part.shape[1]
    sums, voxels = torch.cat(parts, dim=2), fixed_log_sum[0].numel()
    return {name: focal_dice_from_sums(sums[number], voxels) for number, name in enumerate(names)}


def segmentation_term(logits: Tensor, labels: Tensor) -> Tensor:
    """FocalDice of one image's segmentation alone, a few classes at a time as in :func:`segmentation_terms`.

    Args:
        logits: ``(1, K, D, H, W)``.
        labels: ``(1, 1, D, H, W)``, integer classes 0..K-1.
    """
    log_sum, first, parts = logits.float().logsumexp(dim=1, keepdim=True), 0, []
    for part in logits.float().split(_CLASSES_AT_ONCE, dim=1):
        arguments = (first, part, log_sum, labels)
        parts.append(checkpoint(_sums_of_one_image, *arguments, use_reentrant=False, preserve_rng_state=False))
        first += part.shape[1]
    return focal_dice_from_sums(torch.cat(parts, dim=1), log_sum[0].numel())


def _sums_of_one_image(first: int, logits: Tensor, log_sum: Tensor, labels: Tensor) -> Tensor:
    """Sums of the classes from ``first`` on, ``(1, K', 4)``."""
    classes = torch.arange(first, first + logits.shape[1], device=logits.device).view(1, -1, 1, 1, 1)
    log_probability = logits - log_sum
    return overlap_sums((labels == classes).float(), log_probability.exp(), log_probability)


Image = tuple[Tensor, Tensor, Tensor | None]
"""Logits of some classes ``(1, K', ...)``, logarithm of the sum over all classes' exponentials, labels or None."""


def _sums_of_classes(names: list[str], first: int, fixed: Image, moving: Image, displacement: Tensor) -> Tensor:
    """Sums of the classes from ``first`` on, ``(terms, 1, K', 4)``."""
    count = fixed[0].shape[1]
    cache: dict[str, Tensor] = {}

    def once(key: str, make: Callable[[], Tensor]) -> Tensor:
        if key not in cache:
            cache[key] = make()
        return cache[key]

    def log_probability(key: str, image: Image) -> Tensor:
        return once(f"log {key}", lambda: image[0] - image[1])

    def probability(key: str, image: Image) -> Tensor:
        return once(f"probability {key}", lambda: log_probability(key, image).exp())

    def member(key: str, image: Image) -> Tensor:
        if image[2] is None:
            raise ValueError(f"the {key} image has no labels")
        classes = torch.arange(first, first + count, device=displacement.device).view(1, -1, 1, 1, 1)
        return once(f"member {key}", lambda: (image[2] == classes).float())

    def warped_member() -> Tensor:
        return once("warped member", lambda: warp(member("moving", moving), displacement))

    def warped_probability() -> Tensor:
        return warp(probability("moving", moving), displacement).clamp(min=LEAST_PROBABILITY)

    def of(name: str) -> Tensor:
        if name == "moving_segmentation":
            return overlap_sums(
                member("moving", moving), probability("moving", moving), log_probability("moving", moving)
            )
        if name == "fixed_segmentation":
            return overlap_sums(member("fixed", fixed), probability("fixed", fixed), log_probability("fixed", fixed))
        if name == "warped_segmentation":
            return overlap_sums(member("fixed", fixed), warped_probability())
        if name == "segmentation_of_warped_labels":
            return overlap_sums(warped_member(), probability("fixed", fixed), log_probability("fixed", fixed))
        return overlap_sums(member("fixed", fixed), warped_member())

    return torch.stack([of(name) for name in names])


def _similarity(kind: Similarity, radius: int) -> Callable[[Tensor, Tensor], Tensor]:
    if kind == "lncc":
        return lambda fixed, warped: local_ncc(fixed, warped, radius)
    if kind == "mse":
        return mean_squared_error
    return lambda fixed, warped: mean_squared_error(mind_ssc(fixed), mind_ssc(warped))
