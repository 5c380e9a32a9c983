"""Transforms of the scene that a registration starts from: a matrix where they are linear, else a displacement grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.errors import InputError
from AutoFuseLib.ArrayFiles import writeArraySteps
from AutoFuseLib.FigurePlanes import throughTransform
from AutoFuseLib.Geometry import Grid, localFromWorld, mapPoints
from AutoFuseLib.Steps import Steps
from AutoFuseLib.Volumes import specOf

MOST_NODES = 3_000_000
"""Of an exported grid: finer than the engine's own working grid of the largest images; VTK takes seconds for them."""

_NODES_A_PIECE = 5_000


def exportStartSteps(node: Any, covering: Grid, path: Path) -> Steps[dict[str, Any]]:
    """Write where a transform node takes points of the fixed image, as displacements over the image's box.

    A transform node moves what lies under it to the world. Here the other direction counts: where a point of the fixed
    image lies in the moving image, if that were put under the node.

    Args:
        node: vtkMRMLTransformNode that is not linear; its own parents count too.
        covering: grid of the exported fixed image.
        path: the ``.npy`` file (k, j, i, 3), float32, mm, RAS; its folder exists.

    Returns:
        As :func:`AutoFuseLib.Volumes.exportVolumeSteps`.

    Raises:
        InputError: ``initial-transform-invalid`` where it displaces a point by what is no finite number.
        FileError: ``disk-full`` or ``output-not-writable``.
    """
    grid = coarsened(covering, MOST_NODES)
    through = localFromWorld(node)
    depth, height, width = grid.shape
    j, i = (index.ravel() for index in np.indices((height, width)))

    def vectors() -> Iterator[NDArray | None]:
        for k in range(depth):
            points = mapPoints(grid.rasFromIjk, np.stack([i, j, np.full_like(i, k)], axis=-1))
            moved = np.empty_like(points)
            for start in range(0, len(points), _NODES_A_PIECE):
                piece = slice(start, start + _NODES_A_PIECE)
                moved[piece] = throughTransform(through, points[piece])
                yield None
            if not np.isfinite(moved).all():
                raise InputError(
                    "initial-transform-invalid",
                    f"The transform {node.GetName()} displaces points by numbers that are not finite.",
                    "Choose another transform to start from.",
                )
            yield (moved - points).astype(np.float32).reshape(1, height, width, 3)

    yield from writeArraySteps(path, (*grid.shape, 3), np.float32, vectors())
    return specOf(path, grid, node.GetName())


def coarsened(grid: Grid, mostNodes: int) -> Grid:
    """A grid of at most so many nodes over the same box: the same one where it is small enough.

    Its outermost nodes are those of the first grid, so that it ends nowhere within the box.
    """
    count = math.prod(grid.shape)
    if count <= mostNodes:
        return grid
    ratio = (mostNodes / count) ** (1 / 3)
    shape = tuple(max(2, math.floor(side * ratio)) for side in grid.shape)
    steps = [(old - 1) / (new - 1) for old, new in zip(grid.shape, shape, strict=True)]
    rasFromIjk = grid.rasFromIjk @ np.diag([steps[2], steps[1], steps[0], 1.0])
    return Grid(rasFromIjk, (shape[0], shape[1], shape[2]))
