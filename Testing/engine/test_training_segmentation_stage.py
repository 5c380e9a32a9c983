"""A stage that teaches a semi-supervised network to segment, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.losses.segmentation_terms import segmentation_term
from autofuse_engine.model_card import read_card
from autofuse_engine.networks.build import build_network
from autofuse_engine.run_folder import RunFolder, read_rows
from autofuse_engine.training import train
from autofuse_engine.training_configs import LossConfig, Stage
from autofuse_engine.training_export import export_model
from autofuse_engine.training_state import read_state
from autofuse_engine.training_step import PairLoss, network_for_training
from Testing.engine.reference.plain_overlap import memberships, plain_focal_dice
from Testing.engine.test_training_processes import assert_two_learn_as_one
from Testing.engine.training_runs import assert_same_run, tiny_config, tiny_dataset

FIRST = Stage(steps=3, pairs="labelled", learning_rate=1e-3, learns="segmentation")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("vorbereitet"))


def changed_parts(config: Any, folder: Path) -> set[str]:
    """Parts of the network of which at least one weight is not what the seed gave."""
    weights = read_state(RunFolder(folder).last)[0]
    fresh = network_for_training(config, torch.device("cpu")).state_dict()
    return {name.split(".")[0] for name, value in fresh.items() if not torch.equal(value, weights[f"network.{name}"])}


def test_only_what_segments_learns_until_the_next_stage(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, stages=(FIRST,), validation_every=10)
    train(config, tmp_path / "one")
    assert changed_parts(config, tmp_path / "one") == {"single_image_path", "segmentation"}
    for row in read_rows(RunFolder(tmp_path / "one").metrics):
        assert row["loss"] == pytest.approx(row["fixed_segmentation"])
        assert {row[name] for name in ("similarity", "kl", "moving_segmentation", "warped_labels")} == {None}
    both = replace(config, stages=(FIRST, Stage(steps=1, pairs="labelled", learning_rate=1e-3)))
    train(both, tmp_path / "both")
    rows = read_rows(RunFolder(tmp_path / "both").metrics)
    assert [row["similarity"] is None for row in rows] == [True, True, True, False]
    assert {"pair_path", "head", "gates", "single_image_path"} <= changed_parts(both, tmp_path / "both")


def test_the_best_checkpoint_follows_both_kinds_of_dice(dataset: Path, tmp_path: Path) -> None:
    both = (FIRST, Stage(steps=1, pairs="labelled", learning_rate=1e-3))
    for name, stages in (("both", both), ("one", (replace(both[1], steps=4),))):
        train(tiny_config(dataset, stages=stages, validation_every=2), tmp_path / name)
        rows = read_rows(RunFolder(tmp_path / name).validation)
        for row in rows:
            means = (row["dice"] + row["segmentation_dice"]) / 2 if name == "both" else row["dice"]
            assert row["score"] == pytest.approx(means)
        assert rows[0]["dice"] != rows[0]["segmentation_dice"]


def test_it_is_the_fixed_image_and_its_labels_that_teach(dataset: Path) -> None:
    config = tiny_config(dataset, losses=LossConfig(segmentation=3.0), stages=(FIRST,))
    network = network_for_training(config, torch.device("cpu"))
    fixed, moving = torch.rand(2, 1, 16, 32, 16, generator=torch.Generator().manual_seed(1)).split(1)
    labels = (fixed > 0.4).long() + (fixed > 0.8).long()
    loss, terms = PairLoss(network, config)(fixed, moving, labels, 2 - labels, 0, learns="segmentation")
    expected = segmentation_term(network.segment(fixed), labels)
    assert {name: float(value.detach()) for name, value in terms.items()} == {
        "fixed_segmentation": pytest.approx(float(expected.detach()))
    }
    assert float(loss.detach()) == pytest.approx(3 * float(expected.detach()))


def test_such_a_run_resumes_exactly(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, stages=(FIRST, Stage(steps=2, pairs="labelled", learning_rate=1e-3)))
    train(config, tmp_path / "whole")
    asked = iter([False, False, True])
    assert not train(config, tmp_path / "stopped", stop=lambda: next(asked)).finished
    train(config, tmp_path / "stopped", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_an_image_without_labels_teaches_nothing(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(dataset, stages=(replace(FIRST, steps=6, pairs="labelled+unlabelled"),), validation_every=10)
    train(config, tmp_path / "run")
    rows = read_rows(RunFolder(tmp_path / "run").metrics)
    silent = [row for row in rows if row["fixed_segmentation"] is None]
    assert 0 < len(silent) < len(rows)
    assert all(row["loss"] == 0 and row["skipped"] == 0 for row in silent)


@pytest.mark.slow
def test_two_processes_learn_to_segment_as_one_does(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "prepared")
    config = tiny_config(dataset, batch=2, stages=(FIRST, Stage(steps=1, pairs="labelled", learning_rate=1e-3)))
    assert_two_learn_as_one(config, tmp_path)


def test_the_term_is_that_of_all_classes_at_once() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 19, 4, 6, 5, generator=generator)
    labels = torch.randint(0, 19, (1, 1, 4, 6, 5), generator=generator)
    expected = plain_focal_dice(memberships(labels, 19).double(), logits.double().softmax(1))
    assert segmentation_term(logits, labels).item() == pytest.approx(expected.item(), rel=1e-5)


def test_scores_are_those_of_a_whole_prediction() -> None:
    network = build_network(NetworkConfig(channels=2, classes=5, align_corners=False)).eval()
    fixed, moving = torch.rand(2, 1, 16, 32, 16).split(1)
    with torch.no_grad():
        output = network(fixed, moving)
        torch.testing.assert_close(network.segment(moving), output.moving_logits, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="does not segment"):
        build_network(NetworkConfig(channels=2)).segment(fixed)


def test_what_cannot_be_learned_is_refused(dataset: Path) -> None:
    with pytest.raises(ValueError, match="without a segmentation to learn"):
        tiny_config(dataset, network=NetworkConfig(channels=2), stages=(FIRST,))
    with pytest.raises(ValueError, match="without a segmentation to learn"):
        tiny_config(dataset, losses=LossConfig(segmentation=0), stages=(FIRST,))
    with pytest.raises(ValueError, match="learns is one of everything, segmentation, field"):
        Stage(steps=1, learns="alles")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("judged", "weight"),
    [
        ({"dice": 0.75, "segmentation_dice": 0.8}, 2.0),
        ({"dice": 0.75, "segmentation_dice": 0.7}, 0.0),
        ({"dice": 0.75, "segmentation_dice": None}, None),
        (None, None),
    ],
)
def test_a_card_lets_labels_count_where_the_network_segments_better_than_it_registers(
    judged: dict[str, Any] | None,
    weight: float | None,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train(tiny_config(dataset, stages=(replace(FIRST, steps=1),), validation_every=10), tmp_path / "run")
    tensors, facts = read_state(RunFolder(tmp_path / "run").last)
    facts["place"]["best"] = judged
    monkeypatch.setattr("autofuse_engine.training_export.read_state", lambda path: (tensors, facts))
    made = export_model(tmp_path / "run", "made", checkpoint="last", folder=tmp_path)
    assert read_card(made.with_suffix(".json")).label_weight == weight
