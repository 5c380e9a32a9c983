"""A stage that teaches the field alone: what segments stays as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.networks.build import build_network
from autofuse_engine.run_folder import RunFolder, read_rows, read_status
from autofuse_engine.training import train
from autofuse_engine.training_configs import Stage, TrainingConfig
from autofuse_engine.training_export import export_model
from Testing.engine.test_training_processes import assert_two_learn_as_one
from Testing.engine.test_training_segmentation_stage import FIRST, changed_parts
from Testing.engine.training_runs import assert_same_run, tiny_config, tiny_dataset

FIELD = Stage(steps=2, pairs="labelled", learning_rate=1e-3, learns="field")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("vorbereitet"))


def test_what_sees_single_images_stays_as_it_is(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, stages=(FIELD,), validation_every=10)
    train(config, tmp_path / "run")
    assert changed_parts(config, tmp_path / "run") == {"pair_path", "gates", "head"}
    rows = read_rows(RunFolder(tmp_path / "run").metrics)
    for row in rows:
        assert row["warped_labels"] > 0
        left_out = ("moving_segmentation", "fixed_segmentation", "warped_segmentation", "segmentation_of_warped_labels")
        assert {row[name] for name in left_out} == {None}


def test_a_missing_label_lets_what_the_network_sees_count(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, stages=(replace(FIELD, steps=6, pairs="labelled+unlabelled"),), validation_every=10)
    train(config, tmp_path / "run")
    rows = read_rows(RunFolder(tmp_path / "run").metrics)
    both = [row["warped_labels"] is not None for row in rows]
    assert True in both
    assert False in both
    seen = [row["warped_segmentation"] is not None or row["segmentation_of_warped_labels"] is not None for row in rows]
    assert True in seen
    assert not any(one and other for one, other in zip(both, seen, strict=True))
    assert all(row["fixed_segmentation"] is row["moving_segmentation"] is None for row in rows)


def test_it_is_the_same_field_as_where_everything_learns(dataset: Path) -> None:
    network = build_network(NetworkConfig(channels=2, classes=3, align_corners=False))
    fixed, moving = torch.rand(2, 1, 16, 32, 16, generator=torch.Generator().manual_seed(1)).split(1)
    whole = network(fixed, moving)
    network.keep_single_images(True)
    kept = network(fixed, moving)
    torch.testing.assert_close(kept.velocity_mean, whole.velocity_mean, rtol=1e-3, atol=1e-7)
    kept.velocity_mean.sum().backward()
    path = network.get_submodule("single_image_path")
    assert all(parameter.grad is None for parameter in path.parameters())
    network.keep_single_images(False)
    network(fixed, moving).velocity_mean.sum().backward()
    assert any(parameter.grad is not None for parameter in path.parameters())


def test_segmentation_field_and_everything_may_follow_each_other_and_resume_exactly(
    dataset: Path, tmp_path: Path
) -> None:
    last = Stage(steps=1, pairs="labelled", learning_rate=1e-3)
    config = tiny_config(dataset, stages=(replace(FIRST, steps=1), FIELD, last))
    train(config, tmp_path / "whole")
    asked = iter([False, False, True])
    assert not train(config, tmp_path / "stopped", stop=lambda: next(asked)).finished
    assert read_status(tmp_path / "stopped").learns == "field"
    train(config, tmp_path / "stopped", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    assert {"single_image_path", "pair_path"} <= changed_parts(config, tmp_path / "whole")


def test_a_run_of_segmentation_and_field_predicts_one(dataset: Path, tmp_path: Path) -> None:
    from autofuse_engine.model_card import read_card

    config = tiny_config(dataset, stages=(replace(FIRST, steps=1), replace(FIELD, steps=1)), validation_every=10)
    train(config, tmp_path / "run")
    made = export_model(tmp_path / "run", "made", checkpoint="last", folder=tmp_path)
    assert read_card(made.with_suffix(".json")).predicts_field


@pytest.mark.slow
def test_two_processes_learn_the_field_as_one_does(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, batch=2, stages=(FIELD,), validation_every=10)
    assert_two_learn_as_one(config, tmp_path)


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(ValueError, match="does not segment learn everything"):
        TrainingConfig(dataset="x", network=NetworkConfig(channels=2), stages=(FIELD,))
    with pytest.raises(ValueError, match="no path for single images"):
        build_network(NetworkConfig(kind="voxelmorph-1", channels=4, field="displacement")).keep_single_images(True)
