"""What training minimises: named terms of one pair, unsupervised or semi-supervised (AutoFuse paper, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autofuse_engine.configs import Similarity
from autofuse_engine.losses.label_overlap import label_overlap
from autofuse_engine.losses.regularity import folding_penalty, kl_divergence, squared_gradient
from autofuse_engine.losses.segmentation_terms import segmentation_terms
from autofuse_engine.losses.similarity import local_ncc, mean_squared_error, mind_ssc
from autofuse_engine.losses.spatially_varying import beta_prior, normal_prior, weighted_squared_gradient
from autofuse_engine.spatial.warp import warp
from autofuse_engine.training_configs import SEGMENTATION_TERMS, Learns, LossConfig


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


_NOT_OF_THE_FIELD: Mapping[bool, tuple[str, ...]] = {
    True: tuple(name for name in SEGMENTATION_TERMS if name != "warped_labels"),
    False: ("moving_segmentation", "fixed_segmentation"),
}
"""Terms that a stage which learns the field alone leaves out, by whether the labels of both images are known."""


def objective(outcome: Outcome, config: LossConfig, learns: Learns = "everything") -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one pair, and its terms before they are weighted.

    Terms are those of ``training_configs.term_names``. A segmentation term whose label is missing is left out, and so
    are terms of weight 0. Always in float32. Where the field alone is learned, no term teaches the segmentation, and
    what the network sees of an image counts only where a label is missing.
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
        known = outcome.fixed_labels is not None and outcome.moving_labels is not None
        left_out = () if learns == "everything" else _NOT_OF_THE_FIELD[known]
        wanted = [name for name in SEGMENTATION_TERMS if name in active and name not in left_out]
        logits, labels = (outcome.fixed_logits, outcome.moving_logits), (outcome.fixed_labels, outcome.moving_labels)
        terms |= segmentation_terms(*logits, *labels, displacement, wanted)
    fixed_labels, moving_labels, chosen = outcome.fixed_labels, outcome.moving_labels, outcome.overlap_labels
    if "label_overlap" in active and fixed_labels is not None and moving_labels is not None and chosen is not None:
        terms["label_overlap"] = label_overlap(fixed_labels, moving_labels, displacement, chosen)
    terms = {name: value for name, value in terms.items() if name in active}
    total = torch.stack([(weights[name] * value).reshape(()) for name, value in terms.items()]).sum()
    return total, terms


def _similarity(kind: Similarity, radius: int) -> Callable[[Tensor, Tensor], Tensor]:
    if kind == "lncc":
        return lambda fixed, warped: local_ncc(fixed, warped, radius)
    if kind == "mse":
        return mean_squared_error
    return lambda fixed, warped: mean_squared_error(mind_ssc(fixed), mind_ssc(warped))
