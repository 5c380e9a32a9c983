"""Folders of DICOM files, written slice by slice with SimpleITK."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from geometry_cases import RAS_SIGNS, placed, turn

from autofuse_engine.data.files import read_volume
from autofuse_engine.errors import AutoFuseError, FileError, InputError

SPACING = (1.5, 1.25, 3.0)
SERIES = "1.2.826.0.1.3680043.2.1125.1"


def write_series(
    folder: Path,
    description: str = "T1 MPRAGE",
    uid: str = SERIES,
    slices: int = 6,
    place: Callable[[int], np.ndarray] | None = None,
) -> np.ndarray:
    """Write an oblique series of 16-bit slices, last slice first; returns the array ``(D, H, W)``."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = turn((1, 1, 0), 20)
    array = np.random.default_rng(len(description)).integers(0, 1000, size=(slices, 7, 9)).astype(np.int16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in reversed(range(slices)):
        image = sitk.GetImageFromArray(array[number])
        image.SetSpacing(SPACING[:2])
        position = np.array([-10.0, 20.0, 5.0]) + axes[:, 2] * SPACING[2] * number if place is None else place(number)
        tags = {
            "0008|0060": "MR",
            "0008|103e": description,
            "0020|000d": "1.2.826.0.1.3680043.2.1125.9",
            "0020|000e": uid,
            "0008|0018": f"{uid}.{number}",
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "\\".join(f"{value:.9f}" for value in (*axes[:, 0], *axes[:, 1])),
            "0020|0013": str(number),
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{description[:2]}{slices - number:03d}.dcm"))
        writer.Execute(image)
    return array


def refusal(path: Path, code: str, kind: type[AutoFuseError], **options: str) -> AutoFuseError:
    with pytest.raises(kind) as caught:
        read_volume(path, **options)
    assert caught.value.code == code
    assert str(path) in caught.value.text
    assert caught.value.hint
    return caught.value


def test_a_folder_with_one_series_is_a_volume_in_its_place(tmp_path: Path) -> None:
    array = write_series(tmp_path / "Serie ä")
    volume = read_volume(tmp_path / "Serie ä")
    assert np.array_equal(volume.array, array)
    assert volume.name == "Serie ä"
    lps_from_ijk = placed(turn((1, 1, 0), 20) @ np.diag(SPACING), (-10.0, 20.0, 5.0))
    assert volume.ras_from_ijk[:3] == pytest.approx(lps_from_ijk[:3] * RAS_SIGNS[:, None], abs=1e-4)


def test_one_dicom_file_stands_for_its_series(tmp_path: Path) -> None:
    array = write_series(tmp_path)
    write_series(tmp_path, "FLAIR", SERIES + "2", slices=4)
    assert np.array_equal(read_volume(tmp_path / "T1003.dcm").array, array)
    assert read_volume(tmp_path / "FL001.dcm").shape == (4, 7, 9)


def test_several_series_are_listed_and_can_be_chosen(tmp_path: Path) -> None:
    write_series(tmp_path)
    array = write_series(tmp_path, "FLAIR", SERIES + "2", slices=4)
    error = refusal(tmp_path, "dicom-several-series", FileError)
    assert "2 DICOM series" in error.text
    assert "T1 MPRAGE (6 files)" in error.text
    assert f"FLAIR (4 files), series UID {SERIES}2" in error.text
    assert np.array_equal(read_volume(tmp_path, series_uid=SERIES + "2").array, array)


def test_an_unknown_series_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    write_series(tmp_path)
    error = refusal(tmp_path, "dicom-series-unknown", FileError, series_uid="1.2.3")
    assert "1.2.3" in error.text
    assert SERIES in error.text


def test_a_folder_without_dicom_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    refusal(tmp_path, "folder-holds-no-dicom", FileError)


def test_a_missing_slice_is_noticed(tmp_path: Path) -> None:
    write_series(tmp_path)
    (tmp_path / "T1003.dcm").unlink()
    error = refusal(tmp_path, "dicom-slices-uneven", InputError)
    assert "steps differ by" in error.text


def test_a_tilted_gantry_is_noticed(tmp_path: Path) -> None:
    tilted = turn((1, 1, 0), 20) @ np.array([0.0, np.sin(0.2), np.cos(0.2)])
    write_series(tmp_path, place=lambda number: tilted * 3.0 * number)
    error = refusal(tmp_path, "dicom-slices-uneven", InputError)
    assert "slant 11.5 degrees" in error.text


def test_rounded_positions_are_even(tmp_path: Path) -> None:
    step = turn((1, 1, 0), 20)[:, 2] * 3.0
    write_series(tmp_path, place=lambda number: np.round(step * number, 2))
    assert read_volume(tmp_path).shape == (6, 7, 9)
