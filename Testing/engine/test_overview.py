"""The overview picture: the right side of the patient at the right side of the picture, whatever the file's axes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from fake_registration import fake_register

from autofuse_engine.data.volume import AxisOrder, Volume
from autofuse_engine.errors import FileError
from autofuse_engine.overview import caption, draw_overview, save_overview
from autofuse_engine.overview_pictures import Labels
from autofuse_engine.overview_planes import display_range, planes_through, slice_of

SPACING_MM = np.array([1.5, 2.0, 5.0])
SHAPE_IJK = np.array([40, 36, 18])


def oblique_matrix(angle: float) -> np.ndarray:
    """Turned about S by the angle and about R by half of it, anisotropic, centred at (12, -30, 45) mm."""
    c, s, c2, s2 = np.cos(angle), np.sin(angle), np.cos(angle / 2), np.sin(angle / 2)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c2, -s2], [0, s2, c2]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn * SPACING_MM
    matrix[:3, 3] = np.array([12, -30, 45]) - matrix[:3, :3] @ ((SHAPE_IJK - 1) / 2)
    return matrix


def points_of(volume: Volume) -> np.ndarray:
    k, j, i = np.indices(volume.shape)
    return np.stack([i, j, k], axis=-1) @ volume.ras_from_ijk[:3, :3].T + volume.ras_from_ijk[:3, 3]


def blob(matrix: np.ndarray, shape: tuple[int, int, int], center: tuple[float, float, float]) -> Volume:
    """A ball of radius 14 mm whose brightness rises by 1 a mm towards right, 2 anterior, 4 superior."""
    volume = Volume(array=np.zeros(shape, np.float32), ras_from_ijk=matrix, name="ball")
    offsets = points_of(volume) - center
    inside = np.linalg.norm(offsets, axis=-1) < 14
    return volume.with_array(np.where(inside, 200 + offsets @ [1, 2, 4], 0).astype(np.float32))


@pytest.fixture
def ball() -> Volume:
    return blob(oblique_matrix(0.4), (18, 36, 40), (14.0, -27.0, 41.0))


ORDERS = [
    AxisOrder(order=(0, 1, 2), flips=(False, False, False)),
    AxisOrder(order=(2, 0, 1), flips=(True, False, True)),
    AxisOrder(order=(1, 2, 0), flips=(False, True, False)),
]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_planes_show_the_same_patient_however_the_file_is_stored(ball: Volume, order: AxisOrder) -> None:
    stored = ball.reordered(order)
    for plane, plain in zip(planes_through(stored), planes_through(ball), strict=True):
        assert plane.points_ras.shape == plain.points_ras.shape
        np.testing.assert_allclose(plane.points_ras, plain.points_ras, atol=1e-9)
        np.testing.assert_allclose(slice_of(stored, plane), slice_of(ball, plain), atol=2e-3)


def test_brightness_falls_from_the_lettered_sides_to_the_opposite_ones(ball: Volume) -> None:
    slope = {"R": 1.0, "L": -1.0, "A": 2.0, "P": -2.0, "S": 4.0, "I": -4.0}
    for plane in planes_through(ball):
        values = slice_of(ball, plane)
        pixel_mm = plane.size_mm[0] / values.shape[1]
        rows, columns = np.array(values.shape) // 2
        part = values[rows - 8 : rows + 8, columns - 8 : columns + 8]
        left, right, top, bottom = plane.letters
        assert slope[left] == -slope[right]
        assert slope[top] == -slope[bottom]
        np.testing.assert_allclose(np.diff(part, axis=1) / pixel_mm, slope[right], atol=0.05)
        np.testing.assert_allclose(np.diff(part, axis=0) / pixel_mm, slope[bottom], atol=0.05)


def test_letters_follow_the_radiological_convention(ball: Volume) -> None:
    assert [(plane.name, plane.letters) for plane in planes_through(ball)] == [
        ("axial", "RLAP"),
        ("coronal", "RLSI"),
        ("sagittal", "APSI"),
    ]


def test_planes_pass_through_the_centre_of_the_foreground(ball: Volume) -> None:
    through = {plane.name: plane.points_ras for plane in planes_through(ball)}
    assert through["axial"][0, 0, 2] == pytest.approx(41.0, abs=1.0)
    assert through["coronal"][0, 0, 1] == pytest.approx(-27.0, abs=1.0)
    assert through["sagittal"][0, 0, 0] == pytest.approx(14.0, abs=1.0)


def test_a_ball_is_round_in_every_plane_although_voxels_are_not_cubic(ball: Volume) -> None:
    for plane in planes_through(ball):
        inside = np.nan_to_num(slice_of(ball, plane)) > 90
        pixel_mm = (plane.size_mm[0] / inside.shape[1], plane.size_mm[1] / inside.shape[0])
        assert pixel_mm[0] == pytest.approx(pixel_mm[1])
        width, height = inside.any(axis=0).sum() * pixel_mm[0], inside.any(axis=1).sum() * pixel_mm[1]
        assert width == pytest.approx(28.0, abs=4.0)
        assert height == pytest.approx(28.0, abs=4.0)


def test_what_lies_outside_of_a_volume_is_not_a_number_and_labels_stay_labels(ball: Volume) -> None:
    far = blob(oblique_matrix(0.4) + np.array([[0, 0, 0, 500], [0] * 4, [0] * 4, [0] * 4]), ball.shape, (514, -27, 41))
    labels = ball.with_array(np.where(ball.array > 0, 7, 0).astype(np.uint8))
    for plane in planes_through(ball):
        assert np.isnan(slice_of(far, plane)).all()
        values = slice_of(labels, plane, nearest=True)
        assert set(np.unique(values[np.isfinite(values)])) == {0.0, 7.0}


def test_the_display_range_ignores_the_background_and_a_few_wild_voxels(ball: Volume) -> None:
    wild = ball.array.copy()
    wild[0, 0, :3] = 1e6
    low, high = display_range(ball.with_array(wild))
    assert low == 0.0
    assert 230 < high < 300
    assert display_range(ball.with_array(np.full(ball.shape, 3.0, np.float32))) == (3.0, 4.0)


@pytest.fixture
def drawn(ball: Volume) -> tuple[Volume, Volume, Labels]:
    moving = blob(oblique_matrix(-0.3), (20, 30, 34), (17.0, -30.0, 40.0))
    labels = Labels(
        fixed=ball.with_array((ball.array > 0).astype(np.uint8) * 2),
        moving=moving.with_array((moving.array > 0).astype(np.uint8) * 2),
    )
    return ball, moving, labels


def test_the_figure_has_three_rows_eight_columns_and_two_colour_bars(drawn: tuple[Volume, Volume, Labels]) -> None:
    fixed, moving, labels = drawn
    figure = draw_overview(fixed, moving, fake_register(fixed, moving, moving_labels=labels.moving), labels)
    assert len(figure.axes) == 3 * 8 + 2
    text = " ".join(item.get_text() for item in figure.texts)
    for words in ("Fixed", "Difference after", "Jacobian", "axial", "coronal", "sagittal", "NCC 0.420 -> 0.910",
                  "mean Dice 0.550 -> 0.840", "Radiological", "not for clinical use", "label 2"):  # fmt: skip
        assert words in text
    contours = [len(axes.collections) for axes in figure.axes[:3]]
    assert contours == [1, 1, 2]


def test_registered_and_before_pictures_are_not_exchanged(drawn: tuple[Volume, Volume, Labels]) -> None:
    fixed, moving, _ = drawn
    result = fake_register(fixed, moving)
    result.warped.array[:] = 0
    figure = draw_overview(fixed, moving, result)
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes[:5]]
    assert shown[1].max() > 0.5
    assert shown[2].max() == 0.0
    np.testing.assert_allclose(shown[3], shown[1] - shown[0], atol=1e-6)
    np.testing.assert_allclose(shown[4], shown[2] - shown[0], atol=1e-6)


def test_both_differences_share_a_symmetric_scale_and_the_jacobian_is_centred_on_one(
    drawn: tuple[Volume, Volume, Labels],
) -> None:
    fixed, moving, _ = drawn
    figure = draw_overview(fixed, moving, fake_register(fixed, moving))
    before, after, jacobian = (figure.axes[column].images[0].norm for column in (3, 4, 7))
    assert (before.vmin, before.vmax) == (after.vmin, after.vmax)
    assert before.vmin == -before.vmax
    assert jacobian(1.0) == pytest.approx(0.5)


def test_folds_are_marked_and_only_then(drawn: tuple[Volume, Volume, Labels]) -> None:
    fixed, moving, _ = drawn
    smooth = draw_overview(fixed, moving, fake_register(fixed, moving))
    folded = draw_overview(fixed, moving, fake_register(fixed, moving, amplitude_mm=90.0))
    assert [len(smooth.axes[8 * row + 7].images) for row in range(3)] == [1, 1, 1]
    assert max(len(folded.axes[8 * row + 7].images) for row in range(3)) == 2


def test_the_caption_leaves_out_figures_that_do_not_exist() -> None:
    lines = caption({"metrics": {"before": {"ncc": 0.5}, "after": {"ncc": None}}}, [], Labels())
    assert not re.search("NCC|Dice|nan|None", " ".join(lines))


def test_a_picture_is_written_and_names_in_any_script_do_no_harm(
    tmp_path: Path, drawn: tuple[Volume, Volume, Labels], recwarn: pytest.WarningsRecorder
) -> None:
    fixed, moving, labels = drawn
    named = fixed.with_array(fixed.array, name="Müller 頭部 " + "x" * 80)
    path = tmp_path / "übersicht 1.png"
    save_overview(path, named, moving, fake_register(named, moving, moving_labels=labels.moving), labels)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert width > 1500
    assert height > 700
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_picture_that_cannot_be_written_is_an_error_with_a_cure(
    tmp_path: Path, drawn: tuple[Volume, Volume, Labels]
) -> None:
    fixed, moving, _ = drawn
    with pytest.raises(FileError) as caught:
        save_overview(tmp_path / "absent" / "overview.png", fixed, moving, fake_register(fixed, moving))
    assert caught.value.code == "output-not-writable"
