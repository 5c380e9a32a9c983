"""Smoothness weighed voxel by voxel, judged by loops, by hand and by what it must pull towards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from autofuse_engine.losses.regularity import squared_gradient
from autofuse_engine.losses.spatially_varying import (
    beta_prior,
    normal_prior,
    spatially_varying_regularity,
    weighted_squared_gradient,
)

SIDES = (4, 5, 3)


def field_and_weight(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    field = torch.randn(batch, 3, *SIDES, generator=generator)
    return field, torch.rand(batch, 1, *SIDES, generator=generator) * 0.9 + 0.05


def test_differences_take_the_weight_of_the_farther_voxel() -> None:
    field, weight = field_and_weight()
    u, w = field[1].double().numpy(), weight[1, 0].double().numpy()
    means = []
    for axis in range(3):
        terms = []
        for place in np.ndindex(*SIDES):
            if place[axis] == 0:
                continue
            before = tuple(p - (a == axis) for a, p in enumerate(place))
            terms += [w[place] * (u[c][place] - u[c][before]) ** 2 for c in range(3)]
        means.append(np.mean(terms))
    assert float(weighted_squared_gradient(field, weight)[1]) == pytest.approx(np.mean(means), rel=1e-5)


def test_with_weights_of_one_it_is_a_third_of_the_diffusion_energy() -> None:
    field, weight = field_and_weight(1)
    actual = weighted_squared_gradient(field, torch.ones_like(weight))
    torch.testing.assert_close(actual[0], squared_gradient(field) / 3)


def test_priors_by_hand() -> None:
    weight = torch.tensor([0.5, 0.25, 1.0, 1.0]).reshape(1, 1, 1, 2, 2)
    assert float(beta_prior(weight)) == pytest.approx((math.log(2) + math.log(4)) / 4)
    assert float(normal_prior(weight)) == pytest.approx((0.25 + 0.5625) / 4)


def test_terms_add_up_with_one_weight_or_with_one_for_each_pair() -> None:
    field, weight = field_and_weight()
    gradient, prior = weighted_squared_gradient(field, weight), beta_prior(weight)
    expected = (2.0 * gradient + 0.1 * prior).mean()
    actual = spatially_varying_regularity(field, weight, gradient_weight=2.0, prior_weight=0.1)
    torch.testing.assert_close(actual, expected)
    each = spatially_varying_regularity(
        field, weight, gradient_weight=torch.tensor([1.0, 3.0]), prior_weight=torch.tensor([0.0, 4.0]), prior="normal"
    )
    torch.testing.assert_close(each, (gradient[0] + 3 * gradient[1] + 4 * normal_prior(weight)[1]) / 2)


@pytest.mark.parametrize("prior", ["beta", "normal"])
def test_the_prior_pulls_weights_to_one_and_a_rough_field_pushes_them_down(prior: str) -> None:
    field, weight = field_and_weight(1)

    def pull(field: torch.Tensor) -> torch.Tensor:
        free = weight.clone().requires_grad_()
        spatially_varying_regularity(field, free, prior=prior).backward()  # type: ignore[arg-type]
        assert free.grad is not None
        return -free.grad

    assert (pull(torch.zeros_like(field)) > 0).all()
    assert (pull(100 * field)[:, :, 1:, 1:, 1:] < 0).all()


def test_the_best_weight_of_an_even_slope_is_where_both_pulls_meet() -> None:
    # With slope s along one axis the loss is g s**2 w / 9 - b log w; by hand its least is at w = 9 b / (g s**2).
    slope, g, b = 1.5, 3.0, 0.3
    field = torch.zeros(1, 3, 30, 4, 5)
    field[0, 0] = slope * torch.arange(30.0)[:, None, None]
    weights = torch.linspace(0.05, 1, 400)
    losses = torch.stack([
        spatially_varying_regularity(field, torch.full((1, 1, 30, 4, 5), float(w)), gradient_weight=g, prior_weight=b)
        for w in weights
    ])  # fmt: skip
    assert float(weights[losses.argmin()]) == pytest.approx(9 * b / (g * slope**2), abs=0.003)


def test_shapes_and_names_that_do_not_fit_are_refused() -> None:
    field, weight = field_and_weight()
    with pytest.raises(ValueError, match=r"received \(2, 1, 4, 5, 2\)"):
        weighted_squared_gradient(field, weight[..., 1:])
    with pytest.raises(ValueError, match="received 'gamma'"):
        spatially_varying_regularity(field, weight, prior="gamma")  # type: ignore[arg-type]
