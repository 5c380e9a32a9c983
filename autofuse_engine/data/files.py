"""Images between disk and :class:`Volume`: formats, LPS to RAS, whole or not at all.

Files and ITK place voxels in LPS (left, posterior, superior), everything else in RAS. The change of sign happens in
:func:`to_sitk`, :func:`from_sitk` and the flip :data:`LPS_FROM_RAS`, which transform and point files use too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from autofuse_engine.data import dicom
from autofuse_engine.data.atomic import replacing, write_error
from autofuse_engine.data.headers import check_header, data_file_missing
from autofuse_engine.data.native_paths import native_input, native_output
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import FileError, InputError

LPS_FROM_RAS: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0])
"""4x4, its own inverse: changes the sign of the first two coordinates."""

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Endings that :func:`write_volume` knows: formats that keep image and geometry in one file."""


def read_volume(path: str | Path, *, series_uid: str | None = None, frame: int | None = None) -> Volume:
    """Read a 3D scalar image with its geometry; the stored data type is kept.

    Args:
        path: a file that ITK reads (.nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd ...), one DICOM file (its series is
            read), or a folder with DICOM files.
        series_uid: which series of a DICOM folder; not needed where there is only one.
        frame: which 3D image of a 4D file, counted from 0.

    Raises:
        FileError: ``file-not-found``, ``not-an-image``, ``truncated-file``, ``file-not-readable``,
            ``data-file-missing``, ``folder-holds-no-dicom``, ``dicom-several-series``, ``dicom-series-unknown``.
        InputError: ``dicom-slices-uneven``, ``image-not-3d``, ``image-is-vector``, ``image-is-complex``,
            ``image-sheared``, ``image-geometry-invalid``, ``image-too-large``, ``frame-not-there``.
    """
    path = Path(path)
    image = read_image(path, series_uid)
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(
            "image-is-vector",
            f"The image {path} holds {image.GetNumberOfComponentsPerPixel()} numbers per voxel.",
            "Choose an image with one number per voxel, or extract one component first.",
        )
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(
            "image-is-complex", f"The image {path} holds complex numbers.", "Save its magnitude as an image first."
        )
    if frame is not None:
        image = _frame_of(image, frame, path)
    size = image.GetSize()
    if len(size) < 3 or any(side > 1 for side in size[3:]):
        shown = " x ".join(str(side) for side in size)
        raise InputError(
            "image-not-3d",
            f"The image {path} has {len(size)} dimensions ({shown}).",
            "Choose a 3D image, or extract one time frame first." if len(size) > 3 else "Choose a 3D image.",
        )
    return from_sitk(image, _name(path))


