"""Transform files of the engine, read by Slicer's own storage node: its points land where the engine puts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.transform_files import write_transform
from autofuse_engine.data.volume import map_points

SHAPE = (9, 11, 13)
COSINE, SINE = np.cos(0.5), np.sin(0.5)
PLACE = np.array(
    [[-1.5 * COSINE, 0, 2.5 * SINE, 20], [0, 1.25, 0, -15], [1.5 * SINE, 0, 2.5 * COSINE, 4], [0, 0, 0, 1.0]]
)
MATRIX = MatrixStep(
    matrix_ras=np.array([[1.05, 0.1, 0, 6], [-0.08, 0.95, 0.05, -9], [0, 0.02, 1.1, 14], [0, 0, 0, 1.0]])
)


def tapered_grid() -> GridStep:
    """A field that is zero on the border of its grid, as those of the engine are: beyond it Slicer and ITK differ."""
    k, j, i = (axis / (side - 1) for axis, side in zip(np.indices(SHAPE), SHAPE, strict=True))
    window = np.sin(np.pi * k) * np.sin(np.pi * j) * np.sin(np.pi * i)
    waves = [2.5 * window * wave for wave in (np.sin(6 * j), np.cos(5 * k), np.sin(4 * i + 1))]
    return GridStep(displacement_ras=np.stack(waves, axis=-1), ras_from_ijk=PLACE)


CHAINS = {
    "matrix": (MATRIX,),
    "grid": (tapered_grid(),),
    "grid then matrix": (tapered_grid(), MATRIX),
    "matrix then grid": (MATRIX, tapered_grid()),
}


def make_linear(transform: object) -> None:
    """Slicer sets the grids that it reads to cubic interpolation."""
    if hasattr(transform, "SetInterpolationModeToLinear"):
        transform.SetInterpolationModeToLinear()
        transform.GetInverse().SetInterpolationModeToLinear()  # the one of both that follows the other is overwritten
    if hasattr(transform, "GetConcatenatedTransform"):
        for number in range(transform.GetNumberOfConcatenatedTransforms()):
            make_linear(transform.GetConcatenatedTransform(number))


FIELDS = [(chain, ending) for chain in ("grid", "grid then matrix") for ending in (".nrrd", ".nii.gz")]
"""A field on the grid cannot hold a matrix that acts outside of it."""


@pytest.mark.parametrize(("chain", "ending"), [*((chain, end) for chain in CHAINS for end in (".h5", ".tfm")), *FIELDS])
def test_slicer_moves_points_from_parent_as_the_engine_does(host, tmp_path: Path, chain: str, ending: str) -> None:
    import slicer

    transform = SpatialTransform(steps=CHAINS[chain])
    path = tmp_path / f"Übergang{ending}"
    write_transform(path, transform)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    from_parent = node.GetTransformFromParent()
    for direction in (from_parent, node.GetTransformToParent()):
        make_linear(direction)
    beyond = 3.0 if ending in (".h5", ".tfm") else 0.0
    sides = np.array(SHAPE[::-1])
    ijk = np.random.default_rng(0).uniform(-beyond, sides - 1 + beyond, size=(300, 3))
    points = map_points(PLACE, ijk)
    if chain == "matrix then grid":
        points = map_points(np.linalg.inv(MATRIX.matrix_ras), points)
    moved = np.array([from_parent.TransformPoint(*point) for point in points])
    assert np.abs(moved - transform.transform_points(points)).max() < 3e-5  # VTK keeps places in 32 bits
    assert np.abs(moved - points).max() > 1
