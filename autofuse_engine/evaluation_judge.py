"""One judge for all methods: overlap, surfaces, landmarks, correlation, folds and inverse of a transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofuse_engine.assessment import Judge
from autofuse_engine.data.checks import check_labelmap, check_mask, check_pair
from autofuse_engine.data.preprocessing import foreground
from autofuse_engine.data.resample import resample_image, resample_labels
from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.deformation import inverse_consistency_mm, slice_points
from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_methods import EvaluationPair
from autofuse_engine.spatial.jacobian import folding, jacobian_determinant

LOWEST, HIGHEST = 1e-9, 1e9
"""Limits of the Jacobian determinant before its logarithm is taken, as in the evaluation of Learn2Reg."""


class PairJudge:
    """Judges transforms of one pair; none of the figures depends on how a method found them.

    Args:
        pair: checked images with what is known of them. Where it has a fixed mask, that is the foreground; else the
            foreground is found as ``register`` does.
        seed: draws the points at which the inverse is measured.

    Raises:
        InputError: as ``check_pair``, ``check_labelmap`` and ``check_mask`` raise it.
    """

    def __init__(self, pair: EvaluationPair, seed: int) -> None:
        _check(pair)
        self._pair, self._seed = pair, seed
        mask = pair.fixed_mask
        self.foreground = foreground(pair.fixed.array) if mask is None else mask.array != 0
        self._judge = Judge(
            pair.fixed, pair.fixed_labels, pair.fixed_points_ras, pair.moving_points_ras, self.foreground
        )
        self._shared = self._judge.shared_labels(pair.moving_labels)

    def alignment(self, forward: SpatialTransform) -> dict[str, Any]:
        """``dice``, ``hd95_mm``, ``tre_mm``, ``ncc``, ``dice_per_label`` and ``hd95_per_label_mm``, as far as known.

        Dice and distance are means over the labels that both images have. A label that the transform moves out of the
        fixed image has Dice 0 and no distance.
        """
        pair = self._pair
        image = resample_image(pair.moving, forward, pair.fixed)
        labels = pair.moving_labels
        carried = None if labels is None else resample_labels(labels, forward, pair.fixed)
        figures = self._judge.figures(forward, image, carried, self._shared)
        return {
            "dice": figures.get("dice_mean"),
            "hd95_mm": figures.get("hd95_mean_mm"),
            "tre_mm": figures.get("tre_mean_mm"),
            "ncc": figures["ncc"],
            "dice_per_label": {str(label): value for label, value in figures.get("dice", {}).items()},
            "hd95_per_label_mm": {str(label): value for label, value in figures.get("hd95_mm", {}).items()},
        }

    def regularity(self, forward: SpatialTransform) -> dict[str, Any]:
        """``folding_percent``, ``folding_count`` and ``sd_log_jacobian`` of the whole transform.

        The last one is the standard deviation of the logarithm of the determinant, limited to 1e-9..1e9, over the
        cells whose lower corner is foreground (Learn2Reg: Hering et al., IEEE TMI 42, 2023).
        """
        determinant = determinant_on(self._pair.fixed, forward)
        percent, count = folding(torch.from_numpy(determinant))
        inner = determinant[self.foreground[:-1, :-1, :-1]]
        spread = float(np.log(inner.clip(LOWEST, HIGHEST)).std()) if inner.size else None
        return {"folding_percent": percent, "folding_count": count, "sd_log_jacobian": spread}

    def consistency(self, forward: SpatialTransform, inverse: SpatialTransform | None) -> dict[str, Any]:
        """``inverse_mean_mm`` and ``inverse_p99_mm`` over the foreground; empty without an inverse."""
        if inverse is None or not self.foreground.any():
            return {}
        found = inverse_consistency_mm(forward, inverse, self._pair.fixed, self.foreground, self._seed)
        return {"inverse_mean_mm": found["mean"], "inverse_p99_mm": found["p99"]}


def determinant_on(fixed: Volume, forward: SpatialTransform) -> NDArray[np.float64]:
    """Jacobian determinant of a whole transform between the voxels of the fixed image.

    Returns:
        ``(D-1, H-1, W-1)``, no unit; forward differences at the lower corner of each cell.

    Raises:
        InputError: ``transform-not-finite``.
    """
    ijk_from_ras = np.linalg.inv(fixed.ras_from_ijk)
    depth, height, width = fixed.shape
    cells = np.empty((depth - 1, height - 1, width - 1))

    def displacement_vox(slice_number: int) -> torch.Tensor:
        points = slice_points(fixed, slice_number).reshape(-1, 3)
        moved = forward.transform_points(points)
        if not np.isfinite(moved).all():
            raise InputError(
                "transform-not-finite",
                "The transform holds values that are not finite.",
                "The method diverged: choose other settings for it.",
            )
        vectors = map_points(ijk_from_ras, moved) - map_points(ijk_from_ras, points)
        return torch.from_numpy(vectors.reshape(height, width, 3)).flip(-1).permute(2, 0, 1)

    upper = displacement_vox(0)
    for number in range(depth - 1):
        lower, upper = upper, displacement_vox(number + 1)
        cells[number] = jacobian_determinant(torch.stack([lower, upper], dim=1)[None])[0, 0].numpy()
    return cells


def _check(pair: EvaluationPair) -> None:
    check_pair(pair.fixed, pair.moving)
    for side, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        labels, mask = getattr(pair, f"{side}_labels"), getattr(pair, f"{side}_mask")
        if labels is not None:
            check_labelmap(labels, image, f"{side} labelmap")
        if mask is not None:
            check_mask(mask, image, f"{side} mask")
    points = [pair.fixed_points_ras, pair.moving_points_ras]
    counts = [0 if item is None else len(item) for item in points]
    if counts[0] != counts[1]:
        raise InputError(
            "points-differ",
            f"The point lists do not match: {counts[0]} fixed and {counts[1]} moving points.",
            "Give the same landmarks, in the same order, for both images.",
        )
