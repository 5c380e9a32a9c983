"""The lock of a run folder: one living holder, and nothing left of a dead one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autofuse_engine import run_lock
from autofuse_engine.errors import FileError
from autofuse_engine.run_lock import RunLock, holder, is_locked

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, pathlib
from autofuse_engine.run_lock import RunLock
with RunLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "Lauf mit Leerzeichen ü"
    folder.mkdir()
    return folder / "lock"


def held_elsewhere(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


def test_a_folder_has_one_trainer_and_the_error_names_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_PATIENCE_S", 0.1)
    with held_elsewhere(path) as other:
        assert is_locked(path)
        with pytest.raises(FileError) as caught, RunLock(path):
            pass
        assert caught.value.code == "run-locked"
        assert f"process {other.pid}" in caught.value.text
        assert other.stdin is not None
        other.stdin.close()
    assert not is_locked(path)


def test_the_lock_of_a_killed_process_is_free(path: Path) -> None:
    with held_elsewhere(path) as other:
        other.kill()
    assert path.exists()
    assert holder(path)["process"] == other.pid
    assert not is_locked(path)
    with RunLock(path):
        assert holder(path)["process"] == os.getpid()
        assert is_locked(path)
    assert not is_locked(path)


def test_asking_does_not_take_the_lock_away_from_its_holder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_PATIENCE_S", 0.1)
    with RunLock(path):
        assert is_locked(path)
        assert is_locked(path)
        with pytest.raises(FileError, match="Another training runs"), RunLock(path):
            pass
        assert is_locked(path)


def test_a_folder_without_a_lock_is_free(path: Path) -> None:
    assert not is_locked(path)
    assert holder(path) == {}


def test_a_lock_whose_folder_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught, RunLock(tmp_path / "absent" / "lock"):
        pass
    assert caught.value.code == "output-not-writable"
