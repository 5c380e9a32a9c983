"""Configurations of a training: through JSON and back, every rule, and the schedules by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.training_configs import AugmentationConfig, LossConfig, Stage, TrainingConfig, term_names
from autofuse_engine.training_presets import PRESETS, preset_config


def test_a_configuration_survives_json() -> None:
    config = TrainingConfig(
        dataset="Datensatz ü",
        network=NetworkConfig(channels=8, classes=4, segmentation_code="hard"),
        losses=LossConfig(similarity="mse", folding=0.0),
        stages=(Stage(steps=3, pairs="labelled", learning_rate=1e-3), Stage(steps=2)),
        augmentation=AugmentationConfig(flips="DW", noise=0.1),
        clip_norm=1.0,
    )
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({}, "names its dataset"),
        ({"dataset": "x", "network": {"channels": 0}}, "channels"),
        ({"dataset": "x", "network": 3}, "network is an object"),
        ({"dataset": "x", "stages": []}, "at least one stage"),
        ({"dataset": "x", "stages": [{"steps": 1.5}]}, "steps is a whole number"),
        ({"dataset": "x", "stages": [{"steps": 1, "pairs": "some"}]}, "pairs is one of"),
        ({"dataset": "x", "stages": [{"steps": 1, "learning_rate": 0}]}, "learning_rate is above 0"),
        ({"dataset": "x", "stages": [5]}, "list of objects"),
        ({"dataset": "x", "losses": {"kl": -1}}, "kl lies in"),
        ({"dataset": "x", "losses": {"kl": float("nan")}}, "kl lies in"),
        ({"dataset": "x", "losses": {"weight_prior_kind": "flat"}}, "beta or normal"),
        ({"dataset": "x", "augmentation": {"flips": "DX"}}, "axes of DHW"),
        ({"dataset": "x", "augmentation": {"flips": "DD"}}, "each once"),
        ({"dataset": "x", "precision": "float16"}, "precision is"),
        ({"dataset": "x", "recompute": 1}, "true or false"),
        ({"dataset": "x", "clip_norm": 0}, "clip_norm is above 0"),
        ({"dataset": "x", "seed": -1}, "seed"),
        ({"dataset": "x", "optimizer": "sgd"}, "knows the fields"),
    ],
)
def test_rules_are_told_with_the_value_received(content: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TrainingConfig.from_dict(content)


def test_steps_belong_to_their_stage() -> None:
    config = TrainingConfig(dataset="x", stages=(Stage(steps=3), Stage(steps=2), Stage(steps=1)))
    assert config.steps == 6
    assert [config.stage_at(step) for step in range(6)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
    with pytest.raises(ValueError, match="below 6"):
        config.stage_at(6)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("brain-unsupervised", [(100_000, "any")]),
        ("brain-semi", [(50_000, "labelled"), (50_000, "labelled+unlabelled")]),
        ("cardiac-unsupervised", [(40_000, "any"), (10_000, "within-group")]),
        ("cardiac-semi", [(40_000, "labelled+unlabelled"), (10_000, "within-group")]),
    ],
)
def test_presets_are_the_schedules_of_the_paper(name: str, schedule: list[tuple[int, str]]) -> None:
    config = preset_config(name, "prepared", labels=3)
    assert [(stage.steps, stage.pairs) for stage in config.stages] == schedule
    assert {stage.learning_rate for stage in config.stages} == {1e-4}
    assert (config.batch, config.validation_every) == (1, 1000)
    assert config.network.classes == (4 if PRESETS[name].semi_supervised else 0)
    assert (config.losses.kl, config.losses.kl_smoothness) == (0.01, 50.0)


def test_the_preset_for_small_budgets_begins_with_the_segmentation() -> None:
    config = preset_config("short-semi", "prepared", labels=3)
    assert [(stage.steps, stage.learning_rate, stage.learns) for stage in config.stages] == [
        (1500, 2e-3, "segmentation"),
        (800, 4e-4, "segmentation"),
        (3000, 4e-4, "everything"),
        (1000, 1e-4, "everything"),
    ]
    assert {stage.pairs for stage in config.stages} == {"labelled"}
    assert config.losses == LossConfig(kl_smoothness=150)
    assert config.network == NetworkConfig(classes=4, align_corners=False)
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_learning_rate_of_a_preset_is_that_of_its_registration() -> None:
    rates = {name: preset.learning_rate for name, preset in PRESETS.items()}
    assert rates.pop("short-semi") == 4e-4
    assert set(rates.values()) == {1e-4}


def test_a_preset_that_needs_labels_says_so() -> None:
    with pytest.raises(ValueError, match="needs a dataset with labels"):
        preset_config("brain-semi", "prepared")
    with pytest.raises(ValueError, match="short-semi needs a dataset with labels"):
        preset_config("short-semi", "prepared")
    with pytest.raises(ValueError, match="a preset is one of"):
        preset_config("liver", "prepared")


def test_the_terms_of_a_run_follow_from_its_network_and_weights() -> None:
    losses = LossConfig()
    assert term_names(losses, NetworkConfig()) == ("similarity", "kl", "folding")
    assert term_names(losses, NetworkConfig(classes=4))[3:] == (
        "moving_segmentation", "fixed_segmentation",
        "warped_segmentation", "segmentation_of_warped_labels", "warped_labels",
    )  # fmt: skip
    field = NetworkConfig(field="displacement", varying_regularity=True)
    assert term_names(losses, field) == ("similarity", "folding", "varying_smoothness", "weight_prior")
    assert term_names(LossConfig(smoothness=1, folding=0), NetworkConfig()) == ("similarity", "kl", "smoothness")
