"""Applying a transform: images and labels are carried, and landmarks stay on their anatomy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from autofuse_engine.application import apply_to_image, apply_to_labels, apply_to_points, apply_transform
from autofuse_engine.data.files import read_labelmap, read_volume, write_volume
from autofuse_engine.data.points import PointList, read_points, write_points
from autofuse_engine.data.transform import GridStep, MatrixStep, SpatialTransform
from autofuse_engine.data.transform_files import write_transform
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.errors import InputError
from autofuse_engine.events import Event, Progress, Warning

SHAPE = (18, 22, 20)
COSINE, SINE = np.cos(0.4), np.sin(0.4)
FIXED_PLACE = np.array(
    [[-1.5 * COSINE, 0, 2 * SINE, 20], [0, 2, 0, -15], [1.5 * SINE, 0, 2 * COSINE, 4], [0, 0, 0, 1.0]]
)
MATRIX = np.array([[1.05, 0.1, 0, 6], [-0.08, 0.95, 0.05, -9], [0, 0.02, 1.1, 14], [0, 0, 0, 1.0]])
MIDDLE = (np.array(SHAPE[::-1]) - 1) / 2
MOVING_PLACE = np.diag([1.7, -1.9, 2.0, 1])
MOVING_PLACE[:3, 3] = map_points(MATRIX @ FIXED_PLACE, MIDDLE) - map_points(MOVING_PLACE, MIDDLE)


def smooth_field() -> GridStep:
    k, j, i = (axis / side for axis, side in zip(np.indices(SHAPE), SHAPE, strict=True))
    window = np.sin(np.pi * k) * np.sin(np.pi * j) * np.sin(np.pi * i)
    waves = [2.5 * window * wave for wave in (np.sin(6 * j), np.cos(5 * k), np.sin(4 * i + 1))]
    return GridStep(displacement_ras=np.stack(waves, axis=-1), ras_from_ijk=FIXED_PLACE)


FORWARD = SpatialTransform(steps=(smooth_field(), MatrixStep(matrix_ras=MATRIX)))
"""Takes points of the fixed image to the moving image."""


def landmarks_fixed() -> np.ndarray:
    """Places in the middle of the fixed image, RAS."""
    ijk = np.random.default_rng(5).uniform(5, 12, size=(6, 3))
    return map_points(FIXED_PLACE, ijk)


def dots_at(points_ras: np.ndarray, place: np.ndarray) -> Volume:
    """An image with a bright Gaussian dot at each point: an anatomy whose landmarks are known."""
    k, j, i = np.indices(SHAPE)
    centres = map_points(place, np.stack([i, j, k], axis=-1))
    squares = ((centres[..., None, :] - points_ras) ** 2).sum(axis=-1)
    return Volume(array=np.exp(-squares / 18).sum(axis=-1).astype(np.float32), ras_from_ijk=place, name="dots")


def centre_of_dot(volume: Volume, near_ras: np.ndarray) -> np.ndarray:
    """Centre of mass of the intensities within 5 mm."""
    k, j, i = np.indices(volume.shape)
    centres = map_points(volume.ras_from_ijk, np.stack([i, j, k], axis=-1)).reshape(-1, 3)
    weights = volume.array.reshape(-1) * (np.linalg.norm(centres - near_ras, axis=1) < 5)
    return (centres * weights[:, None]).sum(axis=0) / weights.sum()


@pytest.mark.parametrize("number", range(3))
def test_a_landmark_is_carried_to_where_its_anatomy_appears(number: int) -> None:
    fixed_point = landmarks_fixed()[number]
    moving_point = FORWARD.transform_points(fixed_point[None])
    moving = dots_at(moving_point, MOVING_PLACE)
    reference = Volume(array=np.zeros(SHAPE), ras_from_ijk=FIXED_PLACE)
    warped = apply_to_image(FORWARD, moving, reference)
    carried = apply_to_points(FORWARD, PointList(points_ras=moving_point)).points_ras[0]
    assert carried == pytest.approx(fixed_point, abs=1e-4)
    assert np.linalg.norm(centre_of_dot(warped, carried) - carried) < 0.5
    assert np.linalg.norm(moving_point[0] - carried) > 5


def test_the_inverse_transform_carries_the_other_way() -> None:
    back = np.linalg.inv(MATRIX)
    inverse = SpatialTransform(steps=(MatrixStep(matrix_ras=back),))
    points = PointList(points_ras=landmarks_fixed(), labels=tuple("abcdef"))
    carried = apply_to_points(inverse, points)
    assert carried.points_ras == pytest.approx(map_points(MATRIX, points.points_ras), abs=1e-4)
    assert carried.labels == points.labels


def test_points_in_a_fold_are_reported() -> None:
    fold = np.zeros((*SHAPE, 3))
    fold[..., 0] = -2.0 * np.indices(SHAPE)[2]
    grid = SpatialTransform(steps=(GridStep(displacement_ras=fold, ras_from_ijk=np.eye(4)),))
    told: list[Event] = []
    apply_to_points(grid, PointList(points_ras=np.array([[3.0, 5, 6], [50, 50, 50]]), name="marks"), report=told.append)
    assert len(told) == 1
    assert isinstance(told[0], Warning)
    assert told[0].code == "points-not-inverted"
    assert "1 of 2 points of marks" in told[0].text


def test_labels_keep_type_and_values() -> None:
    array = np.random.default_rng(0).integers(0, 4, size=SHAPE).astype(np.uint16) * 300
    labels = Volume(array=array, ras_from_ijk=MOVING_PLACE, name="labels")
    reference = Volume(array=np.zeros(SHAPE), ras_from_ijk=FIXED_PLACE)
    both = [apply_to_labels(FORWARD, labels, reference, nearest=nearest) for nearest in (False, True)]
    for warped in both:
        assert warped.array.dtype == np.uint16
        assert set(np.unique(warped.array)) == {0, 300, 600, 900}
        assert warped.same_grid(reference)
    assert not np.array_equal(both[0].array, both[1].array)


def test_a_labelmap_of_floating_point_numbers_is_refused() -> None:
    volume = Volume(array=np.zeros(SHAPE, np.float32), ras_from_ijk=FIXED_PLACE, name="soft")
    with pytest.raises(InputError) as caught:
        apply_to_labels(FORWARD, volume, volume)
    assert caught.value.code == "labels-not-integer"
    assert "soft" in caught.value.text


def test_a_sheared_reference_is_refused() -> None:
    sheared = Volume(
        array=np.zeros(SHAPE), ras_from_ijk=FIXED_PLACE @ (np.eye(4) + 0.3 * np.eye(4, k=1)), name="sheared"
    )
    volume = Volume(array=np.zeros(SHAPE), ras_from_ijk=FIXED_PLACE)
    with pytest.raises(InputError) as caught:
        apply_to_image(FORWARD, volume, sheared)
    assert caught.value.code == "image-sheared"
    assert "reference image sheared" in caught.value.text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Transform, moving image, labels, reference and points as files."""
    write_transform(tmp_path / "transform.h5", FORWARD)
    moving = dots_at(FORWARD.transform_points(landmarks_fixed()), MOVING_PLACE)
    write_volume(tmp_path / "moving.nrrd", moving)
    write_volume(tmp_path / "labels.nrrd", moving.with_array((moving.array > 0.3).astype(np.int16) * 7))
    write_volume(tmp_path / "fixed.nrrd", dots_at(landmarks_fixed(), FIXED_PLACE))
    points = PointList(points_ras=FORWARD.transform_points(landmarks_fixed()), labels=tuple("abcdef"))
    write_points(tmp_path / "marks.mrk.json", points)
    return tmp_path


