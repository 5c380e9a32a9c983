"""Where an image shows something: foreground, its centre of mass, and how much of two foregrounds meets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.volume import Volume, map_points

_LOWEST_PERCENTILE, _HIGHEST_PERCENTILE = 1.0, 99.5
_FOREGROUND_LEVEL = 0.1
_PERCENTILE_SAMPLES = 1_000_000
_POINTS = 200_000  # voxels looked at, foreground or not


def intensity_range(array: NDArray) -> tuple[float, float]:
    """The 1st and the 99.5th percentile; where they agree (few bright voxels), the lowest and the highest value."""
    flat = array.reshape(-1)[:: max(1, array.size // _PERCENTILE_SAMPLES)]
    low, high = (float(value) for value in np.percentile(flat, (_LOWEST_PERCENTILE, _HIGHEST_PERCENTILE)))
    return (low, high) if high > low else (float(array.min()), float(array.max()))


def foreground(array: NDArray, mask: NDArray | None = None) -> NDArray[np.bool_]:
    """Voxels more than a tenth of the range above its lower end: the body in CT and MR, or what stripping left.

    With a mask of the same shape, only what lies inside of it (not zero) counts, also for the range.
    """
    if mask is None:
        low, high = intensity_range(array)
        return array > low + _FOREGROUND_LEVEL * (high - low)
    inside = mask != 0
    low, high = intensity_range(array[inside]) if inside.any() else (0.0, 0.0)
    return inside & (array > low + _FOREGROUND_LEVEL * (high - low))


def mass_center_ras(volume: Volume, mask: Volume | None = None) -> NDArray[np.float64]:
    """``(3,)``, mm: centre of the intensities above the lower end of the range, inside the mask."""
    counts = volume.array if mask is None else volume.array[mask.array != 0]
    low, high = intensity_range(counts) if counts.size else (0.0, 0.0)
    mass = np.clip(volume.array.astype(np.float32), low, high) - np.float32(low)
    if mask is not None:
        mass = mass * (mask.array != 0)
    profiles = [mass.sum(axis=axes, dtype=np.float64) for axes in ((0, 1), (0, 2), (1, 2))]
    total = profiles[0].sum()
    if total <= 0:
        return volume.center_ras
    center_ijk = np.array([profile @ np.arange(len(profile)) / total for profile in profiles])
    return map_points(volume.ras_from_ijk, center_ijk)


def foreground_radius_mm(volume: Volume, mask: Volume | None = None) -> float:
    """Root mean square distance of the foreground, inside the mask, from its own middle; 1 mm at least."""
    points_ijk = _sampled(_shown(volume, mask))
    if len(points_ijk) < 2:
        return 1.0
    offsets_mm = (points_ijk - points_ijk.mean(axis=0)) * volume.spacing_mm
    return max(1.0, float(np.sqrt((offsets_mm**2).sum(axis=1).mean())))


def overlap_share(
    fixed: Volume,
    moving: Volume,
    moving_from_fixed_ras: NDArray,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
) -> float:
    """Share of one foreground that lies in the other's foreground box, the larger of both directions, 0 to 1.

    The larger one, so that an image of a part (a slab, one organ) fits into an image of the whole. With masks, only
    the foreground inside of them counts.
    """
    fixed_shown, moving_shown = _shown(fixed, fixed_mask), _shown(moving, moving_mask)
    moving_from_fixed_ijk = np.linalg.inv(moving.ras_from_ijk) @ moving_from_fixed_ras @ fixed.ras_from_ijk
    return max(
        _share_inside(fixed_shown, moving_shown, moving_from_fixed_ijk),
        _share_inside(moving_shown, fixed_shown, np.linalg.inv(moving_from_fixed_ijk)),
    )


def _share_inside(shown: NDArray[np.bool_], other: NDArray[np.bool_], other_from_shown_ijk: NDArray) -> float:
    points_ijk = _sampled(shown)
    if not len(points_ijk) or not other.any():
        return 0.0
    box = [np.flatnonzero(other.any(axis=axes))[[0, -1]] for axes in ((0, 1), (0, 2), (1, 2))]
    lowest, highest = np.transpose(box)
    points_other = map_points(other_from_shown_ijk, points_ijk)
    inside = ((points_other >= lowest - 0.5) & (points_other <= highest + 0.5)).all(axis=1)
    return float(inside.mean())


def _shown(volume: Volume, mask: Volume | None) -> NDArray[np.bool_]:
    return foreground(volume.array, None if mask is None else mask.array)


def _sampled(shown: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices ``(N, 3)`` in i, j, k order of the voxels shown, on a coarser lattice where they are many."""
    step = max(1, round((shown.size / _POINTS) ** (1 / 3)))
    return np.argwhere(shown[::step, ::step, ::step])[:, ::-1] * step
