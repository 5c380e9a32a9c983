"""Ask a model several times: from the second time on it sees the moving image as it was warped so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.networks.segmentation import GivenClasses
from autofuse_engine.prediction import Prediction
from autofuse_engine.refinement import RefinementPair
from autofuse_engine.spatial.grid import apply_matrix, voxel_grid
from autofuse_engine.spatial.parts import Part
from autofuse_engine.spatial.resample import inside
from autofuse_engine.spatial.warp import compose, sample


@dataclass(frozen=True, kw_only=True, eq=False)
class Passes:
    """What a model said in all passes. A point goes through the flow of the last velocity, then through ``following``.

    Attributes:
        first: the pass that saw the pair as it was aligned: what it says of the images themselves counts.
        last: its velocity and its samples count; the velocity is zero for a model that predicts the displacement.
        following: fields that follow the flow of the last velocity, in this order: those of earlier passes, the latest
            first, and before them the last displacement of a model that predicts one; at the end what was known before
            any pass.
        following_vox: ``(1, 3, D, H, W)``, voxels: the displacement of all of ``following``; None where none follows.
        lengths_mm: mean length of each pass's own displacement, in the order of passes; empty for a single one.
    """

    first: Prediction
    last: Prediction
    following: tuple[Part, ...]
    following_vox: Tensor | None
    lengths_mm: tuple[float, ...]


def predict_in_passes(
    count: int,
    look: Callable[[Tensor | None], Prediction],
    spacing_mm: NDArray[np.float64],
    before_vox: Tensor | None = None,
) -> Passes:
    """Predict, warp, predict again.

    With ``phi_n`` the map of pass n, the moving image was looked up at ``phi_1(x)`` for the second pass, which finds
    ``phi_2`` between the fixed image and that; so a point of the fixed image goes through ``phi_2`` first.

    Args:
        count: number of passes, at least 1.
        look: predicts between the fixed image and the aligned moving image after a displacement ``(1, 3, D, H, W)``
            in voxels of the working grid; None means as aligned.
        spacing_mm: ``(3,)``, of the working grid along i, j, k.
        before_vox: ``(1, 3, D, H, W)``, voxels: a displacement that was known before, as if an earlier pass had found
            it; None for none.
    """
    sides = torch.as_tensor(spacing_mm[::-1].copy(), dtype=torch.float32).view(1, 3, 1, 1, 1)
    predictions: list[Prediction] = []
    following = [] if before_vox is None else [Part(field_vox=before_vox, is_velocity=False)]
    following_vox = total = before_vox
    lengths: list[float] = []
    for _ in range(count):
        if predictions and predictions[-1].displacement_vox is None:
            following.insert(0, Part(field_vox=predictions[-1].velocity_vox, is_velocity=True))
            following_vox = total
        prediction = look(total)
        part = Part(field_vox=prediction.velocity_vox, is_velocity=True)
        if prediction.displacement_vox is not None:
            part = Part(field_vox=prediction.displacement_vox, is_velocity=False)
            following.insert(0, part)
            following_vox = part.field_vox if total is None else compose(part.field_vox, total)
        predictions.append(prediction)
        if count > 1:
            own = part.displacement()
            lengths.append(float((own * sides.to(own.device)).norm(dim=1).mean()))
            total = own if total is None else compose(own, total)
    return Passes(
        first=predictions[0],
        last=predictions[-1],
        following=tuple(following),
        following_vox=following_vox,
        lengths_mm=tuple(lengths),
    )


def moving_after(pair: RefinementPair, displacement_vox: Tensor) -> Tensor:
    """The moving image after alignment and displacement, ``(1, 1, D, H, W)`` on the working grid; zero outside of it.

    It is looked up in the image's own voxels, once, whatever the number of passes before.

    Args:
        pair: images and geometry.
        displacement_vox: ``(1, 3, D, H, W)``, voxels of the working grid.
    """
    grid = voxel_grid(displacement_vox.shape[2:], displacement_vox.device)
    places = apply_matrix(pair.moving_from_fixed_vox, grid + displacement_vox)
    values = sample(pair.moving, places)
    return values * inside(places, pair.moving.shape[2:]).to(values.dtype)


def given_after(given: GivenClasses | None, displacement_vox: Tensor) -> GivenClasses | None:
    """Given classes of the aligned moving image, carried along by the nearest voxel; nothing is given outside."""
    if given is None:
        return None
    shape = tuple(given.labels.shape[2:])
    device = given.labels.device
    places = (voxel_grid(shape, device) + displacement_vox.to(device)).round()
    within = inside(places, shape)
    corners = [places[:, axis].long().clamp(0, size - 1) for axis, size in enumerate(shape)]
    labels = given.labels[:, 0][torch.zeros_like(corners[0]), corners[0], corners[1], corners[2]][:, None]
    return GivenClasses(labels=labels * within.to(labels.dtype), classes=given.classes)
