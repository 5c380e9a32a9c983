"""Pairs out of nothing: a head-like image with labels, and the same head moved and deformed in a known way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.volume import Volume, map_points

_TISSUES = (  # center, half axes (both as a share of the head's half size), intensity; later ones lie on top
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0.75),
    ((0.0, 0.0, 0.0), (0.88, 0.9, 0.88), 0.95),
    ((-0.30, 0.12, 0.10), (0.13, 0.34, 0.15), 0.25),
    ((0.30, 0.12, 0.10), (0.13, 0.34, 0.15), 0.25),
    ((-0.32, 0.05, -0.18), (0.16, 0.20, 0.14), 0.62),
    ((0.32, 0.05, -0.18), (0.16, 0.20, 0.14), 0.62),
    ((0.0, -0.55, -0.55), (0.42, 0.28, 0.24), 0.82),
    ((0.0, -0.18, -0.62), (0.12, 0.13, 0.34), 0.70),
)
_FOLDS = 9.0
_FIELD_OF_VIEW_MM = (168.0, 204.0, 168.0)
_HALF_SIZE_MM = (66.0, 82.0, 62.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticPair:
    """A pair whose true transform is known.

    Attributes:
        fixed: float32, background 0.
        moving: the same head under the true transform, on another grid (oblique, anisotropic), with noise of its own.
        fixed_labels: uint8, one value for each tissue, 1 to 8.
        moving_labels: the same on the moving grid.
        fixed_points_ras: ``(N, 3)``, mm, landmarks in the fixed image.
        moving_points_ras: ``(N, 3)``, mm, the same landmarks in the moving image.
    """

    fixed: Volume
    moving: Volume
    fixed_labels: Volume
    moving_labels: Volume
    fixed_points_ras: NDArray[np.float64]
    moving_points_ras: NDArray[np.float64]


def make_pair(
    seed: int = 0, shape: tuple[int, int, int] = (60, 84, 72), *, deformation_mm: float = 5.0
) -> SyntheticPair:
    """Generate a pair; the same arguments give the same pair, bit for bit.

    Args:
        seed: draws the deformation, the rigid move, the folds of the surface and the noise.
        shape: ``(D, H, W)`` of the fixed image; the field of view is always that of a head.
        deformation_mm: size of the smooth deformation.
    """
    rng = np.random.default_rng(seed)
    fixed_grid = _grid(shape, np.eye(3), np.zeros(3))
    tilt = _rotation(np.deg2rad([8.0, -6.0, 11.0]))
    moving_shape = (max(8, int(shape[0] * 0.8)), shape[1], max(8, int(shape[2] * 1.1)))
    moving_grid = _grid(moving_shape, tilt, np.array([6.0, -4.0, 3.0]))
    waves = _Waves(rng, deformation_mm)
    pose = np.eye(4)
    pose[:3, :3] = _rotation(np.deg2rad(rng.uniform(-7, 7, 3))) @ np.diag(rng.uniform(0.95, 1.05, 3))
    pose[:3, 3] = rng.uniform(-8, 8, 3)
    folds = rng.uniform(0, 2 * np.pi, 6)

    def head(points_ras: NDArray) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        return _head(points_ras, folds)

    fixed_values, fixed_labels = head(fixed_grid.points())
    moving_values, moving_labels = head(waves.move(map_points(np.linalg.inv(pose), moving_grid.points())))
    landmarks = np.array([center for center, _, _ in _TISSUES[2:]]) * _HALF_SIZE_MM
    moving_landmarks = map_points(pose, waves.move_back(landmarks))

    def noisy(values: NDArray[np.float64]) -> NDArray[np.float32]:
        return (np.clip(values + rng.normal(0, 0.02, values.shape) * (values > 0), 0, None) * 1000).astype(np.float32)

    return SyntheticPair(
        fixed=fixed_grid.volume(noisy(fixed_values), "fixed"),
        moving=moving_grid.volume(noisy(moving_values), "moving"),
        fixed_labels=fixed_grid.volume(fixed_labels, "fixed labels"),
        moving_labels=moving_grid.volume(moving_labels, "moving labels"),
        fixed_points_ras=landmarks,
        moving_points_ras=moving_landmarks,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Grid:
    shape: tuple[int, int, int]
    ras_from_ijk: NDArray[np.float64]

    def points(self) -> NDArray[np.float64]:
        k, j, i = np.meshgrid(*(np.arange(side) for side in self.shape), indexing="ij")
        return map_points(self.ras_from_ijk, np.stack([i, j, k], axis=-1).reshape(-1, 3))

    def volume(self, values: NDArray, name: str) -> Volume:
        return Volume(array=values.reshape(self.shape), ras_from_ijk=self.ras_from_ijk, name=name)


def _grid(shape: tuple[int, int, int], direction: NDArray, center: NDArray) -> _Grid:
    sides = np.array(shape[::-1])
    matrix = np.eye(4)
    matrix[:3, :3] = direction @ np.diag(np.array(_FIELD_OF_VIEW_MM) / sides)
    matrix[:3, 3] = center - matrix[:3, :3] @ ((sides - 1) / 2)
    return _Grid(shape=shape, ras_from_ijk=matrix)


def _rotation(angles: NDArray) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


class _Waves:
    """``x -> x + sum of sines``: smooth, and invertible because its slope stays well below 1."""

    def __init__(self, rng: np.random.Generator, size_mm: float) -> None:
        self.frequencies = rng.uniform(0.4, 1.0, (6, 3)) * rng.choice([-1, 1], (6, 3)) * 2 * np.pi / 150.0
        self.phases = rng.uniform(0, 2 * np.pi, 6)
        self.amplitudes = rng.normal(0, size_mm / np.sqrt(6), (6, 3))

    def move(self, points: NDArray) -> NDArray[np.float64]:
        return points + np.sin(points @ self.frequencies.T + self.phases) @ self.amplitudes

    def move_back(self, points: NDArray) -> NDArray[np.float64]:
        found = np.array(points)
        for _ in range(60):
            found = points - (self.move(found) - found)
        return found


def _head(points_ras: NDArray, folds: NDArray) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Intensity and label at points: nested ellipsoids, a folded inner surface, smooth edges one mm wide."""
    scaled = points_ras / _HALF_SIZE_MM
    ripple = np.sin(_FOLDS * scaled + folds[:3]).sum(axis=1) + np.sin(_FOLDS * scaled[:, ::-1] + folds[3:]).sum(axis=1)
    values = np.zeros(len(points_ras))
    labels = np.zeros(len(points_ras), np.uint8)
    for number, (center, half_axes, intensity) in enumerate(_TISSUES):
        radius = np.linalg.norm((scaled - center) / half_axes, axis=1)
        if number == 1:
            radius = radius + 0.035 * ripple
        edge_mm = (1 - radius) * np.min(np.array(half_axes) * _HALF_SIZE_MM)
        inside = np.clip(0.5 + edge_mm / 2.0, 0, 1)
        values = values * (1 - inside) + intensity * inside
        labels[inside > 0.5] = number + 1
    return values, labels
