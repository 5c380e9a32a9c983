"""Folders of DICOM files: find the series, read one of them as an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from autofuse_engine.data.native_paths import native_input
from autofuse_engine.errors import FileError, InputError

_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
_DESCRIPTION, _SERIES_UID = "0008|103e", "0020|000e"
_UNEVEN_SHARE = 0.05


def is_dicom(path: Path) -> bool:
    """True where the file carries the mark of a DICOM file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_series(folder: Path, received: Path, series_uid: str | None) -> sitk.Image:
    """Read one series of a folder.

    Args:
        folder: the folder as ITK can open it.
        received: what the user named: the folder, or one file whose series is meant; errors name it.
        series_uid: which series; needed where the folder holds several and ``received`` is the folder.

    Raises:
        FileError: ``folder-holds-no-dicom``, ``dicom-several-series``, ``dicom-series-unknown``.
        InputError: ``dicom-slices-uneven``.
        RuntimeError: where ITK cannot read the files.
    """
    found = {uid: _files(folder, uid) for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))}
    if not found:
        raise FileError(
            "folder-holds-no-dicom",
            f"The folder {received} holds no DICOM images.",
            "Choose the folder in which the DICOM files lie, or an image file such as .nii.gz.",
        )
    if series_uid is None and received.is_file():
        with native_input(received) as native:
            series_uid = _tag(native, _SERIES_UID)
    if series_uid is None and len(found) == 1:
        series_uid = next(iter(found))
    listing = "; ".join(f"{_describe(files)}, series UID {uid}" for uid, files in sorted(found.items()))
    if series_uid is None:
        raise FileError(
            "dicom-several-series",
            f"The folder {received} holds {len(found)} DICOM series: {listing}.",
            "Name one DICOM file of the series that you want instead of the folder, or give its series UID.",
        )
    if series_uid not in found:
        raise FileError(
            "dicom-series-unknown",
            f"The folder {received} holds no DICOM series {series_uid}; it holds {listing}.",
            "Choose one of these.",
        )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(found[series_uid])
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    _require_even_slices(reader, len(found[series_uid]), received)
    return image


def _files(folder: Path, uid: str) -> tuple[str, ...]:
    return sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)


def _describe(files: tuple[str, ...]) -> str:
    description = _tag(Path(files[0]), _DESCRIPTION) or "without description"
    return f"{description} ({len(files)} file{'s' if len(files) > 1 else ''})"


def _tag(path: Path, tag: str) -> str | None:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else None


def _require_even_slices(reader: sitk.ImageSeriesReader, files: int, received: Path) -> None:
    """Refuse missing slices, mixed orientations and tilted gantries: ITK would build a distorted image of them."""
    if files < 3 or not all(reader.HasMetaDataKey(n, _POSITION) for n in range(files)):
        return
    positions = np.array([_numbers(reader.GetMetaData(n, _POSITION)) for n in range(files)])
    steps = np.diff(positions, axis=0)
    uneven = float(np.abs(steps - np.median(steps, axis=0)).max())
    spacing = float(np.linalg.norm(np.median(steps, axis=0)))
    rows, columns = np.array(_numbers(reader.GetMetaData(0, _ORIENTATION))).reshape(2, 3)
    slant = float(np.linalg.norm(np.cross(np.cross(rows, columns), steps[0] / max(spacing, 1e-9))))
    if uneven > _UNEVEN_SHARE * spacing or slant > 1e-2:
        raise InputError(
            "dicom-slices-uneven",
            f"The slices of the DICOM series in {received} are not evenly stacked "
            f"(steps differ by {uneven:.3g} mm, slant {np.degrees(np.arcsin(min(slant, 1.0))):.1f} degrees).",
            "Slices may be missing or the gantry was tilted: load the series in 3D Slicer, which regularises it, "
            "and save it as .nrrd.",
        )


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split("\\")]
