"""A small pair for the tests of peers: oblique, anisotropic, one image mirrored, an initial alignment that moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.evaluation_methods import EvaluationPair


def rotation(angles_deg: tuple[float, float, float]) -> NDArray[np.float64]:
    """Turns about the three axes in turn."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles_deg)):
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def oblique_grid(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], angles_deg: tuple[float, float, float], *,
    mirrored: bool = False, center: tuple[float, float, float] = (12.0, -30.0, 45.0),
) -> NDArray[np.float64]:  # fmt: skip
    """4x4 RAS from i, j, k of a grid about a point."""
    direction = rotation(angles_deg) @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = direction * np.array(spacing_mm)
    matrix[:3, 3] = np.array(center) - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return matrix


def centres_of(shape: tuple[int, int, int], ras_from_ijk: NDArray) -> NDArray[np.float64]:
    """Voxel centres ``(D, H, W, 3)``, RAS mm."""
    k, j, i = np.indices(shape)
    return map_points(ras_from_ijk, np.stack([i, j, k], axis=-1))


def egg_pair(shift_mm: float = 3.0) -> EvaluationPair:
    """Two eggs with a ball inside, zero at every border; in the moving image the ball lies ``shift_mm`` elsewhere."""
    initial = np.eye(4)
    initial[:3, :3] = rotation((4.0, -3.0, 5.0)) @ np.diag([1.03, 0.98, 1.02])
    initial[:3, 3] = np.array([2.0, -3.0, 1.5]) + (np.eye(3) - initial[:3, :3]) @ np.array([12.0, -30.0, 45.0])
    fixed_grid = oblique_grid((20, 30, 26), (2.2, 2.0, 2.6), (10.0, -7.0, 4.0))
    moving_grid = oblique_grid((26, 22, 28), (2.1, 2.9, 2.0), (-6.0, 12.0, 8.0), mirrored=True)
    fixed = _egg(centres_of((20, 30, 26), fixed_grid), 0.0)
    back = np.linalg.inv(initial)
    moving = _egg(map_points(back, centres_of((26, 22, 28), moving_grid)), shift_mm)
    return EvaluationPair(
        fixed=Volume(array=fixed, ras_from_ijk=fixed_grid, name="egg one"),
        moving=Volume(array=moving, ras_from_ijk=moving_grid, name="egg two"),
        initial_ras=initial,
    )


def _egg(points_ras: NDArray, shift_mm: float) -> NDArray[np.float32]:
    place = points_ras - np.array([12.0, -30.0, 45.0])
    shell = np.linalg.norm(place / np.array([17.0, 21.0, 15.0]), axis=-1)
    ball = np.linalg.norm((place - np.array([2.0 + shift_mm, -3.0, 1.0 - shift_mm / 2])) / 7.0, axis=-1)
    return (1000 * (_soft(shell) - 0.6 * _soft(ball))).astype(np.float32)


def _soft(radius: NDArray) -> NDArray:
    """One inside of 1, zero beyond, a soft edge."""
    return 1 / (1 + np.exp((radius - 1) * 12)) * (radius < 1.3)
