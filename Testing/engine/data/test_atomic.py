"""Files appear whole or not at all, also on a disk that is really full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from geometry_cases import AFFINE, random_grid, random_volume

from autofuse_engine.data.atomic import replacing, write_error
from autofuse_engine.data.files import read_volume, write_volume
from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.transform_files import read_transform, write_transform
from autofuse_engine.errors import FileError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own of 300 KiB."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs Linux and root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_file_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "result.nii.gz"
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("new", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_what_was_there_stays_when_the_block_fails(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old", encoding="utf-8")

    def writes_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise failure

    with pytest.raises(type(failure)):
        writes_half()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught, replacing(tmp_path / "nowhere" / "result.txt"):
        pytest.fail("the block must not run")
    assert caught.value.code == "output-not-writable"
    assert str(tmp_path / "nowhere" / "result.txt") in caught.value.text
    assert "folder" in caught.value.hint


def test_a_folder_is_not_overwritten_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder") as caught, replacing(tmp_path):
        pytest.fail("the block must not run")
    assert caught.value.code == "output-not-writable"


def test_operating_system_errors_get_a_cure(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    with pytest.raises(FileError) as caught, replacing(path):
        raise PermissionError(errno.EACCES, "denied")
    assert caught.value.code == "output-not-writable"
    assert str(path) in caught.value.text
    with pytest.raises(FileError) as caught, replacing(path):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.code == "disk-full"
    assert str(path) in caught.value.text
    assert write_error(path, OSError(errno.EDQUOT, "quota")).code == "disk-full"


def test_room_is_asked_for_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught, replacing(tmp_path / "huge.h5", needed_bytes=2**60):
        pytest.fail("the block must not run")
    assert caught.value.code == "disk-full"
    assert "huge.h5" in caught.value.text
    assert "MiB are free" in caught.value.text


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_full_disk_leaves_no_part_of_an_image(small_disk: Path, ending: str) -> None:
    write_volume(small_disk / f"small{ending}", random_volume())
    with pytest.raises(FileError) as caught:
        write_volume(small_disk / f"large{ending}", random_volume(shape=(50, 60, 70), dtype="float64"))
    assert caught.value.code == "disk-full"
    assert f"large{ending}" in caught.value.text
    assert [path.name for path in small_disk.iterdir()] == [f"small{ending}"]
    assert read_volume(small_disk / f"small{ending}").shape == random_volume().shape


@pytest.mark.parametrize("ending", [".h5", ".tfm", ".nii.gz", ".nrrd"])
def test_a_full_disk_leaves_no_part_of_a_transform(small_disk: Path, ending: str) -> None:
    transform = SpatialTransform(steps=(AFFINE, random_grid(shape=(30, 31, 32))))
    with pytest.raises(FileError) as caught:
        write_transform(small_disk / f"large{ending}", transform)
    assert caught.value.code == "disk-full"
    assert not list(small_disk.iterdir())


def test_a_transform_that_fits_is_written_to_a_small_disk(small_disk: Path) -> None:
    write_transform(small_disk / "fits.tfm", SpatialTransform(steps=(AFFINE,)))
    assert read_transform(small_disk / "fits.tfm").matrix_ras == pytest.approx(AFFINE.matrix_ras)
