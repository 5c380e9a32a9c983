"""The trial of a model's labels before its export: what it measures, what it decides, and when it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autofuse_engine import label_trial, training_export
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.errors import CancelledError
from autofuse_engine.evaluation_configs import EvaluationConfig
from autofuse_engine.evaluation_rows import PairRow
from autofuse_engine.events import Event, Progress, Warning
from autofuse_engine.label_trial import LONGEST_S, MOST_PAIRS, WEIGHTS, LabelTrial, try_labels
from autofuse_engine.model_card import read_card
from autofuse_engine.training import train
from autofuse_engine.training_configs import Stage
from autofuse_engine.training_export import export_model
from Testing.engine.training_runs import tiny_config, tiny_dataset


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("läuft")
    dataset = tiny_dataset(place)
    stages = (Stage(steps=1, pairs="labelled", learning_rate=1e-3),)
    train(tiny_config(dataset, stages=stages, network=NetworkConfig(channels=2, classes=3)), place / "run")
    return place / "run"


def row(pair: int, weight: float, dice: float | None, error: str | None = None) -> PairRow:
    return PairRow(method=f"{weight:g}", fixed=f"f{pair}", moving=f"m{pair}", seconds=1.0, dice=dice, error=error)


class Evaluated:
    """In place of ``evaluate``: as many pairs as there are, and what was asked."""

    def __init__(self, pairs: list[list[PairRow]]) -> None:
        self.pairs, self.asked = pairs, []

    def __call__(self, config: EvaluationConfig, out: Path, **more: Any) -> list[PairRow]:
        self.asked.append(config)
        more["report"](Progress(stage="pair", fraction=0.5))
        return [one for pair in self.pairs[: config.pairs] for one in pair]


def test_the_best_weight_wins_where_it_gains_something() -> None:
    assert LabelTrial(dice={0.0: 0.70, 0.5: 0.72, 2.0: 0.71}, pairs=2).weight == 0.5
    assert LabelTrial(dice={0.0: 0.70, 0.5: 0.7015, 2.0: 0.65}, pairs=2).weight == 0.0
    assert LabelTrial(dice={0.0: 0.70, 0.5: 0.69, 2.0: 0.60}, pairs=2).weight == 0.0


def test_means_are_over_pairs_that_every_weight_came_to_an_end_of(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [
        [row(0, weight, 0.5 + weight / 10) for weight in WEIGHTS],
        [row(1, weight, 0.9, "no memory" if weight else None) for weight in WEIGHTS],
        [row(2, weight, 0.7 + weight / 10) for weight in WEIGHTS],
    ]
    evaluated = Evaluated(pairs)
    monkeypatch.setattr(label_trial, "evaluate", evaluated)
    told: list[Event] = []
    trial = try_labels(Path("m.safetensors"), "data", report=told.append)
    assert trial is not None
    assert trial.pairs == 2
    assert trial.dice == pytest.approx({0.0: 0.6, 0.5: 0.65, 2.0: 0.8})
    assert trial.weight == 2.0
    assert [config.pairs for config in evaluated.asked] == [1, 2, 3, 4]  # the fourth time nothing new came
    assert (evaluated.asked[0].kind, evaluated.asked[0].split) == ("labelled", "validation")
    fractions = [event.fraction for event in told if isinstance(event, Progress)]
    assert fractions == [(number + 0.5) / MOST_PAIRS for number in range(4)]
    assert trial.to_dict() == {"pairs": 2, "dice": {"0": 0.6, "0.5": 0.65, "2": 0.8}}


def test_no_pair_begins_late(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = Evaluated([[row(n, weight, 0.5) for weight in WEIGHTS] for n in range(9)])
    monkeypatch.setattr(label_trial, "evaluate", evaluated)
    times = iter([0.0, LONGEST_S - 1, LONGEST_S + 1])
    trial = try_labels(Path("m.safetensors"), "data", clock=lambda: next(times))
    assert trial is not None
    assert trial.pairs == 2


def test_where_nothing_can_be_tried_it_says_why(tmp_path: Path, trained: Path) -> None:
    told: list[Event] = []
    made = export_model(trained, "made", folder=tmp_path, report=told.append)
    assert try_labels(made, tmp_path / "gone", report=told.append) is None
    (warning,) = told
    assert isinstance(warning, Warning)
    assert (warning.code, "gone" in warning.text) == ("label-trial-failed", True)


def test_pairs_that_all_fail_are_told_and_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_trial, "evaluate", Evaluated([[row(0, weight, None, "No room.") for weight in WEIGHTS]]))
    told: list[Event] = []
    assert try_labels(Path("m.safetensors"), "data", report=told.append) is None
    (warning,) = [event for event in told if isinstance(event, Warning)]
    assert warning.text.endswith("could not be tried: No room.")


def test_an_export_measures_and_the_card_tells_it(tmp_path: Path, trained: Path) -> None:
    told: list[Event] = []
    made = export_model(trained, "made", folder=tmp_path, tries_labels=True, report=told.append)
    card = read_card(made.with_suffix(".json"))
    trial = card.training["label_trial"]
    assert trial["pairs"] >= 1
    assert set(trial["dice"]) == {"0", "0.5", "2"}
    assert all(0 <= value <= 1 for value in trial["dice"].values())
    assert card.label_weight in WEIGHTS
    assert any(isinstance(event, Progress) for event in told)


def test_what_is_said_or_has_no_labels_is_not_tried(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_export, "try_labels", lambda *more, **other: pytest.fail("tried"))
    for name, changes in (("said", {"label_weight": 1.5}), ("unrefined", {"refinement_steps": 0})):
        made = export_model(trained, name, folder=tmp_path, tries_labels=True, changes=lambda card, new=changes: new)
        assert "label_trial" not in read_card(made.with_suffix(".json")).training
    assert read_card(tmp_path / "said.json").label_weight == 1.5


def test_a_cancelled_export_leaves_nothing(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(CancelledError):
        export_model(trained, "made", folder=tmp_path, tries_labels=True, cancelled=lambda: True)
    assert not list(tmp_path.glob("made*"))
