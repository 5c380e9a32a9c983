"""Faults of image files: each is refused with a code, the file's name and a cure, and none is filled with zeros."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from geometry_cases import OBLIQUE, itk_image, random_volume

from autofuse_engine.data.files import read_volume, write_volume
from autofuse_engine.errors import AutoFuseError, FileError, InputError

FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")


def refusal(path: Path, code: str, kind: type[AutoFuseError]) -> str:
    """The sentence with which reading the file is refused: it names the file and comes with a cure."""
    with pytest.raises(kind) as caught:
        read_volume(path)
    assert caught.value.code == code
    assert str(path) in caught.value.text
    assert caught.value.text.endswith(".")
    assert caught.value.hint.endswith(".")
    assert "itk" not in str(caught.value).lower().replace("simpleitk", "").replace(str(path).lower(), "")
    return caught.value.text


def edited_nifti(folder: Path, *changes: tuple[int, str, tuple]) -> Path:
    """A NIfTI file of 10 x 9 x 8 voxels with changed header fields: offset, struct format, values."""
    path = folder / "edited.nii"
    sitk.WriteImage(itk_image(np.zeros((8, 9, 10), np.float32), np.diag([1.5, 2, 3, 1])), str(path))
    content = bytearray(path.read_bytes())
    for offset, form, values in changes:
        struct.pack_into("<" + form, content, offset, *values)
    path.write_bytes(content)
    return path


def text_mha(folder: Path, **fields: str) -> Path:
    """A MetaImage of 2 x 3 x 4 bytes with changed header fields."""
    header = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "1 1 2",
        "DimSize": "2 3 4",
        "ElementType": "MET_UCHAR",
        "ElementDataFile": "LOCAL",
    } | fields
    path = folder / "text.mha"
    path.write_bytes("".join(f"{key} = {value}\n" for key, value in header.items()).encode() + bytes(range(24)))
    return path


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_a_header_without_its_data_file_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"image{ending}"
    sitk.WriteImage(itk_image(random_volume().array, OBLIQUE), str(path))
    (tmp_path / "image.raw").unlink()
    refusal(path, "data-file-missing", FileError)


def test_a_metaimage_whose_data_file_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.mhd"
    sitk.WriteImage(itk_image(random_volume().array, OBLIQUE), str(path))
    (tmp_path / "image.raw").write_bytes((tmp_path / "image.raw").read_bytes()[:-1])
    refusal(path, "truncated-file", FileError)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refusal(tmp_path / "nowhere.nii.gz", "file-not-found", FileError)


@pytest.mark.parametrize("name", ["words.txt", "words.nrrd", "words.mha", "words.nii", "words.nii.gz", "words"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"these are words, and more words " * 30)
    refusal(tmp_path / name, "not-an-image", FileError)


def test_an_empty_file_is_no_image(tmp_path: Path) -> None:
    for name in ("empty.nii", "empty.nrrd", "empty.mha"):
        (tmp_path / name).write_bytes(b"")
        refusal(tmp_path / name, "not-an-image", FileError)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_cut_off_file_is_refused_and_not_filled_with_zeros(tmp_path: Path, ending: str, share: float) -> None:
    whole, part = tmp_path / f"whole{ending}", tmp_path / f"part{ending}"
    write_volume(whole, random_volume(shape=(19, 21, 23)))
    content = whole.read_bytes()
    part.write_bytes(content[: int(share * len(content))])
    refusal(part, "truncated-file", FileError)


def test_a_damaged_compressed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.nii.gz"
    write_volume(path, random_volume())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    refusal(path, "truncated-file", FileError)


def test_an_uncompressed_metaimage_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = text_mha(tmp_path)
    assert read_volume(path).shape == (4, 3, 2)
    path.write_bytes(path.read_bytes()[:-1])
    assert "of" in refusal(path, "truncated-file", FileError)


def test_a_compressed_nifti_in_several_parts_is_whole(tmp_path: Path) -> None:
    write_volume(tmp_path / "one.nii", random_volume())
    content = (tmp_path / "one.nii").read_bytes()
    (tmp_path / "parts.nii.gz").write_bytes(gzip.compress(content[:700]) + gzip.compress(content[700:]))
    assert np.array_equal(read_volume(tmp_path / "parts.nii.gz").array, random_volume().array)


def test_nifti_2_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "two.nii").write_bytes(struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n" + bytes(600))
    assert "NIfTI-2" in refusal(tmp_path / "two.nii", "not-an-image", FileError)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_other_than_three_dimensions_are_named(tmp_path: Path, ending: str) -> None:
    flat, frames = tmp_path / f"flat{ending}", tmp_path / f"frames{ending}"
    sitk.WriteImage(sitk.Image([6, 5], sitk.sitkFloat32), str(flat))
    assert "2 dimensions (6 x 5)" in refusal(flat, "image-not-3d", InputError)
    sitk.WriteImage(sitk.Image([6, 5, 4, 2], sitk.sitkFloat32), str(frames))
    assert "4 dimensions (6 x 5 x 4 x 2)" in refusal(frames, "image-not-3d", InputError)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_vector_images_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"vectors{ending}"
    sitk.WriteImage(sitk.Image([6, 5, 4], sitk.sitkVectorFloat32, 3), str(path))
    assert "3 numbers per voxel" in refusal(path, "image-is-vector", InputError)


def test_complex_images_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image([6, 5, 4], sitk.sitkComplexFloat32), str(tmp_path / "complex.nii"))
    refusal(tmp_path / "complex.nii", "image-is-complex", InputError)


def test_a_sheared_nifti_is_refused(tmp_path: Path) -> None:
    forms, rows = (252, "2h", (0, 1)), (280, "12f", (1.5, 0.6, 0, 3, 0, 2, 0, 4, 0, 0, 3, 5))
    assert "right angles" in refusal(edited_nifti(tmp_path, forms, rows), "image-sheared", InputError)


@pytest.mark.parametrize("side", [0.0, -1.5, np.nan])
def test_a_nifti_without_spacing_is_refused_where_itk_invents_one(tmp_path: Path, side: float) -> None:
    path = edited_nifti(tmp_path, (252, "2h", (1, 0)), (76, "4f", (1, side, 2, 3)))
    refusal(path, "image-geometry-invalid", InputError)


def test_a_nifti_with_an_empty_or_invalid_matrix_is_refused(tmp_path: Path) -> None:
    for first in (0.0, np.nan):
        rows = (280, "12f", (first, 0, 0, 3, 0, 2, 0, 4, 0, 0, 3, 5))
        refusal(edited_nifti(tmp_path, (252, "2h", (0, 1)), rows), "image-geometry-invalid", InputError)


def test_a_big_endian_nifti_is_read(tmp_path: Path) -> None:
    path = edited_nifti(tmp_path)
    header = bytearray(348)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 3, 2, 3, 4, 1, 1, 1, 1)
    struct.pack_into(">2h", header, 70, 4, 16)
    struct.pack_into(">8f", header, 76, 1, 1, 2, 3, 1, 1, 1, 1)
    struct.pack_into(">2f", header, 108, 352, 0)
    header[344:348] = b"n+1\0"
    values = np.arange(24, dtype=">i2")
    path.write_bytes(bytes(header) + bytes(4) + values.tobytes())
    assert read_volume(path).array.reshape(-1).tolist() == list(range(24))


def test_a_spacing_of_zero_in_a_metaimage_is_refused(tmp_path: Path) -> None:
    refusal(text_mha(tmp_path, ElementSpacing="0 1 1"), "image-geometry-invalid", InputError)


def test_an_image_of_too_many_voxels_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "huge.nhdr"
    path.write_text(
        "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2048 2048 512\nencoding: raw\ndata file: nothing.raw\n",
        encoding="utf-8",
    )
    (tmp_path / "nothing.raw").write_bytes(b"")
    assert "2147483648 voxels" in refusal(path, "image-too-large", InputError)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_itk_would_silently_turn_into_zeros_are_refused(tmp_path: Path, suffix: str, value: float) -> None:
    array = np.ones((8, 9, 10))
    array[3, 4, 5] = value
    path = tmp_path / f"größe{suffix}"
    sitk.WriteImage(itk_image(array, np.diag([1.5, 2, 3, 1])), str(path))
    refusal(path, "image-not-finite", InputError)


@pytest.mark.parametrize("spacing", [0.0, -2.0])
def test_a_nifti_spacing_that_is_not_positive_is_refused_even_beside_a_valid_matrix(
    tmp_path: Path, spacing: float
) -> None:
    assert f"{spacing:g}" in refusal(
        edited_nifti(tmp_path, (84, "f", (spacing,))), "image-geometry-invalid", InputError
    )


@pytest.mark.parametrize("spacing", ["1 -1 2", "0 1 2"])
def test_a_metaimage_spacing_that_is_not_positive_is_refused(tmp_path: Path, spacing: str) -> None:
    refusal(text_mha(tmp_path, ElementSpacing=spacing), "image-geometry-invalid", InputError)
