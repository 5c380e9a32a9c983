"""A look at image files before ITK reads them: ITK fills the missing part of a cut-off file with zeros.

Only what ITK gets wrong or cannot explain is looked at: NIfTI-1 (.nii, .nii.gz), MetaImage (.mha, .mhd) and HDF5
(.h5). Everything else is left to ITK's own reader.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from autofuse_engine.errors import FileError, InputError

_BLOCK = 1 << 22  # bytes, a multiple of every voxel's size
_NIFTI_FLOATS = {16: "f4", 64: "f8"}
_METAIMAGE_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def check_header(path: Path, *, values: bool = True) -> None:
    """Refuse a cut-off or contradictory file; the file exists.

    Args:
        path: the file; other formats than those above pass.
        values: also refuse NaN and infinite values of NIfTI images, which ITK would read as zeros.

    Raises:
        FileError: ``truncated-file``, ``data-file-missing``, ``not-an-image`` or ``not-a-transform``.
        InputError: ``image-geometry-invalid`` or ``image-not-finite``.
        OSError: if the file cannot be opened.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        _check_nifti(path, values)
    elif name.endswith((".mha", ".mhd")):
        _check_metaimage(path)
    elif name.endswith((".h5", ".hdf5", ".hdf")):
        _check_hdf5(path)