def read_labelmap(path: str | Path, *, series_uid: str | None = None, frame: int | None = None) -> Volume:
    """Read a labelmap as an integer array; files of floating-point type are accepted where every value is whole.

    Raises:
        FileError, InputError: as :func:`read_volume`.
        InputError: ``labels-not-integer``.
    """
    volume = read_volume(path, series_uid=series_uid, frame=frame)
    if np.issubdtype(volume.array.dtype, np.integer):
        return volume
    with np.errstate(invalid="ignore"):
        labels = volume.array.astype(np.int64)
    wrong = labels != volume.array
    if wrong.any():
        raise InputError(
            "labels-not-integer",
            f"The labelmap {path} holds values that are not whole numbers, for instance {volume.array[wrong][0]:g}.",
            "Choose a labelmap; when it was resampled, do so with nearest-neighbour interpolation.",
        )
    return volume.with_array(labels.astype(np.min_scalar_type(int(labels.max()))) if labels.min() >= 0 else labels)


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a volume, compressed where the format can; on any failure nothing new stands under ``path``.

    Args:
        path: ends with one of :data:`WRITABLE`; the folder exists.

    Raises:
        FileError: ``output-format-unknown``, ``output-not-writable`` or ``disk-full``.
    """
    write_image(Path(path), to_sitk(volume))


def to_sitk(volume: Volume) -> sitk.Image:
    """The volume as a SimpleITK image (LPS), values copied; the direction is orthonormal or near to it."""
    return image_of_array(volume.array, volume.ras_from_ijk)


def image_of_array(array: NDArray, ras_from_ijk: NDArray) -> sitk.Image:
    """A SimpleITK image of ``(D, H, W)`` scalars or ``(D, H, W, C)`` vectors; vectors keep their components."""
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=array.ndim == 4)
    lps_from_ijk = LPS_FROM_RAS @ ras_from_ijk
    spacing = np.linalg.norm(lps_from_ijk[:3, :3], axis=0)
    image.SetSpacing([float(value) for value in spacing])
    image.SetDirection([float(value) for value in (lps_from_ijk[:3, :3] / spacing).ravel()])
    image.SetOrigin([float(value) for value in lps_from_ijk[:3, 3]])
    return image


def from_sitk(image: sitk.Image, name: str = "volume") -> Volume:
    """A 3D scalar SimpleITK image as a volume, values copied; further dimensions of size 1 are dropped."""
    array = sitk.GetArrayFromImage(image)
    return Volume(array=array.reshape(array.shape[-3:]), ras_from_ijk=ras_from_ijk_of(image), name=name)


def ras_from_ijk_of(image: sitk.Image) -> NDArray[np.float64]:
    """4x4 geometry of the first three dimensions of a SimpleITK image."""
    dimensions = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dimensions, dimensions)[:3, :3]
    lps_from_ijk = np.eye(4)
    lps_from_ijk[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    lps_from_ijk[:3, 3] = image.GetOrigin()[:3]
    return LPS_FROM_RAS @ lps_from_ijk


def read_image(path: Path, series_uid: str | None = None) -> sitk.Image:
    """Read any image, also vectors, as SimpleITK gives it; errors as :func:`read_volume` names them."""
    if not path.exists():
        raise FileError("file-not-found", f"There is no file {path}.", "Check the path and the spelling.")
    try:
        with quiet():
            if path.is_dir() or dicom.is_dicom(path):
                with native_input(path if path.is_dir() else path.parent) as folder:
                    return dicom.read_series(folder, path, series_uid)
            check_header(path)
            with native_input(path) as native:
                return _read_file(native, path)
    except OSError as error:
        raise FileError(
            "file-not-readable", f"The file {path} cannot be opened.", "Check that you may read it."
        ) from error
    except RuntimeError as error:
        raise _read_error(path, str(error)) from error


def write_image(path: Path, image: sitk.Image) -> None:
    """Write a SimpleITK image whole or not at all; see :func:`write_volume`."""
    if not path.name.lower().endswith(WRITABLE):
        raise FileError(
            "output-format-unknown",
            f"The name of the output image {path} has an unknown ending.",
            f"Choose one of {', '.join(WRITABLE)}.",
        )
    bytes_raw = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
    plain = path.suffix.lower() == ".nii"
    with replacing(path, bytes_raw if plain else 0) as temporary, quiet(), native_output(temporary) as native:
        try:
            sitk.WriteImage(image, str(native), useCompression=not plain)
            check_header(native, values=False)  # the NIfTI writer reports success on a full disk
        except (RuntimeError, FileError) as error:
            raise write_error(path, error) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ITK's warnings off the terminal; errors still arrive as exceptions."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _read_file(native: Path, path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(native))
    reader.ReadImageInformation()
    voxels = math.prod(reader.GetSize())
    if voxels >= 2**31:
        raise InputError(
            "image-too-large",
            f"The image {path} has {voxels} voxels.",
            "Crop or resample it to fewer than 2147483648 voxels first.",
        )
    return reader.Execute()


def _frame_of(image: sitk.Image, frame: int, path: Path) -> sitk.Image:
    """One time frame of a 4D image; an image of fewer dimensions is its own frame 0."""
    size = image.GetSize()
    frames = size[3] if len(size) == 4 else 1
    if not 0 <= frame < frames:
        raise InputError(
            "frame-not-there",
            f"The image {path} has {frames} time frames, and number {frame + 1} was asked for.",
            "Correct the number of the frame; frames count from 1.",
        )
    return image[:, :, :, frame] if len(size) == 4 else image


def _read_error(path: Path, itk_text: str) -> FileError | InputError:
    if "orthonormal" in itk_text:
        return InputError(
            "image-sheared",
            f"The voxel axes of the image {path} are not at right angles.",
            "Resample it onto a regular grid first, for instance with nibabel.processing.resample_to_output.",
        )
    if "Zero-valued spacing" in itk_text:
        return InputError(
            "image-geometry-invalid",
            f"The image {path} has a voxel spacing of zero.",
            "The spacing must be above zero: correct it, for instance in the Volumes module of 3D Slicer.",
        )
    if "couldn't open" in itk_text and path.suffix.lower() == ".nhdr":
        return data_file_missing(path)
    if "expected" in itk_text and "but received" in itk_text:
        return FileError(
            "truncated-file", f"The file {path} is cut off: its image data end too early.", "Copy or download it again."
        )
    return FileError(
        "not-an-image",
        f"The file {path} is not an image that can be read.",
        "Choose a .nii.gz, .nii, .nrrd, .nhdr, .mha or .mhd file, or a folder with one DICOM series.",
    )


def _name(path: Path) -> str:
    name = path.name or str(path)
    for ending in (".gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name or "volume"
