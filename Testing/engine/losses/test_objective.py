"""The terms of the loss: which there are, what they equal, and that each one teaches what it should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.losses import objective as module
from autofuse_engine.losses.objective import Outcome, objective, segmentation_terms
from autofuse_engine.losses.overlap import focal_dice
from autofuse_engine.losses.regularity import folding_penalty, kl_divergence
from autofuse_engine.losses.similarity import local_ncc
from autofuse_engine.training_configs import SEGMENTATION_TERMS, LossConfig, term_names
from Testing.engine.reference.plain_operations import plain_warp

SHAPE = (8, 12, 10)
CLASSES = 11  # more than are taken at once
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


def one_hot(labels: torch.Tensor, classes: int = CLASSES) -> torch.Tensor:
    return F.one_hot(labels[:, 0], classes).movedim(-1, 1).double()


def expected_segmentation_terms(one: Outcome) -> dict[str, torch.Tensor]:
    field = one.displacement_vox.double()
    assert one.fixed_logits is not None
    assert one.moving_logits is not None
    assert one.fixed_labels is not None
    assert one.moving_labels is not None
    likely_fixed, likely_moving = (logits.double().softmax(1) for logits in (one.fixed_logits, one.moving_logits))
    label_fixed, label_moving = one_hot(one.fixed_labels), one_hot(one.moving_labels)
    return {
        "moving_segmentation": focal_dice(label_moving, likely_moving),
        "fixed_segmentation": focal_dice(label_fixed, likely_fixed),
        "warped_segmentation": focal_dice(label_fixed, plain_warp(likely_moving, field)),
        "segmentation_of_warped_labels": focal_dice(plain_warp(label_moving, field), likely_fixed),
        "warped_labels": focal_dice(label_fixed, plain_warp(label_moving, field)),
    }


def test_the_segmentation_terms_and_their_gradients_equal_whole_arrays_in_double_precision() -> None:
    one, two = outcome(), outcome()
    terms, expected = segmentation_terms(one, list(SEGMENTATION_TERMS)), expected_segmentation_terms(two)
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


@pytest.mark.parametrize("at_once", [1, 3, 64])
def test_how_many_classes_are_taken_at_once_changes_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = segmentation_terms(outcome(), list(SEGMENTATION_TERMS))
    monkeypatch.setattr(module, "_CLASSES_AT_ONCE", at_once)
    got = segmentation_terms(outcome(), list(SEGMENTATION_TERMS))
    for name, value in expected.items():
        assert got[name].item() == pytest.approx(value.item(), rel=1e-6), name


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