def test_files_of_images_agree_with_simpleitk_to_a_hundred_thousandth(folder: Path) -> None:
    told: list[Event] = []
    figures = apply_transform(
        folder / "transform.h5", folder / "moving.nrrd", folder / "fixed.nrrd", folder / "out.nrrd", report=told.append
    )
    moving, fixed = (sitk.ReadImage(str(folder / name)) for name in ("moving.nrrd", "fixed.nrrd"))
    judge = sitk.Resample(moving, fixed, sitk.ReadTransform(str(folder / "transform.h5")), sitk.sitkLinear, 0.0)
    assert np.abs(read_volume(folder / "out.nrrd").array - sitk.GetArrayFromImage(judge)).max() < 1e-5
    assert figures == {"kind": "image", "shape": list(SHAPE)}
    assert [type(event) for event in told] == [Progress, Progress]


def test_files_of_labels_are_carried_as_labels(folder: Path) -> None:
    figures = apply_transform(
        folder / "transform.h5", folder / "labels.nrrd", folder / "fixed.nrrd", folder / "out.nii.gz", labels=True
    )
    warped = read_labelmap(folder / "out.nii.gz")
    assert warped.array.dtype == np.int16
    assert set(np.unique(warped.array)) == {0, 7}
    assert figures["kind"] == "labels"
    for point in landmarks_fixed():
        i, j, k = np.round(map_points(np.linalg.inv(FIXED_PLACE), point)).astype(int)
        assert warped.array[k, j, i] == 7


