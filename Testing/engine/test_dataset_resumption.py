"""Going on with a preparation: neither kill -9 nor Ctrl-C nor a full disk changes a byte of the result."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from preparing import QUICK, ROOT, Told, contents, described_folder, egg, plain_folder, prepare

from autofuse_engine import run_lock
from autofuse_engine.data.files import write_volume
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.dataset_preparation import prepare_dataset
from autofuse_engine.errors import CancelledError, FileError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return described_folder(tmp_path_factory.mktemp("Quelle mit Ö") / "eggs", 5, 2)


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare(source, tmp_path_factory.mktemp("Ziel é") / "prepared here")[0]


def test_a_second_run_does_nothing_and_changes_nothing(source: Path, prepared: PreparedDataset) -> None:
    before = contents(prepared.folder)
    assert prepare(source, prepared.folder)[1].steps == {}
    assert contents(prepared.folder) == before


@pytest.mark.slow
def test_two_processes_give_the_same_bytes(source: Path, prepared: PreparedDataset, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", jobs=2)
    assert contents(tmp_path / "out") == contents(prepared.folder)


@pytest.mark.parametrize("stop_after", [1, 9, 16])
def test_cancelled_anywhere_it_ends_with_the_same_bytes(
    source: Path, prepared: PreparedDataset, tmp_path: Path, stop_after: int
) -> None:
    told = Told()
    with pytest.raises(CancelledError, match="goes on from there"):
        prepare_dataset(
            source, tmp_path / "out", QUICK, report=told, jobs=1, cancelled=lambda: len(told.events) >= stop_after
        )
    with pytest.raises(FileError) as caught:
        PreparedDataset.open(tmp_path / "out")
    assert caught.value.code == "prepared-not-found"
    again = prepare(source, tmp_path / "out")[1]
    assert sum(again.steps.values()) <= 21 - stop_after + 1
    assert contents(tmp_path / "out") == contents(prepared.folder)


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_with_the_same_bytes(
    source: Path, prepared: PreparedDataset, tmp_path: Path
) -> None:
    output = tmp_path / "getötet"
    command = [sys.executable, "-m", "autofuse_engine", "dataset", "prepare", str(source), "-o", str(output)]
    command += ["--alignment", "none", "--spacing", "2.5", "2", "2.2", "--jobs", "2", "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT)
    for _ in range(3000):
        if len(list(output.glob("steps/*.store.json"))) >= 2 or process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    (output / "images" / ".autofuse-0123456789ab.npy").write_bytes(b"half of an array")
    damaged = next(output.glob("images/egg*.npy"))
    damaged.write_bytes(damaged.read_bytes()[:-5])
    told = prepare(source, output)[1]
    assert told.steps.get("check", 0) == 0
    assert contents(output) == contents(prepared.folder)


def test_a_changed_option_repeats_only_what_depends_on_it(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    finer = PreparationConfig(alignment="none", spacing_mm=(2.0, 2.0, 2.0))
    dataset, told = prepare(source, tmp_path / "out", finer)
    assert told.steps == {"outputs": 7}
    assert dataset.spacing_mm == (2.0, 2.0, 2.0)
    centred = PreparationConfig(alignment="moments", spacing_mm=(2.0, 2.0, 2.0))
    assert prepare(source, tmp_path / "out", centred)[1].steps["initial alignment"] == 7


def test_a_changed_image_is_noticed_and_a_removed_one_leaves(tmp_path: Path) -> None:
    root = plain_folder(tmp_path / "in", 4)
    config = PreparationConfig(alignment="none", spacing_mm=(2.5, 2.0, 2.2), size=(32, 32, 32), reference="egg 0")
    prepare(root, tmp_path / "out", config)
    write_volume(root / "images" / "egg 2.nii.gz", egg(2, scale=0.8)[0])
    (root / "images" / "egg 3.nii.gz").unlink()
    (root / "labels" / "egg 3.nii.gz").unlink()
    dataset, told = prepare(root, tmp_path / "out", config)
    assert told.steps == {"check": 1, "initial alignment": 1, "outputs": 3}, "the common box has changed"
    assert sorted(path.stem for path in (tmp_path / "out" / "images").iterdir()) == ["egg 0", "egg 1", "egg 2"]
    assert not list((tmp_path / "out" / "steps").glob("egg 3*"))
    assert len(dataset.cases) == 3
    prepare(root, tmp_path / "fresh", config)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_full_disk_leaves_no_half_file_and_the_next_run_goes_on(
    source: Path, prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = np.save, []

    def full(path: Path, array: np.ndarray, **options: Any) -> None:
        calls.append(path)
        save(path, array, **options)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(FileError) as caught:
            prepare(source, tmp_path / "out")
    assert caught.value.code == "disk-full"
    assert not list((tmp_path / "out").rglob(".autofuse-*"))
    assert prepare(source, tmp_path / "out")[1].steps == {"outputs": 6}
    assert contents(tmp_path / "out") == contents(prepared.folder)


def test_too_little_room_is_told_before_the_first_array(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=64 * 2**20))
    with pytest.raises(FileError, match="dataset needs") as caught:
        prepare(source, tmp_path / "out")
    assert caught.value.code == "disk-full"
    assert not list((tmp_path / "out" / "images").iterdir())


@pytest.mark.slow
def test_ctrl_c_stops_it_and_the_next_run_ends_with_the_same_bytes(
    source: Path, prepared: PreparedDataset, tmp_path: Path
) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows sends Ctrl-C to every process of a console, this test's as well")
    output = tmp_path / "out"
    command = [sys.executable, "-m", "autofuse_engine", "dataset", "prepare", str(source), "-o", str(output)]
    command += ["--alignment", "none", "--spacing", "2.5", "2", "2.2", "--jobs", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)
    for _ in range(3000):
        if list(output.glob("steps/*.look.json")) or process.poll() is not None:
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode != 0:  # it may have been done already
        assert process.returncode == 130
        assert b"goes on from there" in errors
        assert b"Traceback" not in errors
    prepare(source, output)
    assert contents(output) == contents(prepared.folder)


def test_a_changed_byte_is_noticed_and_mended(source: Path, prepared: PreparedDataset, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    path = next((tmp_path / "out" / "labels").iterdir())
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    assert prepare(source, tmp_path / "out")[1].steps == {"outputs": 1}
    assert contents(tmp_path / "out") == contents(prepared.folder)


def test_from_the_first_change_on_the_old_result_does_not_count_as_whole(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    told = Told()
    finer = PreparationConfig(alignment="none", spacing_mm=(2.0, 2.0, 2.0))
    with pytest.raises(CancelledError):
        prepare_dataset(source, tmp_path / "out", finer, report=told, jobs=1, cancelled=lambda: len(told.events) >= 2)
    with pytest.raises(FileError) as caught:
        PreparedDataset.open(tmp_path / "out")
    assert caught.value.code == "prepared-not-found"


def test_a_folder_takes_one_preparation_at_a_time(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "_PATIENCE_S", 0.0)
    out = tmp_path / "out"
    (out / "steps").mkdir(parents=True)
    with run_lock.RunLock(out / ".lock"), pytest.raises(FileError, match="Another preparation writes") as caught:
        prepare_dataset(source, out, jobs=1)
    assert caught.value.code == "prepared-locked"
    assert not [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
