"""From images as they are stored to what is registered: foreground, working grid, intensities in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.volume import AxisOrder, Volume, canonical_axes

_MOST_WORKING_VOXELS = 1_200_000
_MARGIN_VOXELS = 4
_BACKGROUND_SHARE = 0.02
_SMALLEST_FOREGROUND = 0.005
_ANTI_ALIASING = 0.42
_AXIS_OF_LETTER = {"R": (0, False), "L": (0, True), "A": (1, False), "P": (1, True), "S": (2, False), "I": (2, True)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """A place without values: ``shape`` is ``(D, H, W)``, ``ras_from_ijk`` 4x4 in mm."""

    shape: tuple[int, int, int]
    ras_from_ijk: NDArray[np.float64]

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """``(3,)`` in i, j, k order."""
        return np.linalg.norm(self.ras_from_ijk[:3, :3], axis=0)

    def padded(self, voxels: int) -> Grid:
        """The same lattice with ``voxels`` more on every side."""
        matrix = self.ras_from_ijk.copy()
        matrix[:3, 3] -= matrix[:3, :3] @ np.full(3, float(voxels))
        depth, height, width = (side + 2 * voxels for side in self.shape)
        return Grid(shape=(depth, height, width), ras_from_ijk=matrix)


def axes_towards(ras_from_ijk: NDArray[np.float64], orientation: str = "RAS") -> AxisOrder:
    """The order after which i, j, k run towards the named sides of the patient, as closely as the grid allows."""
    canonical = canonical_axes(ras_from_ijk)
    wanted = [_AXIS_OF_LETTER[letter] for letter in orientation]
    order = [canonical.order[axis] for axis, _ in wanted]
    flips = [canonical.flips[axis] != reverse for axis, reverse in wanted]
    return AxisOrder(order=(order[0], order[1], order[2]), flips=(flips[0], flips[1], flips[2]))


def foreground(image: NDArray) -> NDArray[np.bool_]:
    """Voxels ``(D, H, W)`` that differ from what lies at the image's border; all of them where that says little.

    The background is the median of the six faces; a voxel counts when it differs by more than 2 % of the range of
    the image (1st to 99th percentile) and by more than four times the spread of the faces.
    """
    values = np.asarray(image, dtype=np.float32)
    faces = (values[0], values[-1], values[:, 0], values[:, -1], values[:, :, 0], values[:, :, -1])
    border = np.concatenate([face.ravel() for face in faces])
    background = float(np.median(border))
    spread = 1.4826 * float(np.median(np.abs(border - background)))
    low, high = np.percentile(values, (1, 99))
    mask = np.abs(values - background) > max(_BACKGROUND_SHARE * float(high - low), 4 * spread)
    return mask if mask.mean() >= _SMALLEST_FOREGROUND else np.ones_like(mask)


def normalised(
    image: NDArray,
    percentiles: tuple[float, float] = (0.0, 99.5),
    window: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Intensities mapped linearly to [0, 1] and clipped; float32, same shape.

    Args:
        image: ``(D, H, W)``.
        percentiles: of the foreground's intensities; they become 0 and 1. The lower one is at most the background.
        window: fixed limits in the image's own units, instead of percentiles.
    """
    values = np.asarray(image, dtype=np.float32)
    if window is None:
        inner = values[foreground(values)]
        low, high = (float(limit) for limit in np.percentile(inner, percentiles))
        low = min(low, float(np.percentile(values, percentiles[0])))
    else:
        low, high = window
    return np.clip((values - low) / max(high - low, 1e-6 * max(abs(high), 1.0)), 0.0, 1.0)


def anti_aliasing_sigmas_vox(grid_spacing_mm: NDArray, image_spacing_mm: NDArray) -> list[float]:
    """Standard deviations, voxels of the image, D H W, of the smoothing that removes what a coarser grid cannot hold.

    Args:
        grid_spacing_mm: ``(3,)``; its mean counts.
        image_spacing_mm: ``(3,)`` along i, j, k of the image.
    """
    ratios = np.mean(grid_spacing_mm) / np.asarray(image_spacing_mm)[::-1]
    return [_ANTI_ALIASING * float(np.sqrt(max(0.0, ratio**2 - 1.0))) for ratio in ratios]


def suitable_spacing_mm(fixed: Volume) -> float:
    """Isotropic working spacing where no model sets one: that of the image (geometric mean), or as much coarser as
    keeps the foreground's box below 1.2 million voxels."""
    low, high = _box(foreground(fixed.array))
    volume_mm3 = float(np.prod((high - low) * fixed.spacing_mm[::-1]))
    own = float(np.prod(fixed.spacing_mm) ** (1 / 3))
    return max(own, (volume_mm3 / _MOST_WORKING_VOXELS) ** (1 / 3))


def working_grid(fixed: Volume, spacing_mm: tuple[float, float, float], multiple: int, orientation: str) -> Grid:
    """The grid on which a pair is registered: the fixed image's foreground box and a margin, at the given spacing.

    The grid runs along the fixed image's axes, in the order and direction closest to ``orientation``: how the file
    stores them has no influence. Where the spacing is the image's own, voxels coincide.

    Args:
        fixed: the fixed image.
        spacing_mm: along i, j, k of the grid.
        multiple: every side is a multiple of this.
        orientation: such as "RAS".
    """
    image = fixed.reordered(axes_towards(fixed.ras_from_ijk, orientation))
    low, high = _box(foreground(image.array))
    low, high = low[::-1].astype(np.float64), high[::-1].astype(np.float64)  # i, j, k; high is exclusive
    sides, starts = [], []
    ratios = np.array(spacing_mm) / image.spacing_mm
    for axis, ratio in enumerate(ratios):
        length = (high[axis] - low[axis]) / ratio
        side = int(np.ceil((length + 2 * _MARGIN_VOXELS - 1e-6) / multiple)) * multiple
        first = (low[axis] + high[axis]) / 2 - (side * ratio) / 2 + ratio / 2 - 0.5  # centre of voxel 0, image voxels
        if abs(ratio - 1) < 1e-3:
            first, ratios[axis] = float(np.floor(first + 0.25)), 1.0
        sides.append(side)
        starts.append(first)
    matrix = image.ras_from_ijk.copy()
    matrix[:3, 3] += matrix[:3, :3] @ np.array(starts)
    matrix[:3, :3] = matrix[:3, :3] * ratios
    return Grid(shape=(sides[2], sides[1], sides[0]), ras_from_ijk=matrix)


def _box(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one past the last index of the True voxels along each tensor axis."""
    low, high = [], []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        present = np.flatnonzero(mask.any(axis=others))
        low.append(present[0])
        high.append(present[-1] + 1)
    return np.array(low), np.array(high)