def test_files_of_points_are_carried_and_keep_their_fields(folder: Path) -> None:
    figures = apply_transform(folder / "transform.h5", folder / "marks.mrk.json", None, folder / "out.mrk.json")
    carried = read_points(folder / "out.mrk.json")
    assert carried.points_ras == pytest.approx(landmarks_fixed(), abs=1e-4)
    assert carried.labels == tuple("abcdef")
    assert figures == {"kind": "points", "points": 6}
    assert json.loads((folder / "out.mrk.json").read_text(encoding="utf-8"))["markups"][0]["type"] == "Fiducial"


def test_an_image_needs_a_reference(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        apply_transform(folder / "transform.h5", folder / "moving.nrrd", None, folder / "out.nrrd")
    assert caught.value.code == "reference-needed"
    assert "moving.nrrd" in caught.value.text
    assert not (folder / "out.nrrd").exists()


def test_the_background_is_chosen_or_taken_from_the_border(folder: Path) -> None:
    moving = read_volume(folder / "moving.nrrd")
    write_volume(folder / "ct.nrrd", moving.with_array((moving.array * 1000 - 1000).astype(np.int16)))
    away = SpatialTransform(steps=(MatrixStep(matrix_ras=np.eye(4) + 500 * np.eye(4, k=3)),))
    write_transform(folder / "away.tfm", away)
    arguments = (folder / "away.tfm", folder / "ct.nrrd", folder / "fixed.nrrd", folder / "out.nrrd")
    apply_transform(*arguments)
    assert (read_volume(folder / "out.nrrd").array == -1000).all()
    apply_transform(*arguments, background=5.0)
    assert (read_volume(folder / "out.nrrd").array == 5).all()


@pytest.mark.parametrize("options", [{"nearest": True}, {"labels": True, "background": 3.0}])
def test_options_that_do_not_go_together_are_refused(folder: Path, options: dict) -> None:
    with pytest.raises(ValueError, match="received"):
        apply_transform(
            folder / "transform.h5", folder / "labels.nrrd", folder / "fixed.nrrd", folder / "out.nrrd", **options
        )


def test_torch_is_not_needed_for_points(folder: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from autofuse_engine.application import apply_transform;"
        "apply_transform(*sys.argv[1:3], None, sys.argv[3]); sys.exit('torch' in sys.modules)"
    )
    arguments = [str(folder / name) for name in ("transform.h5", "marks.mrk.json", "out.csv")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, encoding="utf-8", timeout=120, check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_points(folder / "out.csv").points_ras == pytest.approx(landmarks_fixed(), abs=1e-4)
