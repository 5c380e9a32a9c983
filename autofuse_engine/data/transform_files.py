"""Transforms between disk and :class:`SpatialTransform`: ITK transform files, displacement fields, plain matrices.

Files hold the resampling transform in LPS mm, which takes points of the fixed image to the moving image.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from autofuse_engine.data.atomic import replacing, write_error
from autofuse_engine.data.files import (
    LPS_FROM_RAS,
    WRITABLE,
    image_of_array,
    quiet,
    ras_from_ijk_of,
    read_image,
    write_image,
)
from autofuse_engine.data.headers import check_header
from autofuse_engine.data.native_paths import native_input, native_output
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import FileError, InputError

TRANSFORM_ENDINGS = (".h5", ".tfm", ".txt")
"""Endings of ITK transform files that :func:`write_transform` knows; the image endings hold displacement fields."""

_IMAGE_ENDINGS = (*WRITABLE, ".nhdr", ".mhd")
_VECTOR_SIGNS = LPS_FROM_RAS.diagonal()[:3]
_FIELD_STEPS_PER_MM = 2.0**20
_SAMPLES_PER_NODE, _MOST_SAMPLES = 8, 4_000_000
_INSIDE = 1 - 1e-7


def write_transform(path: str | Path, transform: SpatialTransform, *, reference: Volume | None = None) -> None:
    """Write a transform; on any failure nothing new stands under ``path``.

    Args:
        path: ``.h5``, ``.tfm`` or ``.txt`` keep every step (a matrix as AffineTransform, a grid as
            DisplacementFieldTransform, several steps as CompositeTransform, float64). ``.nii.gz``, ``.nii``,
            ``.nrrd`` or ``.mha`` get one displacement field, rounded to 1e-6 mm, which is the identity outside.
        transform: the steps.
        reference: gives the grid of a displacement field; without it the finest grid of the transform is used.

    Raises:
        FileError: ``output-format-unknown``, ``output-not-writable`` or ``disk-full``.
        InputError: ``transform-needs-reference`` where a displacement field has no grid to lie on.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(WRITABLE):
        write_image(path, displacement_image(transform, reference))
        return
    if not name.endswith(TRANSFORM_ENDINGS):
        raise FileError(
            "output-format-unknown",
            f"The name of the output transform {path} has an unknown ending.",
            f"Choose one of {', '.join((*TRANSFORM_ENDINGS, *WRITABLE))}.",
        )
    itk_transform = transform_to_sitk(transform)
    grid_bytes = sum(step.displacement_ras.size * 8 for step in transform.steps if isinstance(step, GridStep))
    text = not name.endswith(".h5")
    needed_bytes = grid_bytes * (3 if text else 1)
    with replacing(path, needed_bytes) as temporary, quiet(), native_output(temporary) as native:
        try:
            sitk.WriteTransform(itk_transform, str(native))
            if text:
                _require_text_complete(native, to_the_last_byte=True)  # the writer reports success on a full disk
            else:
                check_header(native, values=False)
        except (RuntimeError, FileError) as error:
            raise write_error(path, error) from error


def read_transform(path: str | Path) -> SpatialTransform:
    """Read what :func:`write_transform` writes, and what 3D Slicer, ANTs and elastix write in the same formats.

    Linear ITK transforms of every kind become matrices, displacement fields become grids, composites a chain. A
    B-spline becomes a grid of eight samples between two of its nodes (fewer where that were millions); linear
    interpolation between them errs by two hundredths of the largest coefficient at worst. A ``.txt`` or ``.csv``
    file without the mark of ITK holds a 4x4 matrix in RAS; see :func:`read_matrix`.

    Raises:
        FileError: ``file-not-found``, ``file-not-readable``, ``not-a-transform``, ``truncated-file``, and those of
            :func:`read_volume` for displacement fields.
        InputError: ``transform-not-supported``, ``field-not-a-vector``, ``matrix-invalid``.
    """
    path = Path(path)
    _require_file(path)
    name = path.name.lower()
    if name.endswith(_IMAGE_ENDINGS):
        return SpatialTransform(steps=(_grid_of_image(read_image(path), path),))
    if name.endswith((".txt", ".csv")) and not _is_itk_text(path):
        return SpatialTransform(steps=(MatrixStep(matrix_ras=_matrix_of_text(path)),))
    return transform_from_sitk(_read_itk_transform(path), path)


