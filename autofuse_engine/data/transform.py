"""Spatial transforms as data: a chain of matrices and displacement grids, in RAS and mm.

``warped(x) = moving(transform(x))`` with x on the fixed grid: a registration's forward transform takes points of
the fixed image to points of the moving image. Its inverse takes points of the moving image to the fixed image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class MatrixStep:
    """``x -> matrix_ras @ x``; 4x4, float64, RAS mm."""

    matrix_ras: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class GridStep:
    """``x -> x + displacement(x)``, linearly interpolated; identity outside of the grid.

    Attributes:
        displacement_ras: ``(D, H, W, 3)``, mm, components in RAS order (right, anterior, superior).
        ras_from_ijk: 4x4, float64; place of the grid.
    """

    displacement_ras: NDArray
    ras_from_ijk: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class SpatialTransform:
    """Steps that are applied first to last."""

    steps: tuple[MatrixStep | GridStep, ...]