def _check_nifti(path: Path, values: bool) -> None:
    with _unpacked(path) as file:
        header = file.read(348)
        order = next((mark for mark in "<>" if header[:4] == struct.pack(mark + "i", 348)), None)
        if order is None or len(header) < 348:
            newer = header[:4] in (struct.pack("<i", 540), struct.pack(">i", 540))
            raise FileError(
                "not-an-image",
                f"The file {path} is {'a NIfTI-2' if newer else 'not a NIfTI-1'} image.",
                "Save it as NIfTI-1 (.nii.gz) or .nrrd, for instance with 3D Slicer.",
            )
        _check_nifti_geometry(path, header, order)
        if header[344:347] != b"n+1":
            return  # the image data lie in another file
        dim = struct.unpack_from(order + "8h", header, 40)
        kind, bits_per_voxel = struct.unpack_from(order + "2h", header, 70)
        data_start = int(struct.unpack_from(order + "f", header, 108)[0])
        data_size = math.prod(max(side, 1) for side in dim[1 : 1 + max(dim[0], 0)]) * bits_per_voxel // 8
        size, finite = 348 + len(file.read(max(0, data_start - 348))), True
        while block := file.read(_BLOCK):
            size += len(block)
            if values and kind in _NIFTI_FLOATS and finite:
                numbers = np.frombuffer(block, order + _NIFTI_FLOATS[kind], count=len(block) // (bits_per_voxel // 8))
                finite = bool(np.isfinite(numbers).all())
    if size < data_start + data_size:
        raise truncated(path, size, data_start + data_size)
    if not finite:
        raise InputError(
            "image-not-finite",
            f"The image {path} holds values that are not numbers (NaN or infinite).",
            "Replace them, for instance with zero, before registering.",
        )


def _check_nifti_geometry(path: Path, header: bytes, order: str) -> None:
    pixdim = struct.unpack_from(order + "8f", header, 76)
    scanner_form, standard_form = struct.unpack_from(order + "2h", header, 252)
    spacing = pixdim[1:4]
    if standard_form > 0:
        numbers = struct.unpack_from(order + "12f", header, 280)
        columns = tuple(math.hypot(*numbers[axis::4]) for axis in range(3))
        spacing = columns if any(value <= 0 for value in columns) else spacing
    else:
        numbers = struct.unpack_from(order + "6f", header, 256) if scanner_form > 0 else ()
    if any(value <= 0 for value in spacing):
        raise InputError(
            "image-geometry-invalid",
            f"The image {path} has the voxel spacing {' x '.join(f'{value:g}' for value in spacing)} mm.",
            "The spacing must be above zero: correct it, for instance in the Volumes module of 3D Slicer.",
        )
    if not all(math.isfinite(number) for number in (*numbers, *spacing)):
        raise InputError(
            "image-geometry-invalid",
            f"The image {path} holds values in its orientation matrix that are not numbers.",
            "Save the image again with a program that shows it in its right place, for instance 3D Slicer.",
        )


def _check_metaimage(path: Path) -> None:
    head, size = _head_and_size(path, 65536)
    mark = head.find(b"ElementDataFile")
    line_end = head.find(b"\n", mark)
    if mark < 0 or line_end < 0:
        return
    pairs = (line.split("=", 1) for line in head[:line_end].decode("latin-1").splitlines() if "=" in line)
    fields = {key.strip(): value.strip() for key, value in pairs}
    data_name = head[mark:line_end].partition(b"=")[2].strip().decode("utf-8", errors="replace")
    header_size = line_end + 1
    if data_name != "LOCAL":
        if data_name.startswith("LIST") or "%" in data_name:
            return
        data_path = path.parent / data_name
        if not data_path.is_file():
            raise data_file_missing(path)
        size, header_size = data_path.stat().st_size, 0
    spacing = fields.get("ElementSpacing", fields.get("ElementSize", "1")).split()
    if any(_number(side) <= 0 for side in spacing):
        raise InputError(
            "image-geometry-invalid",
            f"The image {path} has the voxel spacing {' x '.join(spacing)} mm.",
            "The spacing must be above zero: correct it in the header.",
        )
    if fields.get("CompressedData") == "True":
        stated = fields.get("CompressedDataSize", "")
        data = int(stated) if stated.isdigit() else 0
    else:
        kind = fields.get("ElementType", "").removeprefix("MET_").replace("UCHAR", "CHAR").removeprefix("U")
        sides = [side for side in fields.get("DimSize", "0").split() if side.isdigit()]
        channels = fields.get("ElementNumberOfChannels", "1")
        values = math.prod(int(side) for side in [*sides, channels if channels.isdigit() else "1"])
        data = values * _METAIMAGE_BYTES.get(kind, 0)
    if size < header_size + data:
        raise truncated(path, size, header_size + data)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # ITK's own reader explains what it cannot read


def _check_hdf5(path: Path) -> None:
    head, size = _head_and_size(path, 64)
    if head[:8] != _HDF5_SIGNATURE or len(head) < 64:
        raise FileError(
            "not-a-transform",
            f"The file {path} is not an HDF5 file.",
            "Choose a transform file (.h5, .tfm) or a displacement field (.nii.gz, .nrrd).",
        )
    place = {0: 40, 1: 44}.get(head[8], 28)  # end-of-file address of superblock versions 0, 1, and 2 or 3
    expected = struct.unpack_from("<Q", head, place)[0]
    if size < expected:
        raise truncated(path, size, expected)


def truncated(path: Path, size: int, expected: int) -> FileError:
    """The error for a file that ends too early."""
    return FileError(
        "truncated-file",
        f"The file {path} is cut off: {size} of {expected} bytes are there.",
        "Copy or download it again.",
    )


def data_file_missing(path: Path) -> FileError:
    """The error for a header whose image data lie in another file that is not there."""
    return FileError(
        "data-file-missing",
        f"The file {path} is a header, and the file with the image data that it names is missing.",
        "Put both files into one folder, or use a format with one file such as .nii.gz or .nrrd.",
    )


def _head_and_size(path: Path, head_bytes: int = 348) -> tuple[bytes, int]:
    with path.open("rb") as file:
        return file.read(head_bytes), path.stat().st_size


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, unpacked where its name ends with .gz; damage is named when the block meets it."""
    if path.suffix.lower() != ".gz":
        with path.open("rb") as plain:
            yield plain
        return
    try:
        with gzip.open(path, "rb") as unpacked:
            yield cast(BinaryIO, unpacked)
    except EOFError as error:
        raise FileError(
            "truncated-file",
            f"The file {path} is cut off in the middle of its compressed data.",
            "Copy or download it again.",
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        raise FileError(
            "truncated-file" if packed else "not-an-image",
            f"The compressed data of the file {path} are damaged."
            if packed
            else f"The file {path} is not a gzip file, although its name ends with .gz.",
            "Copy or download it again." if packed else "Check that the file holds an image and has the right ending.",
        ) from error
