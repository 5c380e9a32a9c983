"""What a watcher reads of a run, at every point of its life."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from autofuse_engine import tensorboard_log
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.errors import FileError
from autofuse_engine.events import Error, Metric, Result
from autofuse_engine.run_folder import RunFolder, read_cells, read_rows, read_status, request_stop
from autofuse_engine.run_lock import RunLock
from autofuse_engine.run_records import RunRecords, Table
from autofuse_engine.training_configs import Stage, TrainingConfig


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "Lauf Ä")
    folder.path.mkdir()
    config = TrainingConfig(dataset="somewhere", stages=(Stage(steps=40),))
    folder.config.write_text(json.dumps(config.to_dict()), encoding="utf-8")
    return folder


def recorded(run: RunFolder, last_step: int = -1) -> RunRecords:
    return RunRecords(run, ("similarity",), ("dice",), last_step)


def test_a_run_that_did_nothing_is_new(run: RunFolder) -> None:
    status = read_status(run.path)
    assert (status.state, status.step, status.steps) == ("new", 0, 40)
    assert status.best is None
    assert status.seconds_left is None


def test_a_run_tells_its_place_its_best_and_the_time_left(run: RunFolder) -> None:
    with recorded(run) as records, RunLock(run.lock):
        for step, score in ((0, 0.9), (5, 0.7), (8, 0.8), (10, 0.6)):
            records.validated({"step": step, "score": score, "dice": score, "seconds": 1.5})
        for step in range(1, 11):
            records.step({"step": step, "loss": -0.1 * step, "seconds": 0.5, "fixed": "007", "moving": "1e3"})
        status = read_status(run.path)
    assert (status.state, status.step) == ("running", 10)
    assert status.seconds_left == pytest.approx(15.0)
    assert status.metrics["loss"] == -1.0
    assert (status.metrics["fixed"], status.metrics["moving"]) == ("007", "1e3"), "names of cases stay text"
    assert status.metrics["similarity"] is None
    assert status.validation["step"] == 10
    assert status.best is not None
    assert status.best["step"] == 8, "the untrained network does not count"
    assert json.dumps(status.to_dict())


@pytest.mark.parametrize(
    ("done", "learns", "left"), [(4, "segmentation", 6.36), (10, "segmentation", 6.0), (20, "everything", 4.0)]
)
def test_the_time_left_knows_that_steps_of_the_segmentation_are_cheap(
    run: RunFolder, done: int, learns: str, left: float
) -> None:
    """30 steps of 0.2 s follow 10 of 0.06 s: no jump where the kind changes."""
    stages = (Stage(steps=10, learns="segmentation"), Stage(steps=30))
    config = TrainingConfig(dataset="somewhere", network=NetworkConfig(classes=3), stages=stages)
    run.config.write_text(json.dumps(config.to_dict()), encoding="utf-8")
    assert read_status(run.path).learns == "segmentation"
    with recorded(run) as records:
        for step in range(1, done + 1):
            records.step({"step": step, "loss": 1.0, "seconds": 0.06 if step <= 10 else 0.2})
    status = read_status(run.path)
    assert status.learns == learns
    assert status.seconds_left == pytest.approx(left)


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (Result(report={"finished": True}), "finished"),
        (Result(report={"finished": False}), "stopped"),
        (Error(code="training-diverged", text="It diverged.", hint="Lower the rate."), "failed"),
        (Metric(stage="validation", step=1), "interrupted"),
    ],
)
def test_the_last_event_tells_how_a_run_ended(run: RunFolder, event: Result | Error | Metric, state: str) -> None:
    with recorded(run) as records:
        records.event(event)
    status = read_status(run.path)
    assert status.state == state
    assert (status.problem is not None) is (state == "failed")
    assert status.problem is None or status.problem["hint"] == "Lower the rate."


def test_numbers_read_back_bit_for_bit(run: RunFolder) -> None:
    with recorded(run) as records:
        for step, value in enumerate((0.1 + 0.2, 1e-300, -0.0, float("inf"), 3.0), start=1):
            records.step({"step": step, "loss": value, "similarity": None})
    rows = read_rows(run.metrics)
    assert [repr(row["loss"]) for row in rows] == ["0.30000000000000004", "1e-300", "-0.0", "inf", "3.0"]


def test_curves_go_to_tensorboard_where_it_is_installed(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            told.append((folder, 0.0, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def close(self) -> None:
            told.append(("closed", 0.0, 0))

    package = types.ModuleType("torch.utils.tensorboard")
    package.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", package)
    monkeypatch.setattr(tensorboard_log.importlib.util, "find_spec", lambda name: object())
    with recorded(run, last_step=3) as records:
        records.step({"step": 4, "loss": -0.5, "similarity": None, "fixed": "a"})
        records.validated({"step": 4, "score": 0.75})
    assert told == [
        (str(run.tensorboard), 0.0, 4), ("training/loss", -0.5, 4), ("validation/score", 0.75, 4), ("closed", 0.0, 0),
    ]  # fmt: skip
    monkeypatch.setattr(tensorboard_log.importlib.util, "find_spec", lambda name: None)
    told.clear()
    with recorded(run) as records:
        records.step({"step": 1, "loss": -0.5})
    assert told == []


def test_only_the_end_of_a_long_table_is_read(run: RunFolder) -> None:
    with recorded(run) as records:
        for step in range(1, 4001):
            records.step({"step": step, "loss": 1 / step, "fixed": "a case with a long name"})
    assert [row["step"] for row in read_rows(run.metrics, last=3)] == [3998, 3999, 4000]
    assert len(read_rows(run.metrics)) == 4000


def test_rows_after_the_checkpoint_go_and_unfinished_ones_too(run: RunFolder) -> None:
    with recorded(run) as records:
        for step in range(1, 8):
            records.step({"step": step, "loss": 0.5, "fixed": "0012"})
    with run.metrics.open("a", encoding="utf-8") as stream:
        stream.write("8,1,0.1")
    Table(run.metrics, ("step", "loss", "new", "fixed"), 5).close()
    assert read_cells(run.metrics) == [
        {"step": str(step), "loss": "0.5", "new": "", "fixed": "0012"} for step in range(1, 6)
    ]


def test_asking_to_stop_leaves_a_file_where_something_runs_and_only_there(run: RunFolder) -> None:
    with pytest.raises(FileError) as caught:
        request_stop(run.path)
    assert caught.value.code == "run-not-running"
    with RunLock(run.lock):
        request_stop(run.path)
    assert run.stop.exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "run-not-found"),
        ("{", "run-invalid"),
        ("[1]", "run-invalid"),
        ('{"dataset": "x", "speed": 3}', "run-invalid"),
        ('{"dataset": "x", "batch": 0}', "run-invalid"),
    ],
)
def test_a_folder_without_a_usable_configuration_is_refused(run: RunFolder, content: str | None, code: str) -> None:
    run.config.unlink()
    if content is not None:
        run.config.write_text(content, encoding="utf-8")
    with pytest.raises(FileError) as caught:
        read_status(run.path)
    assert caught.value.code == code
