"""A whole reproduction in small: trains, exports, compares, and goes on where it was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autofuse_engine import catalog, cli, reproduction
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.errors import AutoFuseError, CancelledError, FileError
from autofuse_engine.evaluation_rows import read_rows
from autofuse_engine.events import Event, Metric, Warning
from autofuse_engine.reproduction import reproduce
from autofuse_engine.reproduction_plan import ReproductionConfig
from Testing.engine.data.prepared_folder import make_prepared
from Testing.engine.training_runs import assert_same_run

METHODS = ("affine", "voxelmorph-diff", "autofuse-semi-20")


class Killed(BaseException):
    """Nothing in the program expects this, as nothing expects the end of its process."""


def config(data: Path, **more: Any) -> ReproductionConfig:
    values: dict[str, Any] = {"methods": METHODS, "steps": 3, "channels": 2, "pairs": 1, "device": "cpu", "seed": 3}
    return ReproductionConfig(target="hippocampus", budget="small", data=str(data), **(values | more))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("Daten für alle"), train=6, validation=2, shape=(16, 32, 16)).folder


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that ran through without a break."""
    out = tmp_path_factory.mktemp("Ergebnisse") / "ganz"
    reproduce(config(dataset), out)
    return out


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves time where another test looks at them."""
    monkeypatch.setattr(reproduction, "write_report", lambda folder, reference=None: {"files": {}})


def test_it_leaves_runs_models_rows_and_tables(whole: Path) -> None:
    for name in METHODS[1:]:
        assert (whole / "runs" / name / "checkpoints" / "last.safetensors").is_file()
        card = catalog.verify(whole / "models" / f"{name}.safetensors").card
        assert card is not None
        assert (card.training["step"], card.training["checkpoint"]) == (3, "last")
    rows = read_rows(whole / "evaluation")
    assert {row.method for row in rows} == {*METHODS, *(f"{name} + refinement" for name in METHODS[1:])}
    assert not [row.error for row in rows if row.error]
    tables = (whole / "tables.md").read_text(encoding="utf-8")
    for part in ("## 20", "Set-up: Blobs (6 train, 2 validation cases, 2 labels)", "3 steps", "61.0",
                 "| autofuse-semi-20 | ", "paper: OASIS", "### Learning from labels",
                 "Answer: the highest mean Dice has"):  # fmt: skip
        assert part in tables
    assert (whole / "evaluation" / "gates.png").is_file()


@pytest.mark.slow
def test_a_killed_reproduction_goes_on_and_ends_as_if_nothing_had_been(
    dataset: Path, whole: Path, tmp_path: Path, without_pictures: None
) -> None:
    seen: list[tuple[str, int]] = []

    def kill_at(stage: str, count: int) -> Any:
        def report(event: Event) -> None:
            if isinstance(event, Metric) and event.stage == stage:
                seen.append((stage, event.step))
                if len(seen) == count:
                    raise Killed

        return report

    out = tmp_path / "mit Pause"
    for moment in (2, 3):
        seen.clear()
        with pytest.raises(Killed):
            reproduce(config(dataset), out, report=kill_at("training", moment))
    reproduce(config(dataset), out)
    for name in METHODS[1:]:
        assert_same_run(whole / "runs" / name, out / "runs" / name)
    figures = [
        [(row.key, row.dice, row.folding_count) for row in read_rows(folder / "evaluation")] for folder in (whole, out)
    ]
    assert figures[0] == figures[1]


def test_what_is_finished_is_not_repeated(dataset: Path, whole: Path, without_pictures: None) -> None:
    watched = [*whole.glob("runs/*/metrics.csv"), *whole.glob("models/*"), whole / "evaluation" / "pairs.jsonl"]
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in watched]
    told: list[Event] = []
    reproduce(config(dataset), whole, report=told.append)
    assert before == [(path.stat().st_mtime_ns, path.read_bytes()) for path in watched]
    assert len(watched) == 2 + 4 + 1
    assert not [event for event in told if isinstance(event, Metric)]


def test_stopping_asks_the_training_and_says_how_to_go_on(dataset: Path, tmp_path: Path) -> None:
    steps = 0

    def report(event: Event) -> None:
        nonlocal steps
        steps += isinstance(event, Metric) and event.stage == "training"

    with pytest.raises(CancelledError, match="same command goes on"):
        reproduce(
            config(dataset, methods=("voxelmorph-diff",)), tmp_path / "out", report=report, cancelled=lambda: steps > 0
        )
    assert steps == 1
    assert (tmp_path / "out" / "runs" / "voxelmorph-diff" / "checkpoints" / "last.safetensors").is_file()


def test_a_network_that_diverges_takes_no_part_and_the_others_go_on(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_pictures: None
) -> None:
    really = reproduction.train

    def train(training: Any, folder: Path, **more: Any) -> Any:
        if training.network.kind == "voxelmorph-1":
            raise AutoFuseError("training-diverged", "It diverged.", "Lower the learning rate.")
        return really(training, folder, **more)

    monkeypatch.setattr(reproduction, "train", train)
    told: list[Event] = []
    wanted = config(dataset, methods=("affine", "voxelmorph-1"))
    result = reproduce(wanted, tmp_path / "out", report=told.append)
    assert result.failed == {"voxelmorph-1": "It diverged."}
    assert [event.code for event in told if isinstance(event, Warning)] == ["reproduction-network-failed"]
    assert "voxelmorph-1 was not trained" in Path(result.files["tables"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("change", [{"steps": 5}, {"channels": 4}, {"seed": 9}, {"spacing_mm": 3.0}])
def test_a_folder_with_other_choices_is_refused(dataset: Path, whole: Path, change: dict[str, Any]) -> None:
    with pytest.raises(FileError) as caught:
        reproduce(config(dataset, **change), whole)
    assert caught.value.code == "reproduction-differs"


def test_a_folder_with_something_else_is_refused(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(FileError) as caught:
        reproduce(config(dataset), tmp_path)
    assert caught.value.code == "output-not-empty"
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_raw_dataset_is_prepared_as_the_budget_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[PreparationConfig] = []

    def prepare(path: str, output: Path, preparation: PreparationConfig, **more: Any) -> Any:
        assert (path, output) == (str(tmp_path / "raw"), tmp_path / "out" / "dataset")
        asked.append(preparation)
        raise CancelledError

    monkeypatch.setattr(reproduction, "prepare_dataset", prepare)
    rules = tmp_path / "labels.csv"
    rules.write_text("old,new,name\n4,1,left\n7,1,left\n9,0,\n", encoding="utf-8")
    with pytest.raises(CancelledError):
        reproduce(config(tmp_path / "raw", label_rules=str(rules)), tmp_path / "out")
    assert asked[0].spacing_mm == (1.5, 1.5, 1.5)
    assert asked[0].alignment == "affine"
    assert [(rule.old, rule.new) for rule in asked[0].label_rules or ()] == [(4, 1), (7, 1), (9, 0)]


def test_a_dry_run_tells_hours_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        "reproduce",
        "hippocampus",
        "--budget",
        "small",
        "--data",
        str(tmp_path / "raw"),
        "--out",
        str(tmp_path / "o"),
    ]
    given += [
        "--spacing",
        "4",
        "--channels",
        "4",
        "--device",
        "cpu",
        "--dry-run",
        "--methods",
        "voxelmorph-1",
        "affine",
    ]
    assert cli.main([*given, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["assumed"]
    assert report["shape"] == [16, 16, 16]
    (run,) = report["runs"]
    assert (run["name"], run["channels"], run["steps"]) == ("voxelmorph-1", 4, 1200)
    assert run["hours"] == pytest.approx(1200 * run["seconds_per_step"] * 1.15 / 3600)
    assert report["registrations"] == (2 + 1) * 20
    assert not list(tmp_path.iterdir())
    assert cli.main(given) == 0
    assert "Trainings in all" in capsys.readouterr().out
    assert cli.main([*given[:-2], "magic"]) == 2
    assert "method-invalid" in capsys.readouterr().err
