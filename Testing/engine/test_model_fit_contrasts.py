"""A model that shows one image in the contrast of the other need not know both: which pairs it gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autofuse_engine.configs import NetworkConfig, RegistrationConfig
from autofuse_engine.data.volume import Volume
from autofuse_engine.events import Event, Warning
from autofuse_engine.image_facts import TrainingRange
from autofuse_engine.model_card import IntendedUse, ModelCard, Preprocessing
from autofuse_engine.model_choice import settle_model
from autofuse_engine.model_fit import INTENSITY_UNUSUAL, SIZE_UNUSUAL, SPACING_FAR, choose, doubts, doubts_of_pair
from Testing.engine.test_model_fit import ball, chosen, entry, facts, installed

__all__ = ["installed"]  # a fixture


@pytest.fixture(scope="module")
def known() -> TrainingRange:
    images = [facts(ball(radius, seed=number)) for number, radius in enumerate((16.0, 17.0, 18.0, 19.0))]
    shares = {str(number): (0.05, 0.08, 0.125, 0.2, 0.3) for number in range(1, 9)}
    return replace(TrainingRange.of_images(images, {"train": 4}), label_shares=shares)


@pytest.fixture
def card(known: TrainingRange) -> ModelCard:
    return ModelCard(
        name="balls",
        network=NetworkConfig(channels=2, classes=9),
        preprocessing=Preprocessing(spacing_mm=(2.0, 2.0, 2.0)),
        intended_use=IntendedUse(modality="MR T1w", body_part="brain"),
        training_range=known,
        predicts_field=False,
        label_weight=1.0,
    )


USUAL = ball(17.5)
INVERTED = USUAL.with_array(np.where(USUAL.array > 0, 520 - 0.2 * USUAL.array, 0).astype(np.float32), "other")
SMALL = ball(9.0)
SMALL = SMALL.with_array(np.where(SMALL.array > 0, 520 - 0.2 * SMALL.array, 0).astype(np.float32))
THICK = replace(INVERTED, ras_from_ijk=INVERTED.ras_from_ijk @ np.diag([0.5, 0.7, 2.9, 1]))


def test_one_image_may_be_of_another_contrast(card: ModelCard) -> None:
    usual, other = facts(USUAL), facts(INVERTED)
    assert [doubt.code for doubt in doubts(card, other)] == [INTENSITY_UNUSUAL]
    assert chosen([card], usual, other) == chosen([card], other, usual) == "balls"
    assert chosen([card], other, other) == "none"
    assert "but for the contrast of other" in choose([entry(card)], lambda _: (usual, other)).reason
    assert "but for" not in choose([entry(card)], lambda _: (usual, usual)).reason


def test_a_name_may_tell_of_the_other_contrast(card: ModelCard) -> None:
    usual, named = facts(USUAL), replace(facts(USUAL), name="brain T2")
    assert chosen([card], usual, named) == "balls"
    assert chosen([card], named, named) == "none"
    assert chosen([card], usual, replace(facts(USUAL), name="knee")) == "none", (
        "another part of the body is no contrast"
    )


@pytest.mark.parametrize("change", [{"predicts_field": True}, {"label_weight": 0.0}, {"training_range": None}])
def test_all_other_models_have_to_know_both(card: ModelCard, known: TrainingRange, change: dict) -> None:
    if "training_range" in change:
        change = {"training_range": replace(known, label_shares={})}
    assert chosen([replace(card, **change)], facts(USUAL), facts(INVERTED)) == "none"


def test_across_modalities_it_is_a_choice(card: ModelCard) -> None:
    usual, other = facts(USUAL), facts(INVERTED)
    assert chosen([card], usual, other, one_modality=False) == "balls"
    assert chosen([replace(card, predicts_field=True)], usual, usual, one_modality=False) == "none"


def test_scans_of_another_contrast_may_have_other_spacings_but_not_another_size(card: ModelCard) -> None:
    usual, thick = facts(USUAL), facts(THICK)
    assert {doubt.code for doubt in doubts(card, thick)} == {SPACING_FAR, INTENSITY_UNUSUAL}
    assert chosen([card], usual, thick) == "balls"
    same = facts(replace(USUAL, ras_from_ijk=THICK.ras_from_ijk))
    assert chosen([card], usual, same) == "none", "of its own contrast it knows which spacings it can do with"
    assert chosen([card], usual, facts(SMALL)) == "none"


@pytest.mark.parametrize(
    ("fixed", "moving", "expected"),
    [
        (USUAL, INVERTED, []),
        (THICK, USUAL, []),
        (INVERTED, INVERTED, [INTENSITY_UNUSUAL, INTENSITY_UNUSUAL]),
        (USUAL, ball(9.0), [SIZE_UNUSUAL]),
        (USUAL, SMALL, [SIZE_UNUSUAL]),
    ],
)
def test_a_named_model_warns_of_what_it_cannot_do_without(
    card: ModelCard, fixed: Volume, moving: Volume, expected: list[str]
) -> None:
    assert [doubt.code for doubt in doubts_of_pair(card, facts(fixed), facts(moving))] == expected
    whole = replace(card, predicts_field=True)
    both: Callable[[Volume], list[str]] = lambda volume: [doubt.code for doubt in doubts(whole, facts(volume))]  # noqa: E731
    found = [doubt.code for doubt in doubts_of_pair(whole, facts(fixed), facts(moving))]
    assert found == both(fixed) + both(moving)


def test_the_choice_and_its_reason_reach_the_report(installed: ModelCard, tmp_path: Path) -> None:
    events: list[Event] = []
    config, told = settle_model(RegistrationConfig(similarity="mind"), USUAL, INVERTED, events.append)
    assert config.model == told["used"] == "balls"
    assert told["reason"].endswith("(MR T1w brain), but for the contrast of other")
    settle_model(RegistrationConfig(model="balls"), USUAL, INVERTED, events.append)
    assert not [event for event in events if isinstance(event, Warning)]
