"""Flows of velocity fields, their inverses and their Jacobian determinants, against closed forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from autofuse_engine.spatial.grid import voxel_grid
from autofuse_engine.spatial.integrate import _halfway, flow, integrate, invert, polish_inverse, squarings_for
from autofuse_engine.spatial.jacobian import folding, jacobian_determinant
from autofuse_engine.spatial.warp import compose, sample, warp

SHAPE = (18, 22, 20)


def bump(size_vox: float, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    """A smooth random velocity that falls to zero at the border."""
    generator = torch.Generator().manual_seed(seed)
    field = F.interpolate(torch.randn(1, 3, 4, 5, 4, generator=generator), shape, mode="trilinear", align_corners=True)
    window = torch.ones(1, 1, *shape)
    for axis, side in enumerate(shape):
        profile = torch.sin(torch.linspace(0, np.pi, side)) ** 2
        window = window * profile.view([-1 if a == axis + 2 else 1 for a in range(5)])
    return size_vox * field * window


def test_a_constant_velocity_moves_by_itself() -> None:
    velocity = torch.tensor([0.7, -1.1, 0.4]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    assert torch.allclose(integrate(velocity), velocity, atol=1e-5)


def test_a_linear_velocity_grows_exponentially() -> None:
    center = (torch.tensor(SHAPE) - 1).view(1, 3, 1, 1, 1) / 2
    rates = torch.tensor([0.10, -0.15, 0.05]).view(1, 3, 1, 1, 1)
    away = voxel_grid(SHAPE) - center
    displacement = integrate(rates * away, 12)
    inner = (slice(None), slice(None), *[slice(6, -6)] * 3)
    assert torch.allclose(displacement[inner], ((torch.exp(rates) - 1) * away)[inner], atol=2e-3)


def test_a_rotating_velocity_turns_by_its_angle() -> None:
    center = (torch.tensor(SHAPE) - 1).view(1, 3, 1, 1, 1) / 2
    away = voxel_grid(SHAPE) - center
    angle = 0.3
    velocity = torch.stack([torch.zeros_like(away[:, 0]), -angle * away[:, 2], angle * away[:, 1]], dim=1)
    displacement = integrate(velocity, 10)[:, :, 9, 8:14, 7:13]
    away = away[:, :, 9, 8:14, 7:13]
    turned = torch.stack(
        [away[:, 0], np.cos(angle) * away[:, 1] - np.sin(angle) * away[:, 2],
         np.sin(angle) * away[:, 1] + np.cos(angle) * away[:, 2]], dim=1)  # fmt: skip
    assert torch.allclose(displacement, turned - away, atol=5e-3)


def test_the_iterated_inverse_of_a_flow_is_the_opposite_flow() -> None:
    velocity = bump(2.0)
    displacement = integrate(velocity)
    inverse = invert(displacement)
    assert float(compose(inverse, displacement).abs().max()) < 2e-3
    # Apart from the nodes both are interpolations of their own, hence the looser bound.
    assert float((inverse - integrate(-velocity)).norm(dim=1).max()) < 0.15
    assert float(displacement.norm(dim=1).max()) > 1.5


def test_the_inverse_of_a_stretch_is_found_in_closed_form() -> None:
    rates = torch.tensor([0.5, -0.4, 1.0]).view(1, 3, 1, 1, 1)
    center = (torch.tensor(SHAPE) - 1).view(1, 3, 1, 1, 1) / 2
    away = voxel_grid(SHAPE) - center
    inner = (slice(None), slice(None), *[slice(6, -6)] * 3)
    assert torch.allclose(invert(rates * away)[inner], ((1 / (1 + rates) - 1) * away)[inner], atol=5e-3)


def test_a_field_that_folds_gives_numbers_and_no_more() -> None:
    field = bump(8.0)
    assert folding(jacobian_determinant(field))[1] > 100
    inverse = invert(field)
    assert bool(torch.isfinite(inverse).all())
    assert float(inverse.abs().max()) < 2 * float(field.abs().max())


def test_squaring_equals_many_small_euler_steps() -> None:
    velocity = bump(1.5).double()
    places = voxel_grid(SHAPE, dtype=torch.float64)
    for _ in range(1024):
        places = places + sample(velocity, places) / 1024
    error = (integrate(velocity, 7) - (places - voxel_grid(SHAPE, dtype=torch.float64))).norm(dim=1)
    assert float(error.mean()) < 0.01
    assert float(error.max()) < 0.15


def test_the_flow_of_the_opposite_velocity_is_the_inverse() -> None:
    velocity = bump(2.0, seed=2)
    assert float(integrate(velocity).abs().max()) > 1.5
    there_and_back = compose(integrate(velocity), integrate(-velocity))
    assert float(there_and_back.norm(dim=1).mean()) < 0.02


def test_polishing_makes_the_inverse_fit_at_points_between_the_nodes() -> None:
    velocity = bump(3.0, seed=5)
    there, back = integrate(velocity), integrate(-velocity)
    generator = torch.Generator().manual_seed(1)
    places = torch.rand(1, 3, 1, 1, 4000, generator=generator) * (torch.tensor(SHAPE) - 7.0).view(1, 3, 1, 1, 1) + 3
    moved = places + sample(there, places)

    def error(inverse: torch.Tensor) -> float:
        return float((moved + sample(inverse, moved) - places).norm(dim=1).mean())

    assert error(polish_inverse(there, back)) < 0.8 * error(back)


def test_a_rim_that_is_left_out_changes_nothing_far_from_it() -> None:
    velocity = bump(3.0, seed=5, shape=(34, 38, 36))
    there, back = integrate(velocity), integrate(-velocity)
    whole, inner = polish_inverse(there, back), polish_inverse(there, back, rim=6)
    middle = (..., slice(13, -13), slice(13, -13), slice(13, -13))  # the rim, what moves across it, and its neighbours
    assert float((whole - back)[middle].abs().max()) > 1e-3
    assert torch.allclose(inner[middle], whole[middle], atol=1e-6)
    assert torch.equal(inner[..., :1, :, :], back[..., :1, :, :])


@pytest.mark.parametrize("rim", [0, 1, 2])
@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)])
def test_halfway_between_nodes_is_what_a_lookup_finds_there(rim: int, offset: tuple[float, float, float]) -> None:
    field = torch.randn(1, 3, 7, 9, 8, generator=torch.Generator().manual_seed(rim))
    places = voxel_grid(field.shape[2:]) + torch.tensor(offset).view(1, 3, 1, 1, 1)
    inner = (..., *(slice(rim, side - rim) for side in field.shape[2:]))
    torch.testing.assert_close(_halfway(field, offset, rim), sample(field, places)[inner], rtol=0, atol=1e-6)


def test_squarings_keep_the_first_step_short() -> None:
    velocity = torch.zeros(1, 3, 4, 5, 6)
    assert squarings_for(velocity) == 0
    velocity[0, 1, 2, 2, 2] = -3.1
    assert squarings_for(velocity, 0.5) == 3
    assert 3.1 / 2**3 <= 0.5 < 3.1 / 2**2


def test_integration_has_the_gradient_of_its_own_formula() -> None:
    generator = torch.Generator().manual_seed(8)
    velocity = (torch.rand(1, 3, 4, 5, 6, generator=generator, dtype=torch.float64) + 0.1).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: integrate(v, 2), (velocity,))


def test_the_flow_of_a_search_is_the_integral_with_nearly_its_gradient() -> None:
    velocity = bump(2.0).requires_grad_(True)
    goal = bump(3.0, seed=1)
    expected, found = integrate(velocity, 4), flow(velocity, 4)
    assert torch.equal(found, expected)
    true, taken = (torch.autograd.grad(((one - goal) ** 2).sum(), velocity)[0] for one in (expected, found))
    assert float(F.cosine_similarity(taken.flatten(), true.flatten(), dim=0)) > 0.97
    straight = (2 * (expected - goal)).detach()
    opposite = warp(straight, 0.5 * velocity.detach())
    for other in (straight, opposite):  # what is taken must be better than no lookup, and than one the other way
        assert float((taken - true).norm()) < 0.8 * float((other - true).norm())


def test_a_flow_without_squarings_is_the_velocity_with_its_exact_gradient() -> None:
    velocity = bump(0.3).requires_grad_(True)
    assert torch.equal(flow(velocity, 0), velocity)
    weights = bump(1.0, seed=1)
    assert torch.equal(torch.autograd.grad((flow(velocity, 0) * weights).sum(), velocity)[0], weights)


def test_whoever_is_asked_between_the_squarings_of_a_flow_may_stop_it() -> None:
    def stop() -> None:
        raise InterruptedError

    for learns in (True, False):
        with pytest.raises(InterruptedError):
            flow(bump(1.0).requires_grad_(learns), 3, between=stop)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_fold_along_any_single_axis_is_negative(axis: int) -> None:
    displacement = torch.zeros(1, 3, *SHAPE)
    displacement[:, axis] = -2.0 * voxel_grid(SHAPE)[:, axis]
    determinant = jacobian_determinant(displacement)
    assert determinant.shape == (1, *(side - 1 for side in SHAPE))
    assert torch.allclose(determinant, torch.tensor(-1.0))
    assert folding(determinant) == (100.0, determinant.numel())


def test_the_determinant_of_a_linear_map_is_that_of_its_matrix() -> None:
    matrix = torch.tensor([[0.1, 0.4, -0.2], [-0.3, 0.2, 0.1], [0.25, -0.15, -0.1]], dtype=torch.float64)
    coordinates = voxel_grid((4, 5, 6), dtype=torch.float64)
    displacement = (matrix @ coordinates.flatten(2)).view_as(coordinates)
    expected = float(np.linalg.det(np.eye(3) + matrix.numpy()))
    assert torch.allclose(jacobian_determinant(displacement), torch.tensor(expected, dtype=torch.float64))


def test_a_smooth_flow_does_not_fold_and_its_inverse_has_the_reciprocal_determinant() -> None:
    velocity = bump(1.2, seed=7)
    there, back = integrate(velocity), integrate(-velocity)
    determinant = jacobian_determinant(there)
    assert folding(determinant) == (0.0, 0)
    at_center = jacobian_determinant(back)
    places = voxel_grid(tuple(determinant.shape[1:])) + 0.5
    product = determinant * sample(at_center[:, None], places + sample(there, places) - 0.5)[:, 0]
    assert float((product - 1).abs().mean()) < 0.03
