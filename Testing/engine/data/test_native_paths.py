"""Stand-ins for paths that ITK cannot open on some Windows systems, played through on any system."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from geometry_cases import AFFINE, random_volume
from test_dicom import write_series

from autofuse_engine.data import native_paths
from autofuse_engine.data.files import read_volume, write_volume
from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.transform_files import read_transform, write_transform
from autofuse_engine.errors import FileError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose name ITK cannot open, and a temporary folder whose name it can."""
    plain = tmp_path / "temporary"
    plain.mkdir()
    monkeypatch.setattr(native_paths, "opens_any_name", lambda: False)
    monkeypatch.setattr(native_paths.tempfile, "gettempdir", lambda: str(plain))
    place = tmp_path / "Universität"
    place.mkdir()
    return place


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_images_are_written_and_read_through_stand_ins(folder: Path, ending: str) -> None:
    volume = random_volume()
    write_volume(folder / f"Schädel{ending}", volume)
    assert [path.name for path in folder.iterdir()] == [f"Schädel{ending}"]
    back = read_volume(folder / f"Schädel{ending}")
    assert np.array_equal(back.array, volume.array)
    assert back.name == "Schädel"
    assert not list((folder.parent / "temporary").iterdir())


def test_transforms_are_written_and_read_through_stand_ins(folder: Path) -> None:
    write_transform(folder / "Übergang.h5", SpatialTransform(steps=(AFFINE,)))
    assert read_transform(folder / "Übergang.h5").matrix_ras == pytest.approx(AFFINE.matrix_ras)


def test_dicom_folders_and_files_are_read_through_stand_ins(folder: Path) -> None:
    array = write_series(folder)
    write_series(folder, "FLAIR", "1.2.3.4", slices=4)
    assert np.array_equal(read_volume(folder / "T1002.dcm").array, array)


def test_itk_never_sees_the_letters_that_it_cannot_open(folder: Path) -> None:
    (folder / "ä.nrrd").write_bytes(b"content")
    with native_paths.native_input(folder / "ä.nrrd") as stand_in:
        assert str(stand_in).isascii() or str(stand_in.relative_to(folder.parent)).isascii()
        assert stand_in.suffix == ".nrrd"
        assert stand_in.read_bytes() == b"content"
    with native_paths.native_output(folder / "ö.nii.gz") as stand_in:
        assert stand_in.name.endswith(".nii.gz")
        assert str(stand_in.relative_to(folder.parent)).isascii()
        stand_in.write_bytes(b"result")
    assert (folder / "ö.nii.gz").read_bytes() == b"result"


def test_plain_paths_are_used_as_they_are(folder: Path) -> None:
    path = folder.parent / "plain.nrrd"
    with native_paths.native_input(path) as native:
        assert native == path or not str(path).isascii()


def test_headers_with_a_second_file_are_refused_with_a_cure(folder: Path) -> None:
    (folder / "image.mhd").write_text("ObjectType = Image\n", encoding="utf-8")
    with pytest.raises(FileError) as caught:
        read_volume(folder / "image.mhd")
    assert caught.value.code == "path-not-ascii"
    assert str(folder / "image.mhd") in caught.value.text


def test_a_system_without_a_plain_folder_is_refused_with_a_cure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_paths.tempfile, "gettempdir", lambda: str(folder))
    for name in ("PUBLIC", "PROGRAMDATA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FileError) as caught:
        write_volume(folder / "ä.nrrd", random_volume())
    assert caught.value.code == "path-not-ascii"
    assert not list(folder.iterdir())
