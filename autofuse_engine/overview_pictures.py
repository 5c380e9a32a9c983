"""What each column of the overview shows; one method a column, all drawing into axes in mm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.volume import Volume
from autofuse_engine.overview_planes import Plane, display_range, slice_of
from autofuse_engine.registration import RegistrationResult

FOLD_COLOR = "#ffe600"
LABEL_COLORS = ("#ffb000", "#00c8ff", "#ff4fa0", "#7dff5a", "#b58bff", "#ff7a2f")
_TILES = 8
_GRID_LINES = 22
_GRID_POINTS_APART = 3
_SURVEY_VOXELS = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Labelmaps whose outlines are drawn; each may be absent."""

    fixed: Volume | None = None
    moving: Volume | None = None


class Painter:
    """Draws one registration; intensities are scaled the same way on every plane."""

    def __init__(
        self, planes: Sequence[Plane], fixed: Volume, moving: Volume, result: RegistrationResult, labels: Labels
    ) -> None:
        from matplotlib import cm, colors

        self._planes, self._result, self._labels = planes, result, labels
        fixed_range, moving_range = display_range(fixed), display_range(moving)
        self._fixed = [_scaled(slice_of(fixed, plane), fixed_range) for plane in planes]
        self._before = [_scaled(slice_of(moving, plane), moving_range) for plane in planes]
        self._warped = [_scaled(slice_of(result.warped, plane), moving_range) for plane in planes]
        self.shown_labels = _largest_labels(labels.fixed if labels.fixed is not None else labels.moving)
        differences = [*self._differences(self._before), *self._differences(self._warped)]
        reach = _reach(np.concatenate([values.ravel() for values in differences]), 0.2)
        self.difference_scale = cm.ScalarMappable(colors.Normalize(-reach, reach), "RdBu_r")
        step = max(1, int(np.ceil((result.jacobian.array.size / _SURVEY_VOXELS) ** (1 / 3))))
        reach = _reach(result.jacobian.array[::step, ::step, ::step] - 1, 0.1)
        self.jacobian_scale = cm.ScalarMappable(colors.TwoSlopeNorm(1.0, 1.0 - reach, 1.0 + reach), "PuOr_r")

    def pictures(self, row: int) -> list[Callable[[Any], None]]:
        """One function an axes for each column, left to right, for one of the planes."""
        plane, fixed, before, warped = self._planes[row], self._fixed[row], self._before[row], self._warped[row]
        fixed_labels = self._label_slice(self._labels.fixed, plane)

        def image(values: NDArray[np.float32], labels: Volume | None) -> Callable[[Any], None]:
            def draw(axes: Any) -> None:
                self._gray(axes, plane, values)
                self._outlines(axes, plane, self._label_slice(labels, plane), "solid")

            return draw

        def registered(axes: Any) -> None:
            self._gray(axes, plane, warped)
            self._outlines(axes, plane, fixed_labels, "dotted")
            self._outlines(axes, plane, self._label_slice(self._result.warped_labels, plane), "solid")

        def checkerboard(axes: Any) -> None:
            rows, columns = np.indices(fixed.shape)
            tile = max(fixed.shape) / _TILES
            odd = (np.floor(rows / tile) + np.floor(columns / tile)) % 2 == 1
            self._gray(axes, plane, np.where(odd, warped, fixed))

        def grid(axes: Any) -> None:
            self._gray(axes, plane, fixed * 0.55)
            self._grid(axes, plane)

        return [
            image(fixed, self._labels.fixed),
            image(before, self._labels.moving),
            registered,
            lambda axes: self._difference(axes, plane, before - fixed),
            lambda axes: self._difference(axes, plane, warped - fixed),
            checkerboard,
            grid,
            lambda axes: self._jacobian(axes, plane),
        ]

    def _differences(self, moving: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return [values - fixed for values, fixed in zip(moving, self._fixed, strict=True)]

    def _gray(self, axes: Any, plane: Plane, values: NDArray[np.float32]) -> None:
        shown = np.nan_to_num(values, nan=0.0)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=_extent(plane), interpolation="nearest")

    def _difference(self, axes: Any, plane: Plane, values: NDArray[np.float32]) -> None:
        scale = self.difference_scale
        shown = np.nan_to_num(values, nan=0.0)
        axes.imshow(shown, cmap=scale.cmap, norm=scale.norm, extent=_extent(plane), interpolation="nearest")

    def _jacobian(self, axes: Any, plane: Plane) -> None:
        scale = self.jacobian_scale
        values = np.nan_to_num(slice_of(self._result.jacobian, plane), nan=1.0)
        axes.imshow(values, cmap=scale.cmap, norm=scale.norm, extent=_extent(plane), interpolation="nearest")
        folds = slice_of(self._result.jacobian, plane, nearest=True) <= 0
        if folds.any():
            from matplotlib.colors import to_rgba

            marks = np.zeros((*folds.shape, 4))
            marks[folds] = to_rgba(FOLD_COLOR)
            axes.imshow(marks, extent=_extent(plane), interpolation="nearest")

    def _grid(self, axes: Any, plane: Plane) -> None:
        """Lines of equal in-plane coordinate of the moving point that each fixed point is taken to."""
        points = plane.points_ras[::_GRID_POINTS_APART, ::_GRID_POINTS_APART]
        moved = self._result.transform.transform_points(points.reshape(-1, 3)).reshape(points.shape)
        pixel_mm = plane.size_mm[0] / plane.points_ras.shape[1]
        x = (np.arange(points.shape[1]) * _GRID_POINTS_APART + 0.5) * pixel_mm
        y = (np.arange(points.shape[0]) * _GRID_POINTS_APART + 0.5) * pixel_mm
        apart = max(plane.size_mm) / _GRID_LINES
        for axis in plane.axes_ras:
            values = moved[..., axis]
            levels = np.arange(np.ceil(values.min() / apart), np.floor(values.max() / apart) + 1) * apart
            if len(levels):
                axes.contour(x, y, values, levels=levels, colors="#5fd7ff", linewidths=0.8, linestyles="solid")

    def _label_slice(self, labels: Volume | None, plane: Plane) -> NDArray[np.float32] | None:
        return None if labels is None else slice_of(labels, plane, nearest=True)

    def _outlines(self, axes: Any, plane: Plane, labels: NDArray[np.float32] | None, style: str) -> None:
        if labels is None:
            return
        pixel_mm = plane.size_mm[0] / labels.shape[1]
        x = (np.arange(labels.shape[1]) + 0.5) * pixel_mm
        y = (np.arange(labels.shape[0]) + 0.5) * pixel_mm
        for label, color in zip(self.shown_labels, LABEL_COLORS, strict=False):
            inside = (labels == label).astype(np.float32)
            if inside.any() and not inside.all():
                axes.contour(x, y, inside, levels=[0.5], colors=color, linewidths=0.8 if style == "dotted" else 1.1,
                             linestyles=style)  # fmt: skip


def _scaled(values: NDArray[np.float32], black_white: tuple[float, float]) -> NDArray[np.float32]:
    black, white = black_white
    return np.clip((values - black) / (white - black), 0, 1)


def _extent(plane: Plane) -> tuple[float, float, float, float]:
    return 0.0, plane.size_mm[0], plane.size_mm[1], 0.0


def _largest_labels(labels: Volume | None) -> list[int]:
    """Foreground labels by falling voxel count, as many as there are colours."""
    if labels is None:
        return []
    values, counts = np.unique(labels.array, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [int(value) for value in values[order] if value != 0][: len(LABEL_COLORS)]


def _reach(values: NDArray, smallest: float) -> float:
    """How far the colours reach on both sides of the centre: the 99.5th percentile of the distance, at most 1."""
    distances = np.abs(values[np.isfinite(values)])
    return float(np.clip(np.percentile(distances, 99.5), smallest, 1.0)) if distances.size else smallest
