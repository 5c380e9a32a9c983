"""Where a search starts: a matrix alone, or a deformation before it that was found elsewhere and is improved on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.transform import MatrixStep, SpatialTransform, compose
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.errors import InputError

_FITTED_POINTS_PER_SIDE = 24
_LEAST_DETERMINANT = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class InitialTransform:
    """The map ``x -> matrix(deformation(x))`` from points of the fixed image to the moving image, RAS mm.

    Attributes:
        matrix_ras: 4x4, the initial alignment.
        deformation: goes before the matrix and moves points little in the mean; None where there is none.
        fixed: the fixed image; beyond it the deformation goes on as at its border.
    """

    matrix_ras: NDArray[np.float64]
    deformation: SpatialTransform | None = None
    fixed: Volume | None = None

    @property
    def whole(self) -> SpatialTransform:
        """Both as one transform."""
        matrix = SpatialTransform(steps=(MatrixStep(matrix_ras=self.matrix_ras),))
        return matrix if self.deformation is None else compose(self.deformation, matrix)

    def displacement_vox(
        self, grid: Grid, device: torch.device, between: Callable[[], None] = lambda: None
    ) -> Tensor | None:
        """``deformation(x) - x`` at the voxel centres, ``(1, 3, D, H, W)`` in voxels of ``grid``, tensor axis order.

        None where there is no deformation.

        Args:
            grid: where the search works.
            device: of the result.
            between: called between pieces of the work; may raise to stop.

        Raises:
            InputError: ``initial-transform-invalid`` where a displacement is not a finite number.
        """
        if self.deformation is None:
            return None
        depth, height, width = grid.shape
        ijk_from_ras = np.linalg.inv(grid.ras_from_ijk[:3, :3])
        field = np.empty((3, *grid.shape), dtype=np.float32)
        j, i = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        for k in range(depth):
            between()
            centres = map_points(grid.ras_from_ijk, np.stack([i, j, np.full_like(i, k)], axis=-1).reshape(-1, 3))
            known = centres if self.fixed is None else _within(self.fixed, centres)
            moved = (self.deformation.transform_points(known) - known) @ ijk_from_ras.T
            field[:, k] = moved[:, ::-1].T.reshape(3, height, width)
        if not np.isfinite(field).all():
            raise _invalid("displaces points by numbers that are not finite")
        return torch.from_numpy(field)[None].to(device)


def initial_transform(transform: SpatialTransform, fixed: Volume) -> InitialTransform:
    """Divide a transform into a deformation and the matrix that follows it.

    A chain that ends with matrices, as this package, ANTs and most others write it, is divided there. Of any other the
    matrix is fitted by least squares, so that beyond the fixed image, where the deformation fades out, what it does in
    the mean goes on.

    Args:
        transform: takes points of the fixed image to the moving image.
        fixed: the fixed image, over which the matrix is fitted.

    Raises:
        InputError: ``initial-transform-invalid`` if it is not finite, or flattens space.
    """
    steps = list(transform.steps)
    linear = np.eye(4)
    while steps and isinstance(last := steps[-1], MatrixStep):
        linear = linear @ last.matrix_ras
        steps.pop()
    if len(steps) < len(transform.steps) or not steps:
        _require_invertible(linear)
        deformation = SpatialTransform(steps=tuple(steps)) if steps else None
        return InitialTransform(matrix_ras=linear, deformation=deformation, fixed=fixed)
    linear = _fitted(transform, fixed)
    back = MatrixStep(matrix_ras=np.linalg.inv(linear).astype(np.float64))
    return InitialTransform(matrix_ras=linear, deformation=SpatialTransform(steps=(*steps, back)), fixed=fixed)


def _within(image: Volume, points_ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each of the points ``(N, 3)``, or the place at the image's border that is next to it along the voxel axes."""
    places = map_points(np.linalg.inv(image.ras_from_ijk), points_ras)
    return map_points(image.ras_from_ijk, np.clip(places, 0, np.array(image.shape[::-1]) - 1))


def _fitted(transform: SpatialTransform, fixed: Volume) -> NDArray[np.float64]:
    """4x4 that is closest to the transform over the fixed image."""
    sides = (np.linspace(0, side - 1, min(side, _FITTED_POINTS_PER_SIDE)) for side in reversed(fixed.shape))
    places = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)
    points = map_points(fixed.ras_from_ijk, places)
    moved = transform.transform_points(points)
    if not np.isfinite(moved).all():
        raise _invalid("displaces points by numbers that are not finite")
    centre = points.mean(axis=0)
    columns = np.column_stack([points - centre, np.ones(len(points))])
    solution, *_ = np.linalg.lstsq(columns, moved, rcond=None)
    matrix = np.eye(4)
    matrix[:3, :3] = solution[:3].T
    matrix[:3, 3] = solution[3] - matrix[:3, :3] @ centre
    _require_invertible(matrix)
    return matrix


def _require_invertible(matrix_ras: NDArray[np.float64]) -> None:
    if not np.isfinite(matrix_ras).all() or abs(np.linalg.det(matrix_ras[:3, :3])) < _LEAST_DETERMINANT:
        raise _invalid("flattens space, or is not finite")


def _invalid(problem: str) -> InputError:
    return InputError(
        "initial-transform-invalid",
        f"The transform to start from {problem}.",
        "Choose a transform that takes points of the fixed image to the moving image, in mm.",
    )
