"""Distance between the surfaces of labels, mm, with distance maps of ITK (Maurer et al. 2003)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

_MARGIN = 2


def hd95_per_label(
    first: NDArray, second: NDArray, spacing_mm: NDArray[np.float64], *, between: Callable[[], None] = lambda: None
) -> dict[int, float]:
    """Robust Hausdorff distance of each label above background: the larger of the two 95th percentiles, mm.

    Surfaces are the label's voxels that touch another label through a face. A label that one labelmap lacks is NaN.

    Args:
        first: integer labelmap ``(D, H, W)``.
        second: the same shape.
        spacing_mm: ``(3,)`` in i, j, k order.
        between: called between the labels; may raise to stop.
    """
    if first.shape != second.shape:
        raise ValueError(f"both labelmaps have one shape, received {first.shape} and {second.shape}")
    boxes_first = _boxes(first)
    between()
    boxes_second = _boxes(second)
    result: dict[int, float] = {}
    for label in sorted(set(boxes_first) | set(boxes_second)):
        between()
        if label not in boxes_first or label not in boxes_second:
            result[label] = float("nan")
            continue
        low = np.minimum(boxes_first[label][0], boxes_second[label][0]) - _MARGIN
        high = np.maximum(boxes_first[label][1], boxes_second[label][1]) + _MARGIN + 1
        crop = tuple(slice(max(0, a), b) for a, b in zip(low, high, strict=True))
        masks = [labels[crop] == label for labels in (first, second)]
        surfaces = [_surface(mask) for mask in masks]
        there = _distance_to(surfaces[1], spacing_mm)[surfaces[0]]
        back = _distance_to(surfaces[0], spacing_mm)[surfaces[1]]
        result[label] = float(max(np.percentile(there, 95), np.percentile(back, 95)))
    return result


def _boxes(labels: NDArray) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Lowest and highest index along each axis of every label above background."""
    places = np.nonzero(labels)
    values, codes = np.unique(labels[places], return_inverse=True)
    low = np.full((len(values), 3), np.iinfo(np.int64).max)
    high = np.full((len(values), 3), -1)
    for axis, indices in enumerate(places):
        np.minimum.at(low[:, axis], codes, indices)
        np.maximum.at(high[:, axis], codes, indices)
    return {int(value): (low[n], high[n]) for n, value in enumerate(values)}


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    core = padded[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for shift in (-1, 1):
            core &= np.roll(padded, shift, axis)[1:-1, 1:-1, 1:-1]
    return mask & ~core


def _distance_to(surface: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    image = sitk.GetImageFromArray(surface.astype(np.uint8))
    image.SetSpacing([float(side) for side in spacing_mm])
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.abs(sitk.GetArrayViewFromImage(distance))
