"""The distance between points that belong together: closed forms, a second implementation, and where it pulls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from autofuse_engine.losses.correspondence import correspondence_distance
from autofuse_engine.spatial.grid import voxel_grid

SHAPE = (6, 9, 7)
ONES = torch.ones(1, 1, *SHAPE)


def shift(*vector: float) -> torch.Tensor:
    return torch.tensor(vector).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)


def test_a_displacement_that_joins_all_points_costs_nothing() -> None:
    grid = voxel_grid(SHAPE)
    offset = shift(1.0, -2.0, 0.5)
    weight = torch.zeros(1, 1, *SHAPE)
    weight[:, :, :4, 3:, :5] = 1  # where the moving image is not left
    assert float(correspondence_distance(grid + offset, grid, offset, weight)) == pytest.approx(0, abs=1e-6)
    assert float(correspondence_distance(grid + offset, grid, -offset, weight)) > 1


@pytest.mark.parametrize(("vector", "expected"), [((3.0, 0.0, 4.0), 26**0.5 - 1), ((0.0, 0.1, 0.0), 1.01**0.5 - 1)])
def test_it_is_the_charbonnier_distance_in_voxels(vector: tuple[float, float, float], expected: float) -> None:
    grid = voxel_grid(SHAPE)
    got = correspondence_distance(grid + shift(*vector), grid, torch.zeros(1, 3, *SHAPE), ONES)
    assert float(got) == pytest.approx(expected, rel=1e-4)


def test_it_equals_a_second_implementation() -> None:
    generator = torch.Generator().manual_seed(3)
    grid = voxel_grid(SHAPE)
    fixed, moving = (grid + torch.randn(1, 3, *SHAPE, generator=generator) for _ in range(2))
    displacement = 0.8 * torch.randn(1, 3, *SHAPE, generator=generator)
    weight = torch.rand(1, 1, *SHAPE, generator=generator)
    places = (grid + displacement)[0].double().numpy()
    carried = [map_coordinates(one.double().numpy(), places, order=1, mode="nearest") for one in moving[0]]
    away = np.sqrt(((np.stack(carried) - fixed[0].numpy()) ** 2).sum(axis=0) + 1) - 1
    share = weight[0, 0].double().numpy()
    got = correspondence_distance(fixed, moving, displacement, weight)
    assert float(got) == pytest.approx((share * away).sum() / share.sum(), rel=1e-5)


def test_it_pulls_along_each_axis_over_any_distance() -> None:
    grid = voxel_grid(SHAPE)
    for axis in range(3):
        vector = [0.0, 0.0, 0.0]
        vector[axis] = 40.0
        displacement = torch.zeros(1, 3, *SHAPE, requires_grad=True)
        correspondence_distance(grid + shift(*vector), grid, displacement, ONES).backward()
        assert displacement.grad is not None
        pull = -displacement.grad[0].mean(dim=(1, 2, 3))
        assert int(pull.argmax()) == axis
        assert float(pull[axis]) > 0
        others = [float(pull[other].abs()) for other in range(3) if other != axis]
        assert max(others) < 1e-6


def test_voxels_without_weight_do_not_count_and_none_at_all_give_zero() -> None:
    grid = voxel_grid(SHAPE)
    wrong = grid.clone()
    wrong[:, :, 2:4] += 9
    weight = ONES.clone()
    weight[:, :, 2:4] = 0
    nothing = torch.zeros(1, 3, *SHAPE)
    assert float(correspondence_distance(wrong, grid, nothing, weight)) == pytest.approx(0, abs=1e-6)
    assert float(correspondence_distance(wrong, grid, nothing, 0 * ONES)) == 0


def test_shapes_that_differ_are_refused() -> None:
    grid = voxel_grid(SHAPE)
    with pytest.raises(ValueError, match="one shape"):
        correspondence_distance(grid, grid, torch.zeros(1, 3, 6, 9, 8), ONES)
