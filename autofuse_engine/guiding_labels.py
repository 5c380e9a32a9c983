"""The labels that guide the refinement of a pair: what a model sees in both images, and what the user says of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.guidance import GivenOnGrid
from autofuse_engine.networks.segmentation import GivenClasses
from autofuse_engine.prediction import Prediction
from autofuse_engine.spatial.grid import voxel_map
from autofuse_engine.spatial.resample import resample


def guiding_labels(
    prediction: Prediction | None,
    given: GivenOnGrid | None,
    grid: Grid,
    model_grid: Grid,
    *,
    of_model: bool = True,
    between: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor] | None:
    """Classes of the fixed and of the aligned moving image, ``(1, 1, D, H, W)`` on the refinement's grid.

    Of a model that segments, the most probable class of each voxel; probabilities, not classes, are looked up between
    the voxels of its grid, so that borders are as fine as the grid allows. Given classes are where the user says, and
    nowhere else.

    Args:
        prediction: with the probabilities of both images; None, or without them, where no model segments.
        given: classes on ``grid``, or None.
        grid: of the refinement.
        model_grid: of the prediction.
        of_model: whether given classes are those of the model; if not, they stand beside them.
        between: called between pieces of the work; may raise to stop.

    Returns:
        None where the classes of one image are unknown.
    """
    probabilities, classes = (None, None), (None, None)
    if prediction is not None:
        probabilities = (prediction.fixed_probabilities, prediction.moving_probabilities)
        classes = (prediction.fixed_classes, prediction.moving_classes)
    sides = (None, None) if given is None else (given.fixed, given.moving)
    fixed, moving = (
        _labels(known, seen, side, grid, model_grid, of_model, between)
        for known, seen, side in zip(probabilities, classes, sides, strict=True)
    )
    return None if fixed is None or moving is None else (fixed, moving)


def _labels(
    probabilities: Tensor | None,
    classes: Tensor | None,
    given: GivenClasses | None,
    grid: Grid,
    model_grid: Grid,
    of_model: bool,
    between: Callable[[], None],
) -> Tensor | None:
    if probabilities is None:
        return None if given is None else given.labels
    left_out = given.classes if given is not None and of_model else ()
    lookup = voxel_map(grid.ras_from_ijk, model_grid.ras_from_ijk)
    same = grid.shape == model_grid.shape and bool(np.allclose(lookup, np.eye(4), atol=1e-6))
    if same and classes is not None and not left_out:
        labels = classes[None, None].to(torch.int16)
    else:
        labels = _most_probable(probabilities, left_out, grid, None if same else lookup, between)
    if given is not None:
        told = given.labels.to(labels.device, labels.dtype)
        labels = torch.where(told > 0, told if of_model else told + probabilities.shape[1], labels)
    return labels


def _most_probable(
    probabilities: Tensor,
    left_out: tuple[int, ...],
    grid: Grid,
    lookup: NDArray[np.float64] | None,
    between: Callable[[], None],
) -> Tensor:
    """One class after the other, so that memory holds one of them on the finer grid; ``lookup`` None: as they are."""
    best = torch.full((1, 1, *grid.shape), -1.0, device=probabilities.device)
    labels = torch.zeros_like(best, dtype=torch.int16)
    for number in range(probabilities.shape[1]):
        if number in left_out:
            continue
        one = probabilities[:, number : number + 1]
        one = one if lookup is None else resample(one, lookup, grid.shape, continued=True, between=between)
        better = one > best
        best, labels = torch.where(better, one, best), labels.masked_fill(better, number)
    return labels
