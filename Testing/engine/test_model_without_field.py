"""A model of which only the segmentation was trained: it lends its labels, and the search starts as without a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofuse_engine.checkpoint import load_checkpoint, save_checkpoint
from autofuse_engine.configs import NetworkConfig, RegistrationConfig
from autofuse_engine.data.synthetic import SyntheticPair, make_pair
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.model_card import ModelCard, Preprocessing, read_card
from autofuse_engine.registration import RegistrationResult, register
from autofuse_engine.search import STEPS_WITH_MODEL
from autofuse_engine.training import train
from autofuse_engine.training_configs import Stage
from autofuse_engine.training_export import export_model
from Testing.engine.guided_models import save_guided_model
from Testing.engine.training_runs import tiny_config, tiny_dataset


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return make_pair(seed=3, shape=(36, 48, 40))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, whose field would be large; the images' preparation is that of a registration without a model."""
    folder = tmp_path_factory.mktemp("Modell ß")
    whole = load_checkpoint(save_guided_model(folder, "whole", label_weight=1.0))
    spacing = Preprocessing(spacing_mm=(8.0, 8.0, 8.0), intensity_percentiles=(0.0, 99.5))
    card = replace(whole.card, name="lender", preprocessing=spacing, predicts_field=False)
    return save_checkpoint(whole.network, card, folder)


def run(pair: SyntheticPair, model: str | Path, **more: Any) -> RegistrationResult:
    start = more.pop("start_from", None)
    config = RegistrationConfig(model=str(model), device="cpu", **more)
    return register(pair.fixed, pair.moving, config, start_from=start)


def codes(result: RegistrationResult) -> list[str]:
    return [warning["code"] for warning in result.report["warnings"]]


def test_without_weight_the_search_is_that_without_a_model(pair: SyntheticPair, model: Path) -> None:
    plain, lent = run(pair, "none"), run(pair, model, label_weight=0.0, samples=2)
    assert np.array_equal(plain.warped.array, lent.warped.array)
    assert [level["steps"] for level in lent.report["refinement"]["levels"]] == [
        level["steps"] for level in plain.report["refinement"]["levels"]
    ]
    assert lent.uncertainty is None
    assert lent.report["gate_means"] == []
    assert lent.fixed_segmentation is not None


def test_its_labels_guide_the_refinement_from_the_coarsest_level_on(pair: SyntheticPair, model: Path) -> None:
    plain, lent = run(pair, "none"), run(pair, model)
    assert lent.report["refinement"]["labels"] > 0
    levels = [[level["factor"] for level in one.report["refinement"]["levels"]] for one in (plain, lent)]
    assert levels[0] == levels[1]
    assert lent.report["refinement"]["levels"][0]["steps"] > STEPS_WITH_MODEL
    assert not np.array_equal(plain.warped.array, lent.warped.array)
    assert not codes(lent)


def test_its_labels_are_those_of_a_whole_prediction(pair: SyntheticPair, model: Path) -> None:
    found = load_checkpoint(model)
    whole = save_checkpoint(found.network, replace(found.card, name="same", predicts_field=True), model.parent)
    steps = {"refinement_steps": 1, "label_weight": 0.0}
    for lent, predicted in zip(*(segmentations(run(pair, one, **steps)) for one in (model, whole)), strict=True):
        assert len(np.unique(lent)) > 1
        assert np.array_equal(lent, predicted)


def segmentations(result: RegistrationResult) -> list[np.ndarray]:
    found = (result.fixed_segmentation, result.moving_segmentation)
    return [volume.array for volume in found if volume is not None]


def test_without_refinement_only_the_start_is_left_and_a_warning_says_so(pair: SyntheticPair, model: Path) -> None:
    lent = run(pair, model, refinement_steps=0, initial="none")
    assert codes(lent) == ["model-without-field"]
    points = np.array([[3.0, -20.0, 11.0], [-8.0, 5.0, 30.0]])
    assert np.allclose(lent.transform.transform_points(points), points, atol=1e-9)
    assert lent.fixed_segmentation is not None


def test_it_goes_on_from_a_transform_that_is_given(pair: SyntheticPair, model: Path) -> None:
    bend = run(pair, "none", refinement_steps=2).transform
    move = np.array([[1.0, 0, 0, 2], [0, 1, 0, -3], [0, 0, 1, 1], [0, 0, 0, 1]])
    shift = SpatialTransform(steps=(*bend.steps, MatrixStep(matrix_ras=move)))
    start = {"start_from": shift, "initial": "transform", "refinement_steps": 3}
    plain, lent = run(pair, "none", **start), run(pair, model, label_weight=0.0, **start)
    assert plain.report["initial_deformation"]
    assert np.allclose(plain.warped.array, lent.warped.array, atol=1e-3)


@pytest.mark.parametrize(("stages", "predicts"), [(1, False), (2, True)])
def test_an_export_says_what_was_trained(stages: int, predicts: bool, tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data")
    both = (Stage(steps=2, pairs="labelled", learns="segmentation"), Stage(steps=1, pairs="labelled"))
    train(tiny_config(dataset, stages=both[:stages], validation_pairs=1), tmp_path / "run")
    path = export_model(tmp_path / "run", "made", folder=tmp_path, checkpoint="last")
    assert read_card(path.with_suffix(".json")).predicts_field is predicts
    go_on = tiny_config(dataset, stages=both[:1], validation_pairs=1, start_from=str(path))
    train(go_on, tmp_path / "more")
    again = export_model(tmp_path / "more", "again", folder=tmp_path, checkpoint="last")
    assert read_card(again.with_suffix(".json")).predicts_field is predicts


def test_only_a_network_that_segments_may_lack_a_field() -> None:
    with pytest.raises(ValueError, match="predicts_field is true, or false for a network that segments"):
        ModelCard(name="x", network=NetworkConfig(channels=2), predicts_field=False)


def test_a_second_pass_has_nothing_to_look_at(pair: SyntheticPair, model: Path) -> None:
    assert codes(run(pair, model, passes=2, refinement_steps=1, initial="none")) == ["passes-unused"]
