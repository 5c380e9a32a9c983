"""The figure of a result: pictures lie as the patient does, show before and after, and are saved whole."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_result import FOLDING_COUNT, MIDDLE, addVolume, makeResult

YELLOW = (255, 230, 0)


def readPng(path):
    """(height, width, 3) by Qt's reader, first line on top."""
    import qt

    image = qt.QImage(str(path)).convertToFormat(qt.QImage.Format_RGB888)
    width, height = image.width(), image.height()
    lines = np.frombuffer(image.constBits(), np.uint8).reshape(height, image.bytesPerLine())
    return lines[:, : 3 * width].reshape(height, width, 3).astype(int)


def painted(result):
    """The sheet, and the box (left, top, width, height) of each picture by (row, column)."""
    from AutoFuseLib import ReportFigure
    from AutoFuseLib.FigurePainter import Row
    from AutoFuseLib.Steps import exhaust

    boxes, own = {}, Row.draw

    def draw(self, canvas, column, x, y):
        boxes[(self.name, column)] = (x, y, self.width, self.height)
        own(self, canvas, column, x, y)

    Row.draw = draw
    try:
        canvas = exhaust(ReportFigure.drawFigureSteps(result))
    finally:
        Row.draw = own
    return canvas.pixels.astype(int), boxes


def cut(pixels, box):
    x, y, width, height = box
    return pixels[y : y + height, x : x + width]


@pytest.fixture
def result(host):
    return makeResult()


def test_a_figure_is_written_to_a_path_with_spaces_and_letters_of_other_languages(host, result, tmp_path):
    from AutoFuseLib import ReportFigure

    path = tmp_path / "Übersicht 1" / "größe 影像.png"
    path.parent.mkdir()
    assert ReportFigure.writeFigure(result, path) == path
    read = readPng(path)
    drawn, _ = painted(result)
    assert np.array_equal(read, drawn), "every pixel as it was drawn"
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_figure_that_cannot_be_written_leaves_nothing_and_says_so(host, result, tmp_path):
    from autofuse_engine.errors import FileError
    from AutoFuseLib import ReportFigure

    with pytest.raises(FileError) as caught:
        ReportFigure.writeFigure(result, tmp_path / "absent" / "figure.png")
    assert caught.value.code == "output-not-writable"
    assert list(tmp_path.iterdir()) == []


def test_patients_right_front_and_top_stand_left_and_above(host, result):
    import slicer.util

    for shift, row, side in (
        ((9, 0, 0), "axial", "left"),
        ((0, 9, 0), "axial", "top"),
        ((-9, 0, 0), "coronal", "right"),
        ((0, 0, 9), "coronal", "top"),
        ((0, 9, 0), "sagittal", "left"),
        ((0, 0, -9), "sagittal", "bottom"),
    ):
        array = slicer.util.arrayFromVolume(result.fixed)
        matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
        result.fixed.GetIJKToRASMatrix(matrix)
        k, j, i = np.indices(array.shape)
        ras = np.stack([i, j, k], -1) @ slicer.util.arrayFromVTKMatrix(matrix)[:3, :3].T
        ras = ras + slicer.util.arrayFromVTKMatrix(matrix)[:3, 3]
        place = np.array(MIDDLE) + shift
        body = np.linalg.norm(ras - MIDDLE, axis=-1) < 18
        array[:] = 300 * body + 600 * (np.linalg.norm(ras - place, axis=-1) < 4)
        slicer.util.arrayFromVolumeModified(result.fixed)
        pixels, boxes = painted(result)
        picture = cut(pixels, boxes[(row, 0)])
        gray = (np.ptp(picture, axis=2) == 0) & (picture[..., 0] > 240)
        gray[:22], gray[-8:], gray[:, :20], gray[:, -20:] = False, False, False, False
        rows, columns = np.nonzero(gray)
        assert len(rows) > 50, (row, side)
        height, width = gray.shape
        x, y = columns.mean() / width, rows.mean() / height
        assert {"left": x < 0.4, "right": x > 0.6, "top": y < 0.4, "bottom": y > 0.6}[side], (row, side, x, y)


def test_the_difference_is_large_before_and_small_after(host, result):
    pixels, boxes = painted(result)
    for row in ("axial", "coronal", "sagittal"):
        before, after = (np.ptp(cut(pixels, boxes[(row, column)]), axis=2) for column in (3, 4))
        assert (before > 60).mean() > 0.05
        assert (after > 60).mean() < 0.1 * (before > 60).mean()


def test_folds_are_yellow_in_the_picture_and_counted_in_the_legend(host, result):
    import slicer.util

    def yellow(pixels, box):
        return int((np.abs(cut(pixels, box) - YELLOW).max(axis=2) < 4).sum())

    slicer.util.arrayFromVolume(result.jacobian)[:] = 1.1
    slicer.util.arrayFromVolumeModified(result.jacobian)
    without, boxes = painted(result)
    assert sum(yellow(without, boxes[(row, 7)]) for row in ("axial", "coronal", "sagittal")) == 0
    slicer.util.arrayFromVolume(result.jacobian)[:, :, 8:16] = -0.5
    slicer.util.arrayFromVolumeModified(result.jacobian)
    pixels, boxes = painted(result)
    assert yellow(pixels, boxes[("axial", 7)]) > 1000
    result.report["folding_count"] = FOLDING_COUNT + 12345
    changed, _ = painted(result)
    assert np.abs(changed - pixels).max() > 50


