"""Figures that judge a registration: correlation, overlap, landmark error. Arrays are numpy, lengths are mm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def correlation(first: NDArray, second: NDArray, where: NDArray[np.bool_] | None = None) -> float:
    """Normalised cross correlation of two arrays of one shape, over the voxels ``where``; NaN if one is constant."""
    if first.shape != second.shape:
        raise ValueError(f"both arrays have one shape, received {first.shape} and {second.shape}")
    a = np.asarray(first if where is None else first[where], dtype=np.float64).ravel()
    b = np.asarray(second if where is None else second[where], dtype=np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else float("nan")


def dice_per_label(first: NDArray, second: NDArray) -> dict[int, float]:
    """Dice of every label above background that occurs in one of two labelmaps of one shape, by label value.

    A label that is absent in both is left out; absent in one of them it scores 0.
    """
    if first.shape != second.shape:
        raise ValueError(f"both labelmaps have one shape, received {first.shape} and {second.shape}")
    values, codes = np.unique(np.concatenate([first.ravel(), second.ravel()]), return_inverse=True)
    one, two = codes[: first.size], codes[first.size :]
    sizes = np.bincount(one, minlength=len(values)) + np.bincount(two, minlength=len(values))
    shared = np.bincount(one[one == two], minlength=len(values))
    return {int(v): float(2 * s / n) for v, s, n in zip(values, shared, sizes, strict=True) if v != 0}


def mean_of(values: dict[int, float]) -> float | None:
    """Mean over labels without NaN; None where nothing is left."""
    finite = [value for value in values.values() if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def landmark_error_mm(moved_ras: NDArray, wanted_ras: NDArray) -> float:
    """Mean distance of corresponding points ``(N, 3)``, mm: the target registration error (TRE)."""
    if moved_ras.shape != wanted_ras.shape or moved_ras.ndim != 2 or moved_ras.shape[1] != 3:
        raise ValueError(f"points are (N, 3) in both lists, received {moved_ras.shape} and {wanted_ras.shape}")
    return float(np.linalg.norm(moved_ras - wanted_ras, axis=1).mean())
