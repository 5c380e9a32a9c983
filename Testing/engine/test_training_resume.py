"""A run that was killed, at any moment, and resumed is the run that was never interrupted, bit for bit."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from autofuse_engine.run_folder import RunFolder, read_status
from autofuse_engine.training import train
from Testing.engine.training_runs import assert_same_run, records, tiny_config, tiny_dataset

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("prepared Übung"))


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(tiny_config(dataset, checkpoint_minutes=0), folder)
    return folder


def start(dataset: Path, run: Path, moment: str) -> subprocess.Popen[str]:
    config = run.parent / f"{run.name}.json"
    # Checkpoints after each step, so that killing meets different ones.
    config.write_text(json.dumps(tiny_config(dataset, checkpoint_minutes=0).to_dict()), encoding="utf-8")
    command = [sys.executable, "-m", "Testing.engine.staged_training", str(config), str(run), moment]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")


def kill_at(process: subprocess.Popen[str], line: str) -> None:
    """Kill without warning (SIGKILL, TerminateProcess) as soon as the process says ``line``."""
    assert process.stdout is not None
    with process:
        for said in process.stdout:
            if said.strip() == line:
                process.kill()
                return
        pytest.fail(f"the training never said {line!r}")


@pytest.mark.slow
def test_killed_at_a_random_step(dataset: Path, whole: Path, tmp_path: Path) -> None:
    step = random.randint(1, 6)
    run = tmp_path / "Lauf Ä"
    kill_at(start(dataset, run, "none"), f"step {step}")
    status = read_status(run)
    assert status.state == "interrupted"
    assert step <= status.step <= 7
    assert train(None, run, resume=True).finished
    assert read_status(run).state == "finished"
    assert_same_run(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 4, 8])
def test_killed_while_a_checkpoint_is_half_written(number: int, dataset: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    kill_at(start(dataset, run, str(number)), "in checkpoint")
    left_over = list(RunFolder(run).checkpoints.glob(".autofuse-*"))
    assert len(left_over) == 1, "the half of a checkpoint lies under a temporary name"
    assert train(None, run, resume=True).finished
    assert_same_run(run, whole)
    assert not list(RunFolder(run).checkpoints.glob(".autofuse-*"))


def test_stopped_and_resumed(dataset: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = iter([False, False, True])
    first = train(tiny_config(dataset), run, stop=lambda: next(asked))
    assert (first.step, first.finished) == (2, False)
    assert read_status(run).state == "stopped"
    second = train(None, run, resume=True)
    assert second.finished
    assert_same_run(run, whole)


def test_a_line_that_a_killed_process_left_unfinished_is_forgotten(dataset: Path, whole: Path, tmp_path: Path) -> None:
    run, asked = tmp_path / "run", iter([False, False, False, False, True])
    train(tiny_config(dataset), run, stop=lambda: next(asked))
    folder = RunFolder(run)
    with folder.metrics.open("a", encoding="utf-8") as stream:
        stream.write("5,2,0.0005,-0.123")
    with folder.events.open("a", encoding="utf-8") as stream:
        stream.write('{"time": "2026-')
    assert read_status(run).step == 4
    train(None, run, resume=True)
    assert_same_run(run, whole)
    lines = folder.events.read_text(encoding="utf-8").splitlines()
    assert sum(not line.startswith("{") or not line.endswith("}") for line in lines if line) == 1


def test_the_order_of_the_pairs_does_not_depend_on_where_a_run_was_interrupted(whole: Path) -> None:
    steps, _ = records(whole)
    assert [row["step"] for row in steps] == [str(number) for number in range(1, 8)]
    assert [row["stage"] for row in steps] == ["1"] * 4 + ["2"] * 3
    assert {row["learning_rate"] for row in steps} == {"0.001", "0.0005"}
