"""Chains of matrices and displacement grids, as the worker gives them, put onto one grid of displacements.

A chain of one grid step ``x -> x + d(x)`` and matrices is trilinear between the grid's nodes, taken to where the
matrices before it put them. Sampled at exactly these places it loses nothing; see docs/decisions/0050.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from AutoFuseLib.ArrayFiles import readArray
from AutoFuseLib.Geometry import Grid, mapPoints

MOST_NODES = 16_000_000
"""A displacement grid of that size takes 384 MB: beyond it the margin around the worker's grid is made smaller."""

NODES_OF_A_MATRIX = 33
"""Nodes a side of a grid that holds nothing but a matrix."""


@dataclass(frozen=True, eq=False)
class MatrixStep:
    """``x -> matrix @ x``, RAS mm."""

    matrix: NDArray[np.float64]

    def mapPoints(self, points: NDArray) -> NDArray[np.float64]:
        """(..., 3) to (..., 3)."""
        return mapPoints(self.matrix, points)


@dataclass(frozen=True, eq=False)
class GridStep:
    """``x -> x + displacement(x)``, trilinear between the nodes of a grid, the identity outside.

    As in the engine, the outermost values hold for half a voxel beyond the outermost nodes.
    """

    displacement: NDArray
    grid: Grid

    def mapPoints(self, points: NDArray) -> NDArray[np.float64]:
        """(..., 3) to (..., 3)."""
        sides = np.array(self.grid.shape[::-1])
        ijk = mapPoints(np.linalg.inv(self.grid.rasFromIjk), points)
        inside = ((ijk >= -0.5) & (ijk < sides - 0.5)).all(axis=-1)
        places = np.clip(ijk[inside], 0, sides - 1)
        lower = np.minimum(places.astype(np.int64), np.maximum(sides - 2, 0))
        upper = np.minimum(lower + 1, sides - 1)
        share = places - lower
        moved = np.array(points, dtype=np.float64)
        total = np.zeros((len(places), 3))
        for corner in np.ndindex(2, 2, 2):
            i, j, k = np.where(corner, upper, lower).T
            weight = np.where(corner, share, 1 - share).prod(axis=1)
            total += weight[:, None] * self.displacement[k, j, i]
        moved[inside] += total
        return moved


Step = MatrixStep | GridStep


def readChain(chain: Sequence[Mapping[str, Any]], files: Mapping[str, str | Path]) -> list[Step]:
    """The steps of a result, first to last; neighbouring matrices become one.

    Args:
        chain: ``transform`` or ``inverse`` of the worker's report.
        files: ``files`` of its result.

    Raises:
        FileError: ``file-not-found`` or ``file-not-readable``.
    """
    steps: list[Step] = []
    for content in chain:
        if "matrix_ras" in content:
            matrix = np.array(content["matrix_ras"], dtype=np.float64)
            if steps and isinstance(steps[-1], MatrixStep):
                matrix = matrix @ steps.pop().matrix
            steps.append(MatrixStep(matrix))
        else:
            displacement = readArray(Path(files[content["displacement"]]), components=3)
            depth, height, width, _ = displacement.shape
            steps.append(GridStep(displacement, Grid(content["ras_from_ijk"], (depth, height, width))))
    return steps


@dataclass(frozen=True, eq=False)
class Lattice:
    """The nodes of the one grid that a chain is put on, and where the chain's own nodes lie among them.

    Attributes:
        grid: all nodes; its axes need not be at right angles.
        first: (k, j, i) of the chain's first own node; None for a chain of matrices.
    """

    grid: Grid
    first: tuple[int, int, int] | None


