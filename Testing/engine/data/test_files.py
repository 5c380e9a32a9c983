"""Images on disk: geometry judged by SimpleITK, types kept, every fault named with a cure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from geometry_cases import FLIPPED, OBLIQUE, RAS_SIGNS, itk_image, random_volume

from autofuse_engine.data import files
from autofuse_engine.data.files import from_sitk, read_labelmap, read_volume, to_sitk, write_volume
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.errors import FileError, InputError

FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("matrix", [OBLIQUE, FLIPPED])
def test_simpleitk_finds_each_written_voxel_where_the_volume_says(
    tmp_path: Path, ending: str, matrix: np.ndarray
) -> None:
    volume = random_volume(matrix)
    write_volume(tmp_path / f"image{ending}", volume)
    image = sitk.ReadImage(str(tmp_path / f"image{ending}"))
    for ijk in ((0, 0, 0), (12, 0, 0), (0, 10, 0), (0, 0, 8), (5, 4, 3)):
        place = np.array(image.TransformIndexToPhysicalPoint(ijk)) * RAS_SIGNS
        assert place == pytest.approx(map_points(matrix, np.array(ijk)), abs=2e-5)  # NIfTI keeps 32-bit places
        assert image.GetPixel(ijk) == volume.array[ijk[2], ijk[1], ijk[0]]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_of_simpleitk_is_read_in_its_place(tmp_path: Path, ending: str) -> None:
    array = random_volume().array
    image = itk_image(array, FLIPPED)
    sitk.WriteImage(image, str(tmp_path / f"image{ending}"))
    volume = read_volume(tmp_path / f"image{ending}")
    assert np.array_equal(volume.array, array)
    assert volume.name == "image"
    for ijk in ((0, 0, 0), (12, 10, 8), (5, 4, 3)):
        place = np.array(image.TransformIndexToPhysicalPoint(ijk)) * RAS_SIGNS
        assert map_points(volume.ras_from_ijk, np.array(ijk)) == pytest.approx(place, abs=2e-5)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("dtype", TYPES)
def test_the_type_and_every_value_survive_a_round_trip(tmp_path: Path, ending: str, dtype: str) -> None:
    volume = random_volume(dtype=dtype)
    if np.issubdtype(np.dtype(dtype), np.integer):
        limits = np.iinfo(dtype)
        volume.array[0, 0, :2] = limits.min, limits.max
    write_volume(tmp_path / f"image{ending}", volume)
    back = read_volume(tmp_path / f"image{ending}")
    assert back.array.dtype == np.dtype(dtype)
    assert np.array_equal(back.array, volume.array)
    assert back.same_grid(volume)


def test_boolean_and_half_precision_arrays_are_written_in_the_next_type(tmp_path: Path) -> None:
    mask = Volume(array=random_volume().array > 0, ras_from_ijk=OBLIQUE)
    write_volume(tmp_path / "mask.nrrd", mask)
    assert np.array_equal(read_volume(tmp_path / "mask.nrrd").array, mask.array.astype(np.uint8))
    half = random_volume(dtype="float16")
    write_volume(tmp_path / "half.nrrd", half)
    assert np.array_equal(read_volume(tmp_path / "half.nrrd").array, half.array.astype(np.float32))


def test_a_view_with_reversed_axes_is_written_as_it_looks(tmp_path: Path) -> None:
    volume = Volume(array=random_volume().array[::-1, :, ::-1], ras_from_ijk=OBLIQUE)
    write_volume(tmp_path / "view.mha", volume)
    assert np.array_equal(read_volume(tmp_path / "view.mha").array, volume.array)


def test_volumes_and_simpleitk_images_convert_both_ways() -> None:
    volume = random_volume(FLIPPED)
    back = from_sitk(to_sitk(volume), "again")
    assert np.array_equal(back.array, volume.array)
    assert back.ras_from_ijk == pytest.approx(FLIPPED, abs=1e-12)
    assert back.name == "again"


@pytest.mark.parametrize("ending", FORMATS)
def test_names_with_spaces_and_letters_of_any_alphabet_work(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "Ünïcödé mit Leerzeichen 画像"
    folder.mkdir()
    volume = random_volume()
    write_volume(folder / f"Schädel жук{ending}", volume)
    back = read_volume(folder / f"Schädel жук{ending}")
    assert np.array_equal(back.array, volume.array)
    assert back.name == "Schädel жук"


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_detached_headers_are_read(tmp_path: Path, ending: str) -> None:
    array = random_volume().array
    sitk.WriteImage(itk_image(array, OBLIQUE), str(tmp_path / f"image{ending}"))
    volume = read_volume(tmp_path / f"image{ending}")
    assert np.array_equal(volume.array, array)
    assert volume.ras_from_ijk == pytest.approx(OBLIQUE)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_further_dimensions_of_size_one_are_dropped(tmp_path: Path, ending: str) -> None:
    array = random_volume().array
    image = sitk.JoinSeries(itk_image(array, OBLIQUE))
    assert image.GetSize() == (13, 11, 9, 1)
    sitk.WriteImage(image, str(tmp_path / f"frame{ending}"))
    volume = read_volume(tmp_path / f"frame{ending}")
    assert np.array_equal(volume.array, array)
    assert volume.ras_from_ijk == pytest.approx(OBLIQUE, abs=2e-5)


def test_labelmaps_of_whole_floating_point_numbers_become_integers(tmp_path: Path) -> None:
    labels = random_volume(dtype="int16")
    write_volume(tmp_path / "labels.nrrd", labels.with_array(labels.array.astype(np.float32)))
    back = read_labelmap(tmp_path / "labels.nrrd")
    assert back.array.dtype == np.uint8
    assert np.array_equal(back.array, labels.array)
    labels.array[0, 0, 0] = -3
    write_volume(tmp_path / "labels.nrrd", labels.with_array(labels.array.astype(np.float64)))
    back = read_labelmap(tmp_path / "labels.nrrd")
    assert np.issubdtype(back.array.dtype, np.signedinteger)
    assert np.array_equal(back.array, labels.array)


def test_large_labels_are_kept(tmp_path: Path) -> None:
    labels = random_volume(dtype="uint32")
    labels.array[1, 2, 3] = 4_000_000_001
    write_volume(tmp_path / "labels.nii.gz", labels)
    assert read_labelmap(tmp_path / "labels.nii.gz").array[1, 2, 3] == 4_000_000_001


@pytest.mark.parametrize("value", [2.5, np.nan, np.inf])
def test_labelmaps_with_other_numbers_are_refused(tmp_path: Path, value: float) -> None:
    labels = random_volume(dtype="uint8")
    array = labels.array.astype(np.float32)
    array[2, 3, 4] = value
    write_volume(tmp_path / "soft.nrrd", labels.with_array(array))
    with pytest.raises(InputError) as caught:
        read_labelmap(tmp_path / "soft.nrrd")
    assert caught.value.code == "labels-not-integer"
    assert f"{value:g}" in caught.value.text
    assert "soft.nrrd" in caught.value.text


@pytest.mark.parametrize("name", ["image.png", "image", "image.nhdr", "image.mhd", "image.gz"])
def test_writing_under_an_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileError) as caught:
        write_volume(tmp_path / name, random_volume())
    assert caught.value.code == "output-format-unknown"
    assert str(tmp_path / name) in caught.value.text
    assert ".nii.gz" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_reading_restores_itks_own_warnings(tmp_path: Path) -> None:
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    write_volume(tmp_path / "image.nrrd", random_volume())
    read_volume(tmp_path / "image.nrrd")
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == before


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("failure", [RuntimeError("No space"), KeyboardInterrupt()])
def test_a_write_that_breaks_off_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, failure: BaseException
) -> None:
    path = tmp_path / f"image{ending}"
    path.write_bytes(b"what was there")

    def breaks_off(image: sitk.Image, name: str, **options: object) -> None:
        Path(name).write_bytes(b"half an image")
        raise failure

    monkeypatch.setattr(files.sitk, "WriteImage", breaks_off)
    with pytest.raises((FileError, KeyboardInterrupt)) as caught:
        write_volume(path, random_volume())
    if isinstance(failure, RuntimeError):
        assert isinstance(caught.value, FileError)
        assert caught.value.code == "output-not-writable"
        assert str(path) in caught.value.text
        assert caught.value.__cause__ is failure
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_nifti_writer_that_lies_about_its_success_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    write = sitk.WriteImage

    def loses_the_end(image: sitk.Image, name: str, **options: object) -> None:
        write(image, name, **options)
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: len(content) // 2])

    monkeypatch.setattr(files.sitk, "WriteImage", loses_the_end)
    with pytest.raises(FileError) as caught:
        write_volume(tmp_path / f"image{ending}", random_volume())
    assert caught.value.code in ("output-not-writable", "disk-full")
    assert not list(tmp_path.iterdir())
