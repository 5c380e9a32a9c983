"""Closed forms of the regularity terms on fields made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from autofuse_engine.losses.regularity import folding_penalty, kl_divergence, squared_gradient
from autofuse_engine.spatial.jacobian import jacobian_determinant
from autofuse_engine.training_configs import LossConfig

SHAPE = (5, 6, 7)


def mean_degree(shape: tuple[int, ...]) -> float:
    """Neighbours per voxel: each pair of neighbours counts twice."""
    pairs = sum((side - 1) * np.prod(shape) / side for side in shape)
    return float(2 * pairs / np.prod(shape))


def test_a_constant_mean_pays_for_its_spread_alone() -> None:
    mean, spread = torch.full((2, 3, *SHAPE), 4.0), torch.full((2, 3, *SHAPE), -1.3)
    expected = 1.5 * (50 * mean_degree(SHAPE) * math.exp(-1.3) + 1.3)
    assert float(kl_divergence(mean, spread)) == pytest.approx(expected, rel=1e-6)


def test_a_ramp_of_the_mean_pays_its_squared_slope() -> None:
    z, _, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in SHAPE), indexing="ij")
    mean = torch.stack([0.5 * z, torch.zeros_like(z), 2 * x - z])[None]
    log_variance = torch.zeros_like(mean)
    # mean over the three channels of the squared differences: along D 0.25 and 1, along W 4
    smooth = 0.5 / 3 * ((0.25 + 1) / 3 + 0 + 4 / 3)
    expected = 0.5 * 3 * (7 * mean_degree(SHAPE) + 7 * smooth)
    assert float(kl_divergence(mean, log_variance, 7.0)) == pytest.approx(expected, rel=1e-6)


def test_it_equals_a_sum_over_voxels_and_neighbours() -> None:
    rng = np.random.default_rng(4)
    mean, log_variance = rng.normal(size=(2, 1, 3, *SHAPE))
    trace = 0.0
    for voxel in np.ndindex(*SHAPE):
        inside = [0 <= voxel[axis] + step < SHAPE[axis] for axis in range(3) for step in (-1, 1)]
        value = log_variance[(0, slice(None), *voxel)]
        trace += float((50 * sum(inside) * np.exp(value) - value).sum())
    smooth = 0.5 / 3 * sum(float((np.diff(mean, axis=axis) ** 2).mean()) for axis in (2, 3, 4))
    expected = 0.5 * 3 * (trace / (3 * np.prod(SHAPE)) + 50 * smooth)
    got = kl_divergence(torch.from_numpy(mean), torch.from_numpy(log_variance))
    assert float(got) == pytest.approx(expected, rel=1e-12)


def test_the_best_spread_is_the_inverse_precision_of_the_prior() -> None:
    log_variance = torch.full((1, 3, *SHAPE), -3.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(kl_divergence(torch.zeros(1, 3, *SHAPE), log_variance), log_variance)
    assert float(gradient.abs().min()) > 0
    inner = torch.full((1, 3, *SHAPE), -math.log(50 * 6), requires_grad=True)
    (gradient,) = torch.autograd.grad(kl_divergence(torch.zeros(1, 3, *SHAPE), inner), inner)
    assert float(gradient[:, :, 1:-1, 1:-1, 1:-1].abs().max()) < 1e-8
    assert float(gradient[:, :, 0].max()) < 0, "at the faces the prior is wider, so the spread should grow"


def test_fields_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="mean and log-variance"):
        kl_divergence(torch.zeros(1, 3, *SHAPE), torch.zeros(1, 3, 5, 6, 8))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_axis_costs_one_per_cell_whatever_the_axis(axis: int) -> None:
    field = torch.zeros(1, 3, *SHAPE)
    places = torch.arange(SHAPE[axis], dtype=torch.float32)
    field[0, axis] = -2 * places.view([-1 if other == axis else 1 for other in range(3)])
    assert float(folding_penalty(field)) == pytest.approx(1.0)


def test_gradients_in_closed_form_are_those_of_the_formulas() -> None:
    generator = torch.Generator().manual_seed(3)
    field = (0.4 * torch.randn(2, 3, *SHAPE, generator=generator, dtype=torch.float64)).requires_grad_(True)
    cells = jacobian_determinant(field)
    assert 0.1 < float((cells < 0.2).double().mean()) < 0.9, "some cells are below the margin, others are not"
    folding = torch.relu(0.2 - cells).mean()
    smoothness = torch.stack([field.diff(dim=axis).square().mean() for axis in (2, 3, 4)]).sum()
    for found, expected in ((folding_penalty(field, 0.2), folding), (squared_gradient(field), smoothness)):
        assert found.item() == pytest.approx(expected.item(), rel=1e-12)
        wanted = torch.autograd.grad(3 * expected, field, retain_graph=True)[0]
        torch.testing.assert_close(torch.autograd.grad(3 * found, field)[0], wanted)


def test_a_field_without_folds_has_no_gradient_of_them() -> None:
    field = torch.full((1, 3, *SHAPE), 2.0, requires_grad=True)
    assert float(torch.autograd.grad(folding_penalty(field), field)[0].abs().max()) == 0


def test_the_default_weight_of_folding_is_that_of_the_papers_sum() -> None:
    assert LossConfig().folding == pytest.approx(1e-5 * 144 * 192 * 160)