def read_matrix(path: str | Path) -> NDArray[np.float64]:
    """Read a 4x4 matrix, RAS mm, that takes points of the fixed image to the moving image.

    ``.txt`` and ``.csv`` files with four rows of four numbers are taken as they stand (RAS); linear ITK transforms
    (.tfm, .txt, .mat, .h5) are converted from LPS.

    Raises:
        FileError, InputError: as :func:`read_transform`; ``matrix-invalid`` where the transform is not linear.
    """
    matrix = read_transform(path).matrix_ras
    if matrix is None:
        raise InputError(
            "matrix-invalid",
            f"The transform {path} is not linear, so it is not a matrix.",
            "Choose a rigid or affine transform.",
        )
    return matrix


def transform_to_sitk(transform: SpatialTransform) -> sitk.Transform:
    """The whole chain as one ITK transform in LPS, float64; the identity is an AffineTransform."""
    parts = [_step_to_sitk(step) for step in transform.steps]
    if not parts:
        return sitk.AffineTransform(3)
    if len(parts) == 1:
        return parts[0]
    composite = sitk.CompositeTransform(3)
    for part in reversed(parts):  # ITK applies the transform that was added last first
        composite.AddTransform(part)
    return composite


def transform_from_sitk(transform: sitk.Transform, path: Path) -> SpatialTransform:
    """Decompose an ITK transform into steps; ``path`` is what errors name."""
    kind = transform.GetName()
    if transform.GetDimension() != 3:
        raise InputError(
            "transform-not-supported",
            f"The transform {path} is for {transform.GetDimension()} dimensions.",
            "Choose a transform between 3D images.",
        )
    if transform.IsLinear():
        origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
        matrix_lps = np.eye(4)
        matrix_lps[:3, 3] = origin
        for axis, unit in enumerate(np.eye(3).tolist()):
            matrix_lps[:3, axis] = np.array(transform.TransformPoint(unit)) - origin
        return SpatialTransform(steps=(MatrixStep(matrix_ras=LPS_FROM_RAS @ matrix_lps @ LPS_FROM_RAS),))
    if kind == "CompositeTransform":
        composite = sitk.CompositeTransform(transform)
        parts = [composite.GetNthTransform(n) for n in range(composite.GetNumberOfTransforms())]
        chains = [transform_from_sitk(part, path).steps for part in reversed(parts)]
        return SpatialTransform(steps=tuple(itertools.chain.from_iterable(chains)))
    if kind == "DisplacementFieldTransform":
        field = sitk.DisplacementFieldTransform(transform).GetDisplacementField()
        return SpatialTransform(steps=(_grid_of_image(field, path),))
    if kind == "BSplineTransform":
        return SpatialTransform(steps=(_grid_of_spline(sitk.BSplineTransform(transform), path),))
    raise InputError(
        "transform-not-supported",
        f"The transform {path} is of the kind {kind}.",
        "Convert it to a displacement field, for instance with Transforms > Convert in 3D Slicer.",
    )


def displacement_image(transform: SpatialTransform, reference: Volume | None = None) -> sitk.Image:
    """One displacement field, LPS mm, float64, on the reference's grid or the transform's finest one.

    Values are rounded by at most 5e-7 mm, which halves the size of compressed files: their last digits are noise.

    Raises:
        InputError: ``transform-needs-reference``.
    """
    if reference is not None:
        shape, ras_from_ijk = reference.shape, reference.ras_from_ijk
    else:
        grids = [step for step in transform.steps if isinstance(step, GridStep)]
        if not grids:
            raise InputError(
                "transform-needs-reference",
                "The transform has no grid of its own on which a displacement field could lie.",
                "Name a reference image, or write a .h5 or .tfm file.",
            )
        finest = min(grids, key=lambda grid: abs(np.linalg.det(grid.ras_from_ijk)))
        shape, ras_from_ijk = finest.shape, finest.ras_from_ijk
    lps_from_ijk = LPS_FROM_RAS @ ras_from_ijk
    spacing = np.linalg.norm(lps_from_ijk[:3, :3], axis=0)
    field = sitk.TransformToDisplacementField(
        transform_to_sitk(transform),
        sitk.sitkVectorFloat64,
        shape[::-1],
        lps_from_ijk[:3, 3].tolist(),
        spacing.tolist(),
        (lps_from_ijk[:3, :3] / spacing).ravel().tolist(),
    )
    displacement_lps = np.round(sitk.GetArrayFromImage(field) * _FIELD_STEPS_PER_MM) / _FIELD_STEPS_PER_MM
    return image_of_array(displacement_lps, ras_from_ijk)


