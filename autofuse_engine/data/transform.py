"""Spatial transforms as data: a chain of matrices and displacement grids, in RAS and mm.

``warped(x) = moving(transform(x))`` with x on the fixed grid: a registration's forward transform takes points of
the fixed image to points of the moving image. Its inverse takes points of the moving image to the fixed image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.volume import map_points

_POINTS_AT_ONCE = 1 << 18


@dataclass(frozen=True, kw_only=True, eq=False)
class MatrixStep:
    """``x -> matrix_ras @ x``; 4x4, float64, RAS mm."""

    matrix_ras: NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix_ras", np.array(self.matrix_ras, dtype=np.float64))
        if self.matrix_ras.shape != (4, 4) or not np.allclose(self.matrix_ras[3], (0, 0, 0, 1)):
            raise ValueError(f"matrix_ras is 4x4 with the last row 0 0 0 1, received {self.matrix_ras.tolist()}")

    def transform_points(self, points_ras: NDArray) -> NDArray[np.float64]:
        """Take ``(N, 3)`` points, RAS mm, to where the step sends them."""
        return map_points(self.matrix_ras, points_ras)


@dataclass(frozen=True, kw_only=True, eq=False)
class GridStep:
    """``x -> x + displacement(x)``, linearly interpolated; identity outside of the grid.

    As in ITK the grid ends half a voxel beyond its outermost points: index coordinates from -0.5 (included) to
    n - 0.5 (excluded) count as inside, and in that margin the outermost value holds.

    Attributes:
        displacement_ras: ``(D, H, W, 3)``, mm, components in RAS order (right, anterior, superior).
        ras_from_ijk: 4x4, float64; place of the grid.
    """

    displacement_ras: NDArray
    ras_from_ijk: NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ras_from_ijk", np.array(self.ras_from_ijk, dtype=np.float64))
        if not np.issubdtype(self.displacement_ras.dtype, np.floating):
            raise ValueError(f"displacement_ras holds floating-point numbers, received {self.displacement_ras.dtype}")
        if self.displacement_ras.ndim != 4 or self.displacement_ras.shape[3] != 3:
            raise ValueError(f"displacement_ras has the shape (D, H, W, 3), received {self.displacement_ras.shape}")
        if self.ras_from_ijk.shape != (4, 4):
            raise ValueError(f"ras_from_ijk is 4x4, received {self.ras_from_ijk.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(D, H, W)``."""
        depth, height, width, _ = self.displacement_ras.shape
        return depth, height, width

    def transform_points(self, points_ras: NDArray) -> NDArray[np.float64]:
        """Take ``(N, 3)`` points, RAS mm, to where the step sends them."""
        return np.asarray(points_ras, dtype=np.float64) + self.displacement_at(points_ras)

    def displacement_at(self, points_ras: NDArray) -> NDArray[np.float64]:
        """``(N, 3)``, mm: the trilinear displacement at ``(N, 3)`` points; zero outside."""
        return self._interpolate(points_ras, with_slope=False)[0]

    def displacement_and_gradient_at(self, points_ras: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The displacement ``(N, 3)`` and its derivative ``(N, 3, 3)``: rows are components, columns RAS axes."""
        values, gradient_ijk = self._interpolate(points_ras, with_slope=True)
        ijk_from_ras = np.linalg.inv(self.ras_from_ijk[:3, :3]).astype(np.float64)
        return values, gradient_ijk @ ijk_from_ras

    def _interpolate(self, points_ras: NDArray, *, with_slope: bool) -> tuple[NDArray, NDArray]:
        points_ijk = map_points(np.linalg.inv(self.ras_from_ijk), points_ras)
        sides = np.array(self.shape[::-1])
        inside = ((points_ijk >= -0.5) & (points_ijk < sides - 0.5)).all(axis=1)
        clamped = np.clip(points_ijk[inside], 0, sides - 1)
        lower = np.minimum(np.floor(clamped).astype(np.int64), np.maximum(sides - 2, 0))
        upper_share = clamped - lower
        shares = np.stack([1 - upper_share, upper_share])
        rises = np.array([-1.0, 1.0])[:, None, None] * (clamped == points_ijk[inside])  # the margin is flat
        strides = np.array([1, sides[0], sides[0] * sides[1]])
        first = lower @ strides
        table = self.displacement_ras.reshape(-1, 3)
        value = np.zeros((len(lower), 3))
        slope = np.zeros((len(lower), 3, 3 if with_slope else 0))
        for i, j, k in np.ndindex(2, 2, 2):
            here = table[first + np.minimum((i, j, k), sides - 1) @ strides]
            x, y, z = shares[i, :, 0], shares[j, :, 1], shares[k, :, 2]
            value += (x * y * z)[:, None] * here
            if with_slope:
                slope[:, :, 0] += (rises[i, :, 0] * y * z)[:, None] * here
                slope[:, :, 1] += (x * rises[j, :, 1] * z)[:, None] * here
                slope[:, :, 2] += (x * y * rises[k, :, 2])[:, None] * here
        values, slopes = np.zeros((len(points_ijk), 3)), np.zeros((len(points_ijk), *slope.shape[1:]))
        values[inside], slopes[inside] = value, slope
        return values, slopes


@dataclass(frozen=True, kw_only=True, eq=False)
class SpatialTransform:
    """Steps that are applied first to last; no step is the identity."""

    steps: tuple[MatrixStep | GridStep, ...]

    @property
    def matrix_ras(self) -> NDArray[np.float64] | None:
        """4x4 of the whole chain where it holds no grid, else None."""
        matrix = np.eye(4)
        for step in self.steps:
            if not isinstance(step, MatrixStep):
                return None
            matrix = step.matrix_ras @ matrix
        return matrix

    def transform_points(self, points_ras: NDArray) -> NDArray[np.float64]:
        """Take points ``(N, 3)``, RAS mm, through all steps; float64."""
        points = np.array(points_ras, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points have the shape (N, 3), received {points.shape}")
        for part in _parts(len(points)):
            for step in self.steps:
                points[part] = step.transform_points(points[part])
        return points

    def flattened(self, ras_from_ijk: NDArray, shape: tuple[int, int, int]) -> GridStep:
        """Sample ``transform(x) - x`` of the whole chain at the voxel centres of one grid, as float64.

        Args:
            ras_from_ijk: 4x4 place of the grid.
            shape: ``(D, H, W)``.
        """
        displacement = np.empty((*shape, 3))
        flat = displacement.reshape(-1, 3)
        for part in _parts(len(flat)):
            k, j, i = np.unravel_index(np.arange(part.start, part.stop), shape)
            points = map_points(ras_from_ijk, np.stack([i, j, k], axis=1))
            flat[part] = self.transform_points(points) - points
        return GridStep(displacement_ras=displacement, ras_from_ijk=ras_from_ijk)


def compose(first: SpatialTransform, then: SpatialTransform) -> SpatialTransform:
    """``x -> then(first(x))``; neighbouring matrices become one."""
    steps: list[MatrixStep | GridStep] = []
    for step in (*first.steps, *then.steps):
        previous = steps[-1] if steps else None
        if isinstance(step, MatrixStep) and isinstance(previous, MatrixStep):
            steps[-1] = MatrixStep(matrix_ras=step.matrix_ras @ previous.matrix_ras)
        else:
            steps.append(step)
    return SpatialTransform(steps=tuple(steps))


@dataclass(frozen=True, kw_only=True, eq=False)
class InvertedPoints:
    """What :func:`invert_points` found.

    Attributes:
        points_ras: ``(N, 3)``, mm; ``transform(points_ras)`` is the points asked for.
        error_mm: ``(N,)``; distance between the two, measured through the transform.
        converged: ``(N,)``, bool; error within the tolerance. Where the transform folds there may be no solution.
    """

    points_ras: NDArray[np.float64]
    error_mm: NDArray[np.float64]
    converged: NDArray[np.bool_]


def invert_points(transform: SpatialTransform, points_ras: NDArray, tolerance_mm: float = 1e-4) -> InvertedPoints:
    """Find the points that the transform takes to ``points_ras`` ``(N, 3)``: damped Newton, step by step."""
    wanted = np.array(points_ras, dtype=np.float64)
    found = wanted.copy()
    for part in _parts(len(found)):
        for step in reversed(transform.steps):
            if isinstance(step, MatrixStep):
                found[part] = map_points(np.linalg.inv(step.matrix_ras), found[part])
            else:
                found[part] = _invert_grid(step, found[part], tolerance_mm * 1e-3)
    error_mm = np.linalg.norm(transform.transform_points(found) - wanted, axis=1)
    return InvertedPoints(points_ras=found, error_mm=error_mm, converged=error_mm <= tolerance_mm)


def _invert_grid(step: GridStep, wanted: NDArray[np.float64], tolerance_mm: float) -> NDArray[np.float64]:
    found = wanted - step.displacement_at(wanted)
    damping = np.ones(len(found))
    displacement, gradient = step.displacement_and_gradient_at(found)
    residual = found + displacement - wanted
    for _ in range(100):
        size = np.linalg.norm(residual, axis=1)
        open_ = np.flatnonzero((size > tolerance_mm) & (damping > 1e-6))
        if not len(open_):
            break
        jacobian = np.eye(3) + gradient[open_]
        turned = np.linalg.det(jacobian) < 1e-3
        jacobian[turned] = np.eye(3)  # in a fold Newton's direction misleads: take the plain fixed-point step
        newton = np.linalg.solve(jacobian, residual[open_][..., None])[..., 0]
        tried = found[open_] - damping[open_, None] * newton
        new_displacement, new_gradient = step.displacement_and_gradient_at(tried)
        new_residual = tried + new_displacement - wanted[open_]
        better = np.linalg.norm(new_residual, axis=1) < size[open_]
        good = open_[better]
        found[good], residual[good], gradient[good] = tried[better], new_residual[better], new_gradient[better]
        damping[good] = np.minimum(1.0, damping[good] * 2)
        damping[open_[~better]] /= 2
    return found


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, _POINTS_AT_ONCE):
        yield slice(start, min(count, start + _POINTS_AT_ONCE))
