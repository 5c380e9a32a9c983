"""The terms of the loss: which there are, what they equal, and that each one teaches what it should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.losses.objective import Outcome, objective
from autofuse_engine.losses.regularity import folding_penalty, kl_divergence
from autofuse_engine.losses.segmentation_terms import segmentation_terms
from autofuse_engine.losses.similarity import local_ncc
from autofuse_engine.training_configs import SEGMENTATION_TERMS, LossConfig, term_names
from Testing.engine.reference.plain_operations import plain_warp
from Testing.engine.reference.plain_overlap import memberships, plain_focal_dice, plain_segmentation_terms

SHAPE = (8, 12, 10)
CLASSES = 11
LOGITS, FIELD = ("fixed_logits", "moving_logits"), "displacement_vox"


def outcome(seed: int = 0, classes: int = CLASSES) -> Outcome:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def labels() -> torch.Tensor:
        return torch.randint(0, classes, (1, 1, *SHAPE), generator=generator)

    fixed, moving = torch.rand(2, 1, 1, *SHAPE, generator=generator)
    half = [side // 2 for side in SHAPE]
    return Outcome(
        fixed=fixed,
        moving=moving,
        displacement_vox=(1.5 * normal(1, 3, *SHAPE)).requires_grad_(),
        velocity_mean=normal(1, 3, *half).requires_grad_(),
        velocity_log_variance=normal(1, 3, *half).requires_grad_(),
        fixed_logits=normal(1, classes, *SHAPE).requires_grad_(),
        moving_logits=normal(1, classes, *SHAPE).requires_grad_(),
        fixed_labels=labels(),
        moving_labels=labels(),
    )


def terms_of(one: Outcome) -> dict[str, torch.Tensor]:
    assert one.fixed_logits is not None
    assert one.moving_logits is not None
    logits, labels = (one.fixed_logits, one.moving_logits), (one.fixed_labels, one.moving_labels)
    return segmentation_terms(*logits, *labels, one.displacement_vox, list(SEGMENTATION_TERMS))


def expected_segmentation_terms(one: Outcome) -> dict[str, torch.Tensor]:
    assert one.fixed_logits is not None
    assert one.moving_logits is not None
    assert one.fixed_labels is not None
    assert one.moving_labels is not None
    logits = one.fixed_logits.double(), one.moving_logits.double()
    field = one.displacement_vox.double()
    return plain_segmentation_terms(*logits, one.fixed_labels, one.moving_labels, field, plain_warp)


def test_the_segmentation_terms_and_their_gradients_equal_whole_arrays_in_double_precision() -> None:
    one, two = outcome(), outcome()
    terms, expected = terms_of(one), expected_segmentation_terms(two)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5), name
    for values in (terms, expected):
        torch.stack([weight * value.double() for weight, value in enumerate(values.values(), 1)]).sum().backward()
    for name in (*LOGITS, FIELD):
        ours, theirs = getattr(one, name).grad, getattr(two, name).grad
        scale = float(theirs.abs().max())
        # The warped probabilities pass places where their logarithm is cut off, and the two may disagree on which side.
        assert float((ours - theirs).abs().quantile(0.999)) < 1e-4 * scale, name


@pytest.mark.parametrize(
    ("name", "teaches"),
    [
        ("similarity", {FIELD}),
        ("kl", {"velocity_mean", "velocity_log_variance"}),
        ("folding", {FIELD}),
        ("moving_segmentation", {"moving_logits"}),
        ("fixed_segmentation", {"fixed_logits"}),
        ("warped_segmentation", {"moving_logits", FIELD}),
        ("segmentation_of_warped_labels", {"fixed_logits", FIELD}),
        ("warped_labels", {FIELD}),
    ],
)
def test_each_term_teaches_what_it_should(name: str, teaches: set[str]) -> None:
    one = outcome()
    _, terms = objective(one, LossConfig())
    terms[name].backward()
    learned = {
        key
        for key in ("velocity_mean", "velocity_log_variance", *LOGITS, FIELD)
        if (gradient := getattr(one, key).grad) is not None and float(gradient.abs().max()) > 0
    }
    assert learned == teaches


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ((), set(SEGMENTATION_TERMS)),
        (("fixed_labels",), {"moving_segmentation", "segmentation_of_warped_labels"}),
        (("moving_labels",), {"fixed_segmentation", "warped_segmentation"}),
        (("fixed_labels", "moving_labels"), set()),
    ],
)
def test_terms_whose_label_is_missing_are_left_out(missing: tuple[str, ...], left: set[str]) -> None:
    one = replace(outcome(), **dict.fromkeys(missing))  # type: ignore[arg-type]
    _, terms = objective(one, LossConfig())
    assert terms.keys() - {"similarity", "kl", "folding"} == left


def test_the_unsupervised_loss_is_the_weighted_sum_of_three_terms() -> None:
    one = replace(outcome(), fixed_logits=None, moving_logits=None)
    total, terms = objective(one, LossConfig(folding=3.0))
    warped = plain_warp(one.moving, one.displacement_vox)
    expected = (
        local_ncc(one.fixed, warped)
        + 0.01 * kl_divergence(one.velocity_mean, one.velocity_log_variance)
        + 3.0 * folding_penalty(one.displacement_vox)
    )
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert tuple(terms) == term_names(LossConfig(), NetworkConfig())


def test_terms_of_no_weight_are_not_computed() -> None:
    losses = LossConfig(folding=0, segmentation=0)
    total, terms = objective(outcome(), losses)
    assert tuple(terms) == term_names(losses, NetworkConfig(classes=CLASSES))
    assert not {"folding", "moving_segmentation", "fixed_segmentation"} & terms.keys()
    weights = losses.weights()
    assert total.item() == pytest.approx(sum(weights[name] * value.item() for name, value in terms.items()), rel=1e-5)


def test_classes_that_nobody_holds_cost_nothing() -> None:
    one = outcome()
    assert one.fixed_logits is not None
    assert one.moving_logits is not None
    absent = torch.full((1, 30, *SHAPE), -60.0)
    more = replace(
        one,
        fixed_logits=torch.cat([one.fixed_logits, absent], dim=1),
        moving_logits=torch.cat([one.moving_logits, absent], dim=1),
    )
    few, many = terms_of(one), terms_of(more)
    for name, value in few.items():
        held = CLASSES - 1
        overlap = many[name].item() * (held + 30) / held  # the mean over the foreground is over more classes
        assert overlap > value.item() > many[name].item(), name
    still = replace(one, displacement_vox=torch.zeros_like(one.displacement_vox))
    expected = plain_focal_dice(memberships(one.fixed_labels, CLASSES).double(), one.moving_logits.double().softmax(1))
    assert terms_of(still)["warped_segmentation"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_beyond_the_border_places_count_as_at_the_border() -> None:
    """Also of an image that is one voxel thick, and without a gradient from there."""
    generator = torch.Generator().manual_seed(2)
    shape = (1, 7, 5)
    labels = [torch.randint(0, 3, (1, 1, *shape), generator=generator) for _ in range(2)]
    logits = [torch.randn(1, 3, *shape, generator=generator) for _ in range(2)]
    field = torch.zeros(1, 3, *shape)
    field[0, 1, 0, 6] = 0.4
    field[0, 1, 0, 0] = -3.0
    field[0, 2, 0, :, 4] = 9.0
    field.requires_grad_()
    got = segmentation_terms(*logits, *labels, field, list(SEGMENTATION_TERMS))
    clamped = field.detach().clone()
    clamped[0, 1, 0, 6] = clamped[0, 1, 0, 0] = 0.0
    clamped[0, 2, 0, :, 4] = 0.0
    expected = segmentation_terms(*logits, *labels, clamped, list(SEGMENTATION_TERMS))
    for name, value in expected.items():
        assert got[name].item() == pytest.approx(value.item(), rel=1e-6), name
    torch.stack(list(got.values())).sum().backward()
    assert field.grad is not None
    assert float(field.grad[0, 1, 0, [0, 6]].abs().max()) == 0.0
    assert float(field.grad[0, 2, 0, :, 4].abs().max()) == 0.0


@pytest.mark.parametrize("similarity", ["lncc", "mse", "mind"])
def test_every_similarity_falls_when_the_images_agree(similarity: str) -> None:
    one = outcome()
    still = torch.zeros_like(one.displacement_vox)
    losses = LossConfig(similarity=similarity)  # type: ignore[arg-type]
    same = objective(replace(one, moving=one.fixed, displacement_vox=still), losses)[1]["similarity"]
    other = objective(replace(one, displacement_vox=still), losses)[1]["similarity"]
    assert same.item() < other.item()


def test_half_precision_outputs_are_judged_in_float32() -> None:
    one = outcome()
    halved = {name: getattr(one, name).detach().bfloat16() for name in LOGITS}
    total, terms = objective(replace(one, **halved), LossConfig())
    assert total.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in terms.values())