def _step_to_sitk(step: MatrixStep | GridStep) -> sitk.Transform:
    if isinstance(step, GridStep):
        displacement_lps = step.displacement_ras.astype(np.float64) * _VECTOR_SIGNS
        return sitk.DisplacementFieldTransform(image_of_array(displacement_lps, step.ras_from_ijk))
    matrix_lps = LPS_FROM_RAS @ step.matrix_ras @ LPS_FROM_RAS
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(matrix_lps[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix_lps[:3, 3].tolist())
    return affine


def _grid_of_spline(spline: sitk.BSplineTransform, path: Path) -> GridStep:
    """The spline over its domain, from border to border; ITK takes it for the identity outside, as it does a grid."""
    extent_mm = np.array(spline.GetTransformDomainPhysicalDimensions()) * _INSIDE  # the border itself is outside
    mesh = np.array(spline.GetTransformDomainMeshSize())
    per_node = min(float(_SAMPLES_PER_NODE), (_MOST_SAMPLES / float(mesh.prod())) ** (1 / 3))
    counts = np.maximum(2, np.floor(mesh * per_node).astype(int) + 1)
    field = sitk.TransformToDisplacementField(
        spline,
        sitk.sitkVectorFloat64,
        counts.tolist(),
        spline.GetTransformDomainOrigin(),
        (extent_mm / (counts - 1)).tolist(),
        spline.GetTransformDomainDirection(),
    )
    return _grid_of_image(field, path)


def _grid_of_image(image: sitk.Image, path: Path) -> GridStep:
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
        raise InputError(
            "field-not-a-vector",
            f"The image {path} holds {image.GetNumberOfComponentsPerPixel()} numbers per voxel "
            f"in {image.GetDimension()} dimensions.",
            "A displacement field is a 3D image with three numbers per voxel.",
        )
    displacement_lps = sitk.GetArrayFromImage(image)
    if not np.isfinite(displacement_lps).all() or not displacement_lps.size:
        raise InputError(
            "field-not-a-vector",
            f"The displacement field {path} is empty or holds values that are not finite.",
            "Compute it again.",
        )
    return GridStep(displacement_ras=displacement_lps * _VECTOR_SIGNS, ras_from_ijk=ras_from_ijk_of(image))


def _read_itk_transform(path: Path) -> sitk.Transform:
    try:
        check_header(path)
        if _is_itk_text(path):
            _require_text_complete(path)
        with quiet(), native_input(path) as native:
            return sitk.ReadTransform(str(native))
    except OSError as error:
        raise FileError(
            "file-not-readable", f"The file {path} cannot be opened.", "Check that you may read it."
        ) from error
    except RuntimeError as error:
        raise FileError(
            "not-a-transform",
            f"The file {path} is not a transform that can be read.",
            "Choose a .h5, .tfm, .txt or .mat transform or a displacement field; an inverted transform of 3D Slicer "
            "must be converted there first (Transforms > Convert).",
        ) from error


def _is_itk_text(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(32).lstrip().startswith(b"#Insight Transform")


def _require_text_complete(path: Path, *, to_the_last_byte: bool = False) -> None:
    """Each transform of an ITK text file has parameters and fixed parameters, and only a composite holds several."""
    text = path.read_text(encoding="latin-1")
    lines = text.splitlines()
    kinds = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Transform:")]
    composites = [kind for kind in kinds if kind.startswith("CompositeTransform")]
    ends = sum(line.startswith("FixedParameters:") for line in lines)
    if ends < len(kinds) - len(composites) or not kinds or (to_the_last_byte and not text.endswith("\n")):
        raise FileError("truncated-file", f"The transform file {path} is cut off.", "Copy it again, or write it again.")
    if len(kinds) > 1 and not kinds[0].startswith("CompositeTransform"):
        raise InputError(
            "transform-not-supported",
            f"The file {path} holds {len(kinds)} transforms without saying how they combine.",
            "Save them as one composite transform, or one file each.",
        )


def _matrix_of_text(path: Path) -> NDArray[np.float64]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        rows = [line.replace(",", " ").replace(";", " ").split() for line in lines if not line.startswith("#")]
        matrix = np.array([[float(item) for item in row] for row in rows if row])
    except (ValueError, UnicodeDecodeError) as error:
        raise _invalid_matrix(path, "is not four rows of four numbers") from error
    if matrix.shape != (4, 4):
        raise _invalid_matrix(path, f"has {len(rows)} rows and is not four rows of four numbers")
    if not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-9):
        raise _invalid_matrix(path, f"has the last row {matrix[3].tolist()} instead of 0 0 0 1")
    if abs(np.linalg.det(matrix[:3, :3])) < 1e-6:
        raise _invalid_matrix(path, "cannot be inverted: it flattens space")
    return matrix


def _invalid_matrix(path: Path, fault: str) -> InputError:
    return InputError(
        "matrix-invalid",
        f"The matrix {path} {fault}.",
        "Write the 4x4 matrix that takes fixed points to moving points (RAS, mm), or choose an ITK transform file.",
    )


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise FileError("file-not-found", f"There is no file {path}.", "Check the path and the spelling.")