def latticeOf(steps: Sequence[Step], covering: Grid) -> Lattice:
    """The nodes on which a chain is represented exactly, extended to hold the box of an image.

    Args:
        steps: as :func:`readChain` gives them.
        covering: the image whose points the chain moves; its box and one voxel of margin are held, as far as
            :data:`MOST_NODES` allows.
    """
    number = next((number for number, step in enumerate(steps) if isinstance(step, GridStep)), None)
    if number is None:
        return Lattice(_box(covering), None)
    before, own = matrixOf(steps[:number]), steps[number].grid
    rasFromIjk = np.linalg.inv(before) @ own.rasFromIjk
    sides = np.array(own.shape[::-1])
    lowest, highest = np.full(3, -1), sides
    if not np.allclose(matrixOf(steps), np.eye(4), atol=1e-9):
        places = mapPoints(np.linalg.inv(rasFromIjk), covering.corners())
        low = np.minimum(lowest, np.floor(places.min(axis=0)).astype(int) - 1)
        high = np.maximum(highest, np.ceil(places.max(axis=0)).astype(int) + 1)
        share = _affordableShare(lowest - low, high - highest, sides + 2)
        lowest, highest = (
            lowest - ((lowest - low) * share).astype(int),
            highest + ((high - highest) * share).astype(int),
        )
    placed = rasFromIjk.copy()
    placed[:3, 3] = mapPoints(rasFromIjk, lowest)
    width, height, depth = (int(count) for count in highest - lowest + 1)
    i, j, k = (int(-low) for low in lowest)
    return Lattice(Grid(placed, (depth, height, width)), (k, j, i))


def matrixOf(steps: Sequence[Step]) -> NDArray[np.float64]:
    """4x4: what the matrices of a chain do together, its grids left out."""
    matrix = np.eye(4)
    for step in steps:
        if isinstance(step, MatrixStep):
            matrix = step.matrix @ matrix
    return matrix


def displacementSlab(steps: Sequence[Step], lattice: Lattice, part: slice) -> NDArray[np.float64]:
    """``chain(x) - x`` at the nodes of some slices (along k) of the lattice: (slices, j, i, 3), mm."""
    _, height, width = lattice.grid.shape
    matrix = lattice.grid.rasFromIjk
    along = [np.multiply.outer(np.arange(count), matrix[:3, axis]) for axis, count in ((0, width), (1, height))]
    slices = matrix[:3, 3] + np.multiply.outer(np.arange(part.start, part.stop), matrix[:3, 2])
    nodes = slices[:, None, None] + (along[1][:, None] + along[0])
    points = nodes
    onNodes = lattice.first is not None
    for step in steps:
        if isinstance(step, GridStep) and onNodes:
            points = points.copy() if points is nodes else points
            _addOwnNodes(points, step, lattice, part)
            onNodes = False
        else:
            points = step.mapPoints(points)
    return points - nodes


def _addOwnNodes(points: NDArray, step: GridStep, lattice: Lattice, part: slice) -> None:
    """Add the displacement of the grid whose nodes the lattice has, without interpolation; it is 0 beyond."""
    k, j, i = lattice.first or (0, 0, 0)
    depth, height, width = step.grid.shape
    start, stop = max(part.start, k), min(part.stop, k + depth)
    if start < stop:
        points[start - part.start : stop - part.start, j : j + height, i : i + width] += step.displacement[
            start - k : stop - k
        ]


def _box(covering: Grid) -> Grid:
    """A coarse grid one voxel beyond the image's box: linear interpolation between any nodes is exact for a matrix.

    Two nodes a side would do, but VTK rounds places within a cell to some 1e-5 of it.
    """
    counts = np.array(covering.shape[::-1])
    scale = np.eye(4)
    scale[:3, :3] = np.diag((counts + 2.0) / (NODES_OF_A_MATRIX - 1))
    scale[:3, 3] = -1.5
    return Grid(covering.rasFromIjk @ scale, (NODES_OF_A_MATRIX,) * 3)


def _affordableShare(below: NDArray, above: NDArray, sides: NDArray) -> float:
    """The largest share of the extensions, in [0, 1], with which the grid keeps to :data:`MOST_NODES`."""
    share = 1.0
    while share > 0 and np.prod(sides + (below * share).astype(int) + (above * share).astype(int)) > MOST_NODES:
        share = max(0.0, share - 0.02)
    return share
