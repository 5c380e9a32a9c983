"""Models that predict the displacement itself: how it is carried through refinement, inverse and transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autofuse_engine.configs import RefinementConfig
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.volume import map_points
from autofuse_engine.deformation import deform, regularity_map, transforms
from autofuse_engine.refinement import RefinementPair, refine
from autofuse_engine.spatial.integrate import integrate
from autofuse_engine.spatial.parts import Part
from autofuse_engine.spatial.smooth import smooth
from autofuse_engine.spatial.warp import compose, warp
from Testing.engine.test_deformation import FIXED, GRID, geometry

SHAPE = (32, 40, 36)


def field(size_vox: float, seed: int, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    raw = smooth(torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(seed)), 4.0)
    return size_vox * raw / raw.norm(dim=1).amax()


def pair_moved_by(displacement: torch.Tensor) -> RefinementPair:
    image = smooth(torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1)), 1.6)
    moving = (image - image.amin()) / (image.amax() - image.amin())
    return RefinementPair(
        fixed=warp(moving, displacement),
        moving=moving,
        moving_from_fixed_vox=np.eye(4),
        moving_voxels_per_fixed=(1.0, 1.0, 1.0),
    )


def test_refinement_leaves_a_right_displacement_alone() -> None:
    right = integrate(field(2.5, 11))
    result = refine(pair_moved_by(right), RefinementConfig(steps=10), base_vox=right)
    assert float(result.velocity_vox.norm(dim=1).mean()) < 0.08
    assert [level.factor for level in result.levels] == [2, 1]


def test_refinement_finds_the_flow_that_comes_before_the_displacement() -> None:
    base, rest = field(2.0, 11), field(1.5, 12)
    total = compose(integrate(rest), base)
    start = torch.zeros_like(base)
    result = refine(pair_moved_by(total), RefinementConfig(steps=25, smoothness=0.5), start_vox=start, base_vox=base)
    inner = (slice(None), slice(None), *[slice(6, -6)] * 3)

    def error(velocity: torch.Tensor) -> float:
        return float((compose(integrate(velocity), base) - total)[inner].norm(dim=1).mean())

    assert error(start) > 0.3
    assert error(result.velocity_vox) < 0.35 * error(start)
    # The other order, displacement first, is not what was refined.
    other = (compose(base, integrate(result.velocity_vox)) - total)[inner].norm(dim=1).mean()
    assert float(other) > 1.2 * error(result.velocity_vox)


@pytest.mark.parametrize("velocity_size", [0.0, 1.5])
def test_a_displacement_becomes_a_transform_with_an_inverse(velocity_size: float) -> None:
    velocity, predicted = (field(size, seed, GRID.shape) for size, seed in ((velocity_size, 3), (2.0, 4)))
    deformation = deform(velocity, GRID, [Part(field_vox=predicted, is_velocity=False)])
    forward, inverse = transforms(deformation, np.eye(4))
    width = (deformation.grid.shape[0] - GRID.shape[0]) // 2
    inside = (slice(None), slice(None), *[slice(width, -width)] * 3)
    if velocity_size == 0:
        torch.testing.assert_close(deformation.displacement_vox[inside], predicted)
    rng = np.random.default_rng(0)
    inner = map_points(geometry(), rng.uniform((-6, -6, -6), (22, 30, 26), (800, 3)))
    there = forward.transform_points(inner)
    error = np.linalg.norm(inverse.transform_points(there) - inner, axis=1)
    assert np.linalg.norm(there - inner, axis=1).max() > 1.0
    assert error.mean() < 0.05
    assert error.max() < 0.6
    faces = [deformation.displacement_vox.select(axis, index) for axis in (2, 3, 4) for index in (0, -1)]
    assert max(float(face.abs().max()) for face in faces) < 1e-6


def test_the_flow_comes_first_and_the_displacement_after_it() -> None:
    velocity = torch.zeros(1, 3, *GRID.shape)
    velocity[:, 2] = 2.0  # tensor axis 2 is i
    predicted = torch.zeros_like(velocity)
    predicted[0, 0] = torch.linspace(-1, 1, GRID.shape[2])  # moves along k, by how far along i
    forward, _ = transforms(deform(velocity, GRID, [Part(field_vox=predicted, is_velocity=False)]), np.eye(4))
    start = np.array([[6.0, 12.0, 10.0]])
    slope = 2.0 / (GRID.shape[2] - 1)
    expected = start + np.array([[2.0, 0.0, -1.0 + slope * 8.0]])
    assert np.allclose(
        forward.transform_points(map_points(geometry(), start)), map_points(geometry(), expected), atol=1e-4
    )


def test_the_learned_weight_lies_where_it_was_learned_and_is_one_beyond() -> None:
    k, j, i = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in GRID.shape), indexing="ij")
    weight = (0.2 + 0.01 * k + 0.02 * j + 0.005 * i)[None, None]
    shifted = Grid(shape=GRID.shape, ras_from_ijk=FIXED.ras_from_ijk @ np.array(
        [[1.0, 0, 0, 4], [0, 1, 0, 3], [0, 0, 1, -2], [0, 0, 0, 1]]))  # fmt: skip
    volume = regularity_map(weight, shifted, FIXED)
    assert volume is not None
    assert volume.same_grid(FIXED)
    # Voxel (k, j, i) = (5, 7, 9) of the fixed image is voxel (7, 4, 5) of the working grid.
    assert volume.array[5, 7, 9] == pytest.approx(0.2 + 0.07 + 0.08 + 0.025, abs=1e-5)
    assert volume.array[5, 1, 9] == 1.0
    assert regularity_map(None, shifted, FIXED) is None