def test_without_a_jacobian_its_column_is_absent_and_without_warped_volume_it_is_computed(host, result):
    complete, boxes = painted(result)
    result.jacobian = None
    less, fewer = painted(result)
    assert less.shape[1] < complete.shape[1]
    assert max(column for _, column in fewer) == 6
    result.warped = None
    computed, _ = painted(result)
    assert np.abs(cut(computed, fewer[("axial", 2)]) - cut(less, fewer[("axial", 2)])).mean() < 3
    assert boxes.keys() > fewer.keys()


def test_grid_lines_are_straight_without_a_deformation_and_bend_with_one(host, result):
    def bent(pixels, box):
        """Lines that cross the picture from top to bottom: how far each wanders, in pixels."""
        picture = cut(pixels, box)
        lines = (picture[..., 2] - picture[..., 0] > 60).astype(float)
        return float(np.sort(lines.mean(axis=0))[::-1][:4].mean())

    pixels, boxes = painted(result)
    import slicer.util

    result.transform.SetAndObserveTransformFromParent(None)
    result.transform.SetMatrixTransformFromParent(
        slicer.util.vtkMatrixFromArray(np.array(result.report["initial_matrix_ras"]))
    )
    straight, _ = painted(result)
    assert bent(straight, boxes[("axial", 6)]) > 0.95, "whole columns of pixels are lines"
    assert bent(pixels, boxes[("axial", 6)]) < 0.9


def test_all_of_the_text_is_inside_of_the_sheet_also_with_long_names(host, result):
    result.fixed.SetName("a very long name of a series that a scanner made up " * 4)
    result.moving.SetName("noch ein sehr langer Name mit Größe " * 5)
    pixels, _ = painted(result)
    dark = pixels.min(axis=2) < 200
    assert not dark[:, :6].any()
    assert not dark[:, -6:].any()
    assert not dark[:6].any()
    assert not dark[-6:].any()


def test_a_result_that_lost_its_volumes_is_refused_with_a_sentence(host, result):
    import slicer

    from AutoFuseLib import ReportFigure

    assert ReportFigure.unavailable(result) == ""
    result.fixed.SetAndObserveTransformNodeID(result.transform.GetID())
    assert "non-linear" in ReportFigure.unavailable(result)
    result.fixed.SetAndObserveTransformNodeID(None)
    slicer.mrmlScene.RemoveNode(result.moving)
    with pytest.raises(ValueError, match="no longer in the scene"):
        ReportFigure.writeFigure(result, "figure.png")


def test_letters_stand_where_they_are_asked_to(host):
    from AutoFuseLib.FigureCanvas import Canvas, textWidth, wrapped

    def box(canvas):
        rows, columns = np.nonzero(canvas.pixels.min(axis=2) < 128)
        return columns.min(), columns.max(), rows.min(), rows.max()

    left, centre, right, up = (Canvas(200, 60 if n < 3 else 200) for n in range(4))
    left.text("HH", 50, 40, 20)
    centre.text("HH", 50, 40, 20, align="center")
    right.text("HH", 50, 40, 20, align="right")
    up.text("HH", 50, 100, 20, align="center", upwards=True)
    width = textWidth("HH", 20)
    assert box(left)[0] == pytest.approx(50, abs=4)
    assert sum(box(centre)[:2]) / 2 == pytest.approx(50, abs=2)
    assert box(right)[1] == pytest.approx(50, abs=4)
    assert box(left)[3] == pytest.approx(40, abs=1), "on the line"
    assert box(up)[1] == pytest.approx(50, abs=1)
    assert box(up)[3] - box(up)[2] == pytest.approx(width, abs=5)
    assert box(up)[1] - box(up)[0] < width
    descending = Canvas(60, 60)
    descending.text("p", 20, 30, 20)
    assert box(descending)[3] > 31
    dollars = Canvas(300, 60)
    dollars.text("$x$ and $y$ 5 %", 10, 40, 20)
    assert box(dollars)[1] > 100, "no formula"
    Canvas(30, 30).text("cut off at all sides", -20, 5, 30)
    lines = wrapped("one two three four five six", 20, textWidth("one two three", 20))
    assert lines == ["one two three", "four five six"]
    assert wrapped("", 20, 100) == []


def test_an_image_with_thick_slices_has_pictures_of_true_proportions(host):
    from AutoFuseLib.FigurePlanes import planesThrough

    place = np.diag([1.0, 1.0, 6.0, 1.0])
    array = np.zeros((12, 50, 40), np.float32)
    array[1:11, 5:45, 5:35] = 100
    planes = planesThrough(addVolume("thick", array, place), 200)
    sizes = {plane.name: np.array(plane.shape) * plane.pixelMm for plane in planes}
    assert sizes["axial"] == pytest.approx([46, 36], abs=12)
    assert sizes["coronal"][0] == pytest.approx(66, abs=8)
    assert max(plane.shape[1] for plane in planes) == 200
    assert len({round(plane.pixelMm, 9) for plane in planes}) == 1
