"""Labels that a model lends to a registration: how they are asked for, whether they go together, what they move.

A network that sees images of a kind that it does not know makes labels all the same. Those of two images then lie
apart, however the images are aligned: on T1 brains labels of ``brain-t1`` disagree by 0.36 to 0.44 after an affine
alignment, disturbed images included; with one T2-like image by 1.35 to 1.6, with a FLAIR-like one by 0.95 to 1.1
(:class:`.refinement_labels.LabelDisagreement`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.contrast_search import Side
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.label_alignment import LabelAlignment, align_labels
from autofuse_engine.model_card import ModelCard
from autofuse_engine.prediction import Prediction, ReadyModel, predict_labels
from autofuse_engine.refinement import RefinementPair
from autofuse_engine.search_records import PairImages
from autofuse_engine.spatial.grid import IJK_FROM_KJI, apply_matrix, voxel_grid
from autofuse_engine.spatial.resample import inside, resample

STAGE = "label alignment"
"""Of the event that tells the disagreement."""
_LIMIT = 0.7
_LIMIT_OVER_TRIAL = 1.5
_USUAL = 2.0
_LEAST_SHARE, _LEAST_SD, _SPREAD_SD = 1e-4, 0.05, 3.29
"""A label's share is at least counted as the first, and its spread as the second; the third is the distance of the 5th
from the 95th percentile in standard deviations."""


def seen_labels(
    model: ReadyModel,
    pair: RefinementPair,
    known: Prediction | None = None,
    *,
    keeps_probabilities: bool,
    between: Callable[[], None] = lambda: None,
) -> Prediction:
    """The labels of both images, the moving one as it is aligned; those of the fixed image may be known already."""
    aligned = resample(pair.moving, pair.moving_from_fixed_vox, tuple(pair.fixed.shape[2:]))
    return predict_labels(
        model, pair.fixed, aligned, keeps_probabilities=keeps_probabilities, known=known, between=between
    )


def compare(
    labels: tuple[Tensor, Tensor],
    pair: RefinementPair,
    grid: Grid,
    kind: Literal["rigid", "affine"],
    between: Callable[[], None] = lambda: None,
) -> LabelAlignment | None:
    """How far the labels disagree at best, and under which alignment; None where both images have too few of them.

    Args:
        labels: of the fixed and the aligned moving image, ``(1, 1, D, H, W)`` on ``grid``.
        pair: tells where the moving image ends.
        grid: of the labels.
        kind: of the alignment.
        between: called between steps; may raise to stop.
    """
    with torch.inference_mode(False):
        places = apply_matrix(pair.moving_from_fixed_vox, voxel_grid(grid.shape, pair.moving.device))
        shown = inside(places, tuple(pair.moving.shape[2:])).float()
        return align_labels(*labels, grid.spacing_mm, kind, moving_inside=shown, between=between)


def with_better_start(images: PairImages, grid: Grid, matrix_vox: NDArray[np.float64]) -> PairImages:
    """The pair under another alignment: ``matrix_vox`` (4x4, tensor axis order) takes voxels of ``grid`` to where the
    one so far is to be looked up."""
    ijk = IJK_FROM_KJI @ matrix_vox @ IJK_FROM_KJI
    ras = grid.ras_from_ijk @ ijk @ np.linalg.inv(grid.ras_from_ijk)
    return replace(images, start=replace(images.start, matrix_ras=images.start.matrix_ras @ ras))


def disagreement_limit(card: ModelCard) -> float:
    """Above it the labels of two images are not believed. Small structures lie apart in any pair: where the export's
    trial measured how far (``training.label_trial``), half as much again is allowed."""
    trial = card.training.get("label_trial")
    measured = trial.get("disagreement") if isinstance(trial, dict) else None
    usual = float(measured) if isinstance(measured, (int, float)) else 0.0
    return max(_LIMIT, _LIMIT_OVER_TRIAL * usual)


def doubt_of(card: ModelCard, found: LabelAlignment) -> str:
    """A sentence where the labels cannot be believed; empty where they can."""
    limit = disagreement_limit(card)
    if found.after <= limit:
        return ""
    return (
        f"What the model {card.name} sees in the two images does not go together (disagreement {found.after:.2f}, at "
        f"most {limit:.2f}; labels without relation have 2): at least one shows another contrast, or another part of "
        "the body, than it knows."
    )


def strangeness(card: ModelCard, classes: Tensor) -> float | None:
    """How unusual the sizes of the labels are that a model sees in an image: the median over the labels of how many
    standard deviations the logarithm of their share lies off the training cases' median.

    Up to 1.8 for training cases, 1.0 for other T1 brains with ``brain-t1``, 1.6 where a quarter of the brain is cut
    off; from 2.5 for FLAIR-like and 3.5 for T2-like images.

    Args:
        card: None is returned where its ``training_range`` has no ``label_shares``.
        classes: ``(D, H, W)``, 0 for background.
    """
    known = {} if card.training_range is None else card.training_range.label_shares
    if not known:
        return None
    counts = torch.bincount(classes.flatten().long(), minlength=card.network.classes).double().cpu().numpy()
    shares = counts / max(counts[1:].sum(), 1.0)
    off = []
    for name, (_, low, middle, high, _) in known.items():
        low, middle, high, here = (np.log(value + _LEAST_SHARE) for value in (low, middle, high, shares[int(name)]))
        off.append(abs(here - middle) / max((high - low) / _SPREAD_SD, _LEAST_SD))
    return float(np.median(off))


def known_side(card: ModelCard, seen: Prediction) -> Side | None:
    """The one image of a pair that shows what the model knows; None where it is neither, both, or not to be told."""
    sides: tuple[tuple[Side, Tensor | None], ...] = ("fixed", seen.fixed_classes), ("moving", seen.moving_classes)
    usual: list[Side] = []
    for side, classes in sides:
        strange = None if classes is None else strangeness(card, classes)
        if strange is not None and strange <= _USUAL:
            usual.append(side)
    return usual[0] if len(usual) == 1 else None


def of_one_side(seen: Prediction, side: Side) -> Prediction:
    """Without the classes of the other image, which are none."""
    return replace(seen, moving_classes=None) if side == "fixed" else replace(seen, fixed_classes=None)


def transfer_text(card: ModelCard, side: Side) -> str:
    """What happens where the model knows one image alone, in two sentences."""
    other = "moving" if side == "fixed" else "fixed"
    return (
        f"The model {card.name} knows the {side} image and not the {other} one, which shows another contrast. Its "
        f"labels of the {side} image show that in the contrast of the {other} one for the search."
    )
