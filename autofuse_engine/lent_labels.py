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
from torch import Tensor

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


def with_better_start(images: PairImages, grid: Grid, found: LabelAlignment) -> PairImages:
    """The pair under the alignment that its labels found, which ``compare`` was asked for on ``grid``."""
    ijk = IJK_FROM_KJI @ found.matrix_vox @ IJK_FROM_KJI
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
