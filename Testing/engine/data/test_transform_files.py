"""Transforms on disk: what SimpleITK makes of the files that are written, and what is made of files of others."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from geometry_cases import (
    AFFINE,
    FLIPPED,
    OBLIQUE,
    RAS_SIGNS,
    SHAPE,
    itk_affine,
    itk_field,
    itk_image,
    itk_points,
    placed,
    points_in,
    random_grid,
    random_volume,
    smooth_grid,
)

from autofuse_engine.data import transform_files
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.transform_files import read_matrix, read_transform, write_transform
from autofuse_engine.errors import FileError, InputError

CENTRED_LINEAR = """#Insight Transform File V1.0
#Transform 0
Transform: {kind}
Parameters: 0.9 0.1 0.2 -0.1 1.1 0.05 0.3 -0.2 1.0 4 -5 6
FixedParameters: 10 20 -30
"""


def refusal(path: Path, code: str, kind: type[FileError] | type[InputError]) -> str:
    with pytest.raises(kind) as caught:
        read_transform(path)
    assert caught.value.code == code
    assert str(path) in caught.value.text
    assert caught.value.hint.endswith(".")
    return caught.value.text


@pytest.mark.parametrize("ending", [".h5", ".tfm", ".txt"])
@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ((AFFINE,), "AffineTransform"),
        ((random_grid(),), "DisplacementFieldTransform"),
        ((AFFINE, random_grid(FLIPPED)), "CompositeTransform"),
        ((random_grid(dtype="float32"), AFFINE, AFFINE), "CompositeTransform"),
    ],
)
def test_simpleitk_moves_points_as_the_transform_that_was_written(
    tmp_path: Path, ending: str, steps: tuple[MatrixStep | GridStep, ...], kind: str
) -> None:
    transform = SpatialTransform(steps=steps)
    path = tmp_path / f"übergang 1{ending}"
    write_transform(path, transform)
    points = np.concatenate([points_in(OBLIQUE, SHAPE, beyond=2), points_in(FLIPPED, SHAPE, beyond=2)])
    judge = sitk.ReadTransform(str(path))
    assert judge.GetName() == kind
    assert np.abs(itk_points(judge, points) - transform.transform_points(points)).max() <= 1e-6
    again = read_transform(path)
    assert np.abs(again.transform_points(points) - transform.transform_points(points)).max() <= 1e-6
    assert [type(step) for step in again.steps] == [type(step) for step in steps]


def test_the_order_of_a_composite_is_that_of_the_steps(tmp_path: Path) -> None:
    grid = smooth_grid()
    for steps, judge in (
        ((AFFINE, grid), lambda points: itk_points(itk_field(grid), itk_points(itk_affine(AFFINE), points))),
        ((grid, AFFINE), lambda points: itk_points(itk_affine(AFFINE), itk_points(itk_field(grid), points))),
    ):
        write_transform(tmp_path / "chain.h5", SpatialTransform(steps=steps))
        points = points_in(OBLIQUE, SHAPE, beyond=1)
        written = itk_points(sitk.ReadTransform(str(tmp_path / "chain.h5")), points)
        assert np.abs(written - judge(points)).max() <= 1e-6


def test_the_identity_is_an_affine_transform(tmp_path: Path) -> None:
    write_transform(tmp_path / "identity.tfm", SpatialTransform(steps=()))
    assert read_matrix(tmp_path / "identity.tfm") == pytest.approx(np.eye(4))


@pytest.mark.parametrize(
    ("ending", "tolerance_mm"), [(".nrrd", 1e-6), (".mha", 1e-6), (".nii.gz", 1e-5), (".nii", 1e-5)]
)
@pytest.mark.parametrize("matrix", [OBLIQUE, FLIPPED])
def test_simpleitk_moves_points_as_the_field_that_was_written(
    tmp_path: Path, ending: str, tolerance_mm: float, matrix: np.ndarray
) -> None:
    transform = SpatialTransform(steps=(smooth_grid(matrix, size_mm=3), AFFINE))  # NIfTI keeps 32-bit places
    path = tmp_path / f"field{ending}"
    write_transform(path, transform)
    image = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
    points = points_in(matrix, SHAPE)
    wanted = transform.transform_points(points)
    assert np.abs(itk_points(sitk.DisplacementFieldTransform(image), points) - wanted).max() <= tolerance_mm
    assert np.abs(read_transform(path).transform_points(points) - wanted).max() <= tolerance_mm


def test_a_field_lies_on_the_finest_grid_or_on_the_reference(tmp_path: Path) -> None:
    fine, coarse = random_grid(OBLIQUE), random_grid(placed(np.diag([4.0, 5, 6]), (0, 0, 0)), (4, 5, 6))
    transform = SpatialTransform(steps=(coarse, fine))
    write_transform(tmp_path / "finest.nrrd", transform)
    assert sitk.ReadImage(str(tmp_path / "finest.nrrd")).GetSize() == SHAPE[::-1]
    reference = random_volume(FLIPPED, (5, 6, 7))
    write_transform(tmp_path / "reference.nrrd", transform, reference=reference)
    field = sitk.ReadImage(str(tmp_path / "reference.nrrd"))
    assert field.GetSize() == (7, 6, 5)
    place = np.array(field.TransformIndexToPhysicalPoint((6, 5, 4))) * RAS_SIGNS
    moved = transform.transform_points(place[None])[0]
    assert np.array(field.GetPixel(6, 5, 4)) * RAS_SIGNS == pytest.approx(moved - place, abs=1e-6)


def test_a_matrix_needs_a_reference_to_become_a_field(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_transform(tmp_path / "field.nrrd", SpatialTransform(steps=(AFFINE,)))
    assert caught.value.code == "transform-needs-reference"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["MatrixOffsetTransformBase_double_3_3", "AffineTransform_float_3_3"])
def test_linear_transforms_of_other_programs_become_matrices(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "linear.tfm"
    path.write_text(CENTRED_LINEAR.format(kind=kind), encoding="utf-8")
    linear_lps = np.array([[0.9, 0.1, 0.2], [-0.1, 1.1, 0.05], [0.3, -0.2, 1.0]])
    centre, translation, point_lps = np.array([10, 20, -30]), np.array([4, -5, 6]), np.array([7.0, 8.0, 9.0])
    moved_lps = linear_lps @ (point_lps - centre) + centre + translation
    moved = read_transform(path).transform_points((point_lps * RAS_SIGNS)[None])[0]
    assert moved == pytest.approx(moved_lps * RAS_SIGNS, abs=1e-5)


@pytest.mark.parametrize("ending", [".tfm", ".h5", ".mat"])
@pytest.mark.parametrize(
    "itk_transform",
    [
        sitk.Euler3DTransform((5, 6, 7), 0.1, -0.2, 0.3, (4, 5, 6)),
        sitk.VersorRigid3DTransform((0, 1, 0), 0.4, (1, 2, 3)),
        sitk.Similarity3DTransform(1.2, (1, 0, 0), 0.2, (3, 2, 1)),
        sitk.ScaleTransform(3, (1.5, 0.5, 2)),
        sitk.TranslationTransform(3, (9, 8, 7)),
        sitk.Transform(3, sitk.sitkIdentity),
    ],
    ids=lambda transform: transform.GetName(),
)
def test_every_linear_kind_of_itk_is_read(tmp_path: Path, ending: str, itk_transform: sitk.Transform) -> None:
    sitk.WriteTransform(itk_transform, str(tmp_path / f"linear{ending}"))
    points = points_in(OBLIQUE, SHAPE, 50)
    matrix = read_matrix(tmp_path / f"linear{ending}")
    assert points @ matrix[:3, :3].T + matrix[:3, 3] == pytest.approx(itk_points(itk_transform, points), abs=1e-9)


def test_nested_composites_are_taken_apart_in_order() -> None:
    grid = smooth_grid()
    inner = sitk.CompositeTransform([itk_field(grid), itk_affine(AFFINE)])
    outer = sitk.CompositeTransform([inner, sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3)])
    points = points_in(OBLIQUE, SHAPE, 100)
    chain = transform_files.transform_from_sitk(outer, Path("nested"))
    assert [type(step) for step in chain.steps] == [MatrixStep, MatrixStep, GridStep]
    assert chain.transform_points(points) == pytest.approx(itk_points(outer, points), abs=1e-9)


def test_displacement_intent_of_nifti_is_right_anterior_superior_and_vector_intent_is_not(tmp_path: Path) -> None:
    grid = smooth_grid()
    write_transform(tmp_path / "vector.nii", SpatialTransform(steps=(grid,)))
    content = bytearray((tmp_path / "vector.nii").read_bytes())
    assert struct.unpack_from("<h", content, 68) == (1007,)
    assert struct.unpack_from("<6h", content, 40) == (5, *SHAPE[::-1], 1, 3)
    components_lps = np.frombuffer(bytes(content[352:]), "<f8").reshape(3, *SHAPE)
    assert components_lps[0] == pytest.approx(-grid.displacement_ras[..., 0], abs=1e-6)
    assert components_lps[2] == pytest.approx(grid.displacement_ras[..., 2], abs=1e-6)
    struct.pack_into("<h", content, 68, 1006)
    components_ras = components_lps * RAS_SIGNS[:, None, None, None]
    (tmp_path / "displacement.nii").write_bytes(bytes(content[:352]) + components_ras.astype("<f8").tobytes())
    points = points_in(OBLIQUE, SHAPE)
    for name in ("vector.nii", "displacement.nii"):
        moved = read_transform(tmp_path / name).transform_points(points)
        assert moved == pytest.approx(grid.transform_points(points), abs=1e-5)


def test_fields_in_single_precision_are_read(tmp_path: Path) -> None:
    grid = random_grid(dtype="float32")
    field = itk_image(grid.displacement_ras * RAS_SIGNS.astype(np.float32), OBLIQUE)
    sitk.WriteImage(field, str(tmp_path / "field.nrrd"))
    points = points_in(OBLIQUE, SHAPE, beyond=1)
    assert read_transform(tmp_path / "field.nrrd").transform_points(points) == pytest.approx(
        grid.transform_points(points), abs=1e-6
    )


@pytest.mark.parametrize("form", ["{0} {1} {2} {3}", "{0}, {1}, {2}, {3}", "{0};{1};{2};{3}", "  {0}\t{1}\t{2}\t{3} "])
def test_a_plain_matrix_is_taken_as_it_stands(tmp_path: Path, form: str) -> None:
    path = tmp_path / "matrix.txt"
    rows = [form.format(*map(repr, row)) for row in AFFINE.matrix_ras.tolist()]
    path.write_text("# fixed to moving, RAS\n" + "\n".join(rows) + "\n\n", encoding="utf-8")
    assert np.array_equal(read_matrix(path), AFFINE.matrix_ras)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 0 0\n0 1 0\n0 0 1\n", "four rows of four numbers"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n", "four rows of four numbers"),
        ("one 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "four rows of four numbers"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n5 6 7 1\n", "5.0, 6.0, 7.0, 1.0"),
        ("1 0 0 0\n0 1 0 0\n0 0 nan 0\n0 0 0 1\n", "0 0 0 1"),
        ("1 0 0 0\n2 0 0 0\n0 0 1 0\n0 0 0 1\n", "flattens space"),
        ("", "four rows of four numbers"),
    ],
)
def test_other_tables_are_no_matrix(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "matrix.txt"
    path.write_text(text, encoding="utf-8")
    assert fault in refusal(path, "matrix-invalid", InputError)


def test_a_grid_is_no_matrix(tmp_path: Path) -> None:
    write_transform(tmp_path / "grid.h5", SpatialTransform(steps=(random_grid(),)))
    with pytest.raises(InputError) as caught:
        read_matrix(tmp_path / "grid.h5")
    assert caught.value.code == "matrix-invalid"
    assert "grid.h5 is not linear" in caught.value.text


@pytest.mark.parametrize("name", ["none.h5", "none.tfm", "none.nii.gz"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    refusal(tmp_path / name, "file-not-found", FileError)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("words.h5", "not-a-transform"),
        ("words.tfm", "not-a-transform"),
        ("words.mat", "not-a-transform"),
        ("words.nrrd", "not-an-image"),
    ],
)
def test_files_that_hold_no_transform_are_named(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / name).write_bytes(b"these are words, and more words " * 10)
    refusal(tmp_path / name, code, FileError)


@pytest.mark.parametrize("ending", [".h5", ".tfm", ".nii.gz"])
def test_cut_off_files_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"cut{ending}"
    write_transform(path, SpatialTransform(steps=(random_grid(),)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refusal(path, "truncated-file", FileError)


def test_kinds_that_are_neither_linear_nor_a_field_are_refused_with_a_cure(tmp_path: Path) -> None:
    class Velocity(sitk.Transform):
        def GetName(self) -> str:  # noqa: N802
            return "VelocityFieldTransform"

        def IsLinear(self) -> bool:  # noqa: N802
            return False

    with pytest.raises(InputError, match="of the kind VelocityFieldTransform") as caught:
        transform_files.transform_from_sitk(Velocity(3, sitk.sitkIdentity), tmp_path / "velocity.h5")
    assert caught.value.code == "transform-not-supported"
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "flat.tfm"))
    assert "2 dimensions" in refusal(tmp_path / "flat.tfm", "transform-not-supported", InputError)


@pytest.mark.parametrize("ending", [".h5", ".tfm"])
def test_a_spline_becomes_a_grid_that_follows_it(tmp_path: Path, ending: str) -> None:
    """Rotated, anisotropic, in a composite, as registration programs write them."""
    place = itk_image(np.zeros((24, 36, 30)), OBLIQUE)
    spline = sitk.BSplineTransformInitializer(place, [5, 7, 4])
    coefficients = np.random.default_rng(4).uniform(-3, 3, len(spline.GetParameters()))
    spline.SetParameters(coefficients.tolist())
    shift = sitk.TranslationTransform(3, (4.0, -3.0, 2.0))
    whole = sitk.CompositeTransform([shift, spline])
    path = tmp_path / f"Größe{ending}"
    sitk.WriteTransform(whole, str(path))
    found = read_transform(path)
    assert [type(step) for step in found.steps] == [GridStep, MatrixStep]
    inner = np.random.default_rng(5).uniform(0.02, 0.98, (500, 3)) * (np.array(place.GetSize()) - 1)
    points_lps = np.array([place.TransformContinuousIndexToPhysicalPoint(one) for one in inner.tolist()])
    expected = np.array([whole.TransformPoint(one) for one in points_lps.tolist()])
    signs = np.array([-1.0, -1.0, 1.0])
    error = np.linalg.norm(found.transform_points(points_lps * signs) * signs - expected, axis=1)
    assert error.max() < 0.05  # of up to 5 mm
    far = np.array([[500.0, 500.0, 500.0]])
    np.testing.assert_allclose(found.transform_points(far), far + np.array([-4.0, 3.0, 2.0]))
    corner = place.TransformContinuousIndexToPhysicalPoint([0.0, 0.0, 0.0])
    np.testing.assert_allclose(
        found.transform_points(np.array([corner]) * signs)[0] * signs, whole.TransformPoint(corner), atol=0.05
    )


def test_several_transforms_in_a_file_without_a_composite_are_refused(tmp_path: Path) -> None:
    one = CENTRED_LINEAR.format(kind="AffineTransform_double_3_3")
    (tmp_path / "two.tfm").write_text(one + one.split("\n", 1)[1], encoding="utf-8")
    assert "2 transforms" in refusal(tmp_path / "two.tfm", "transform-not-supported", InputError)


def test_a_scalar_image_is_no_displacement_field(tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(random_volume().array, OBLIQUE), str(tmp_path / "scalar.nii.gz"))
    assert "1 numbers per voxel" in refusal(tmp_path / "scalar.nii.gz", "field-not-a-vector", InputError)


def test_a_field_with_holes_is_refused(tmp_path: Path) -> None:
    field = random_grid().displacement_ras.copy()
    field[1, 2, 3, 0] = np.nan
    sitk.WriteImage(itk_image(field, OBLIQUE), str(tmp_path / "holes.nrrd"))
    assert "not finite" in refusal(tmp_path / "holes.nrrd", "field-not-a-vector", InputError)


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        write_transform(tmp_path / "transform.xfm", SpatialTransform(steps=(AFFINE,)))
    assert caught.value.code == "output-format-unknown"
    assert ".h5" in caught.value.hint


@pytest.mark.parametrize("ending", [".h5", ".tfm", ".nrrd"])
def test_a_write_that_breaks_off_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = tmp_path / f"transform{ending}"
    path.write_bytes(b"what was there")

    def breaks_off(content: object, name: str, **options: object) -> None:
        Path(name).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(transform_files.sitk, "WriteTransform", breaks_off)
    monkeypatch.setattr(transform_files.sitk, "WriteImage", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        write_transform(path, SpatialTransform(steps=(random_grid(),)))
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_writer_that_lies_about_its_success_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = sitk.WriteTransform

    def loses_the_end(transform: sitk.Transform, name: str) -> None:
        write(transform, name)
        Path(name).write_bytes(Path(name).read_bytes()[:-3])

    monkeypatch.setattr(transform_files.sitk, "WriteTransform", loses_the_end)
    with pytest.raises(FileError) as caught:
        write_transform(tmp_path / "transform.tfm", SpatialTransform(steps=(AFFINE,)))
    assert caught.value.code == "output-not-writable"
    assert not list(tmp_path.iterdir())
