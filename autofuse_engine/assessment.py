"""Judge a registration with what the user gave: intensities always, labels and landmarks where there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.resample import resample_image, resample_labels
from autofuse_engine.data.surface_distance import hd95_per_label
from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.metrics import correlation, dice_per_label, landmark_error_mm, mean_of


@dataclass(frozen=True, eq=False)
class Judge:
    """The fixed side of every comparison; ``foreground`` is where intensities count."""

    fixed: Volume
    fixed_labels: Volume | None
    fixed_points_ras: NDArray[np.float64] | None
    moving_points_ras: NDArray[np.float64] | None
    foreground: NDArray[np.bool_]

    def before_and_after(
        self,
        moving: Volume,
        moving_labels: Volume | None,
        initial: SpatialTransform,
        forward: SpatialTransform,
        warped: Volume,
        warped_labels: Volume | None,
        between: Callable[[], None],
    ) -> dict[str, dict[str, Any]]:
        """Figures at three times: as the files say, where the search starts, after the whole transform.

        Args:
            moving: the moving image.
            moving_labels: its labelmap, or None.
            initial: what the search started from.
            forward: the whole transform.
            warped: the moving image under the whole transform.
            warped_labels: its labelmap likewise.
            between: called between the steps; may raise to cancel.
        """
        result: dict[str, dict[str, Any]] = {}
        shared = self.shared_labels(moving_labels)
        for name, transform in (("before", SpatialTransform(steps=())), ("initial", initial)):
            linear = transform.matrix_ras
            if name == "initial" and linear is not None and np.array_equal(linear, np.eye(4)):
                result[name] = result["before"]
                continue
            image = resample_image(moving, transform, self.fixed)
            between()
            labels = None
            if moving_labels is not None:
                labels = resample_labels(moving_labels, transform, self.fixed, between=between)
            between()
            result[name] = self.figures(transform, image, labels, shared, between=between)
            between()
        result["after"] = self.figures(forward, warped, warped_labels, shared, between=between)
        return result

    def shared_labels(self, moving_labels: Volume | None) -> set[int]:
        """Labels of both images: one that only one of them has says nothing about the alignment."""
        if self.fixed_labels is None or moving_labels is None:
            return set()
        return set(np.unique(self.fixed_labels.array).tolist()) & set(np.unique(moving_labels.array).tolist()) - {0}

    def figures(
        self,
        transform: SpatialTransform,
        image: Volume,
        labels: Volume | None,
        shared: set[int],
        *,
        between: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Figures of one transform: ``ncc``; ``dice``, ``dice_mean``, ``hd95_mm``, ``hd95_mean_mm``; ``tre_mean_mm``.

        Args:
            transform: takes fixed points to the moving image.
            image: the moving image under it, on the fixed grid.
            labels: the moving labelmap under it, or None.
            shared: the labels that count, see :meth:`shared_labels`.
            between: called between the steps; may raise to cancel.
        """
        figures: dict[str, Any] = {"ncc": correlation(self.fixed.array, image.array, self.foreground)}
        if self.fixed_labels is not None and labels is not None:
            between()
            dice = dice_per_label(self.fixed_labels.array, labels.array)
            between()
            hd95 = hd95_per_label(self.fixed_labels.array, labels.array, self.fixed.spacing_mm, between=between)
            dice = {label: value for label, value in dice.items() if label in shared}
            hd95 = {label: value for label, value in hd95.items() if label in shared}
            figures |= {"dice": dice, "dice_mean": mean_of(dice), "hd95_mm": hd95, "hd95_mean_mm": mean_of(hd95)}
        if self.fixed_points_ras is not None and self.moving_points_ras is not None and len(self.fixed_points_ras):
            moved = transform.transform_points(self.fixed_points_ras)
            figures["tre_mean_mm"] = landmark_error_mm(moved, self.moving_points_ras)
        return figures
