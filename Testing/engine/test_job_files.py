"""The result folder: everything appears at once, nothing appears on failure, nothing of an earlier run survives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_registration import fake_register

from autofuse_engine.data.files import read_volume
from autofuse_engine.data.transform_files import read_transform
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import CancelledError, FileError
from autofuse_engine.job_files import RESULT_NAMES, ResultFolder, save_report, save_result


def volume(shape: tuple[int, int, int], seed: int) -> Volume:
    matrix = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -8], [0, 0, -3.0, 11], [0, 0, 0, 1]])
    array = np.random.default_rng(seed).random(shape, dtype=np.float32)
    return Volume(array=array, ras_from_ijk=matrix, name=f"volume {seed}")


def write_all(folder: ResultFolder, names: tuple[str, ...]) -> None:
    for name in names:
        (folder.partial / name).write_text("new", encoding="utf-8")


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_nothing_stands_under_a_final_name_before_commit_and_everything_after(tmp_path: Path) -> None:
    target = tmp_path / "Ergebnis für Müller" / "run 1"
    with ResultFolder(target) as folder:
        write_all(folder, ("warped.nii.gz", "report.json"))
        assert not names_in(target) & set(RESULT_NAMES)
        files = folder.commit()
    assert names_in(target) == {"warped.nii.gz", "report.json"}
    assert files == {name: target / name for name in ("warped.nii.gz", "report.json")}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, CancelledError])
def test_failure_keeps_the_earlier_run_and_removes_the_partial_one(
    tmp_path: Path, error: Callable[[], BaseException]
) -> None:
    (tmp_path / "warped.nii.gz").write_text("old", encoding="utf-8")

    def fail() -> None:
        with ResultFolder(tmp_path) as folder:
            write_all(folder, ("warped.nii.gz",))
            raise error()

    with pytest.raises(BaseException):  # noqa: B017, PT011
        fail()
    assert names_in(tmp_path) == {"warped.nii.gz"}
    assert (tmp_path / "warped.nii.gz").read_text(encoding="utf-8") == "old"


def test_failure_removes_the_folders_that_the_run_had_made_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with ResultFolder(tmp_path / "kept" / "made" / "out"):
        pass
    assert names_in(tmp_path) == {"kept"}
    assert not names_in(tmp_path / "kept")


def test_files_of_an_earlier_run_that_the_new_one_lacks_are_removed_but_nothing_else(tmp_path: Path) -> None:
    for name in ("uncertainty.nii.gz", "transform.nrrd", "report.json", "notes.txt"):
        (tmp_path / name).write_text("old", encoding="utf-8")
    with ResultFolder(tmp_path) as folder:
        write_all(folder, ("transform.h5", "report.json"))
        folder.commit()
    assert names_in(tmp_path) == {"transform.h5", "report.json", "notes.txt"}
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == "new"


def test_the_report_arrives_last_so_that_it_vouches_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.json").write_text("old", encoding="utf-8")
    plain = Path.replace

    def refuse_warped(self: Path, target: Path) -> Path:
        if self.name == "warped.nii.gz":
            raise PermissionError(13, "in use")
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", refuse_warped)
    with ResultFolder(tmp_path) as folder:
        write_all(folder, ("transform.h5", "warped.nii.gz", "report.json"))
        with pytest.raises(FileError) as caught:
            folder.commit()
    assert caught.value.code == "output-in-use"
    assert "warped.nii.gz" in caught.value.text
    assert "report.json" not in names_in(tmp_path)


def test_a_folder_that_cannot_be_written_is_found_on_entering(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileError) as caught, ResultFolder(tmp_path / "file" / "out"):
        pass
    assert caught.value.code == "output-not-writable"
    assert str(tmp_path / "file" / "out") in caught.value.text


@pytest.mark.parametrize("ending", ["h5", "nii.gz", "nrrd"])
def test_a_saved_result_reads_back_as_it_was(tmp_path: Path, ending: str) -> None:
    fixed, moving = volume((9, 11, 14), 1), volume((10, 8, 12), 2)
    labels = moving.with_array((moving.array > 0.5).astype(np.int16) * 300)
    result = fake_register(fixed, moving, moving_labels=labels)
    shares: list[float] = []
    save_result(result, moving, tmp_path, ending, shares.append)
    assert names_in(tmp_path) == {f"transform.{ending}", f"inverse.{ending}", "warped.nii.gz", "warped_labels.nii.gz",
                                  "jacobian.nii.gz", "displacement_magnitude.nii.gz"}  # fmt: skip
    assert names_in(tmp_path) <= set(RESULT_NAMES)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    points = fixed.ras_from_ijk[:3, 3] + np.array([[-4.0, 3.0, -6.0], [-9.5, 8.25, -15.5]])
    again = read_transform(tmp_path / f"transform.{ending}")
    np.testing.assert_allclose(again.transform_points(points), result.transform.transform_points(points), atol=2e-6)
    points = moving.ras_from_ijk[:3, 3] + np.array([[-4.0, 3.0, -6.0], [-9.5, 8.25, -15.5]])
    again = read_transform(tmp_path / f"inverse.{ending}")
    np.testing.assert_allclose(again.transform_points(points), result.inverse.transform_points(points), atol=2e-6)
    warped = read_volume(tmp_path / "warped.nii.gz")
    assert warped.same_grid(fixed)
    np.testing.assert_array_equal(warped.array, result.warped.array)
    saved_labels = read_volume(tmp_path / "warped_labels.nii.gz").array
    assert set(np.unique(saved_labels)) == {0, 300}


def test_saving_stops_between_two_files_when_asked(tmp_path: Path) -> None:
    def stop(share: float) -> None:
        if share > 0.3:
            raise CancelledError

    fixed, moving = volume((9, 11, 14), 1), volume((10, 8, 12), 2)
    with pytest.raises(CancelledError):
        save_result(fake_register(fixed, moving), moving, tmp_path, "h5", stop)
    assert names_in(tmp_path) == {"transform.h5", "inverse.h5"}


def test_the_report_is_json_that_every_reader_takes_also_with_nan(tmp_path: Path) -> None:
    save_report({"dice": {1: float("nan")}, "name": "Müller", "max": float("inf"), "steps": (1, 2)}, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content == {"dice": {"1": None}, "name": "Müller", "max": None, "steps": [1, 2]}
