"""Which labels mean a class of a model: names as people write them, and label values of the training dataset."""

from __future__ import annotations

from typing import Any

import pytest

from autofuse_engine.class_names import can_be_guided, class_names, classes_by_name, classes_by_value, plain
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.model_card import ModelCard
from autofuse_engine.training_export import _classes as described_classes

CLASSES = [
    {"value": 0, "name": "background"},
    {"value": 1, "name": "Left Hippocampus", "labels": [17]},
    {"value": 2, "name": "Noyau caudé", "labels": [11, 50]},
    {"value": 3, "name": "Brain-Stem"},
]


def card(entries: Any = CLASSES, **network: Any) -> ModelCard:
    return ModelCard(
        name="m", network=NetworkConfig(channels=2, **{"classes": 4, **network}), training={"classes": entries}
    )


@pytest.mark.parametrize(
    "written",
    ["left_hippocampus", "  LEFT  hippocampus ", "Left-Hippocampus", "left (hippocampus)", "Left.Hippocampus"],
)
def test_case_punctuation_and_spaces_do_not_count(written: str) -> None:
    assert classes_by_name(card(), {7: written}) == {7: 1}


@pytest.mark.parametrize(
    "written", ["hippocampus", "right hippocampus", "left hippocampus head", "", "_", "background"]
)
def test_other_names_match_nothing(written: str) -> None:
    assert classes_by_name(card(), {7: written}) == {}


def test_letters_of_other_languages_match_however_they_are_encoded() -> None:
    assert classes_by_name(card(), {1: "noyau caude\u0301", 2: "NOYAU CAUDÉ"}) == {1: 2, 2: 2}
    assert plain("Heschl's gyrus") == plain("heschls_gyrus")
    assert plain("lobe 1 1") != plain("lobe 11")


def test_background_is_nobodys_label() -> None:
    assert classes_by_name(card(), {0: "Brain Stem", 5: "brain stem"}) == {5: 3}


def test_a_name_of_two_classes_matches_neither() -> None:
    twice = [{"value": 1, "name": "Stem"}, {"value": 2, "name": "stem"}, {"value": 3, "name": "other"}]
    assert classes_by_name(card(twice), {1: "stem", 2: "other"}) == {2: 3}


def test_values_of_the_training_dataset_lead_to_classes_where_the_card_tells_them() -> None:
    assert classes_by_value(card(), [0, 17, 50, 11, 3, 1]) == {17: 1, 50: 2, 11: 2}


@pytest.mark.parametrize(
    "classes",
    [None, "1", [1, None], [{"value": 4, "name": "beyond"}], [{"value": "1", "name": "x"}], [{"value": True}]],
)
def test_what_a_card_says_in_another_way_is_no_class(classes: Any) -> None:
    assert class_names(card(classes)) == {}
    assert classes_by_value(card(classes), [1]) == {}


def test_names_are_listed_by_class_without_background() -> None:
    assert class_names(card()) == {1: "Left Hippocampus", 2: "Noyau caudé", 3: "Brain-Stem"}


def test_only_segmentations_that_reach_the_pair_path_can_be_guided() -> None:
    assert can_be_guided(card())
    assert not can_be_guided(card(input_fusion=False))
    assert not can_be_guided(ModelCard(name="m", network=NetworkConfig(channels=2)))
    assert not can_be_guided(None)


def test_an_exported_model_tells_the_values_of_the_original_files_where_its_checkpoint_knows_them() -> None:
    config = {"network": {"classes": 3}}
    labels = [{"value": 2, "name": "Core", "sources": [9]}, {"value": 1, "name": "Ring", "sources": [3, 7]}]
    assert described_classes(config, {"labels": labels}) == [
        {"value": 1, "name": "Ring", "labels": [3, 7]},
        {"value": 2, "name": "Core", "labels": [9]},
    ]
    older = [{"value": 1, "name": "Ring"}, {"value": 2, "name": "Core"}]
    assert described_classes(config, {"labels": older}) == older
    assert described_classes({"network": {}}, {"labels": older}) == []
