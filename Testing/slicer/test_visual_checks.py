"""What the views show in each visual check, before and after."""

from __future__ import annotations

import numpy as np
import pytest
from scene_parts import mapped
from synthetic_result import (
    AFFINE,
    FIXED_PLACE,
    FOLDED,
    MIDDLE,
    MOVING_PLACE,
    SLICES,
    composite,
    hiddenNodes,
    layers,
    lookAt,
    makeResult,
    pixelAt,
    shownPixels,
)


@pytest.fixture
def result(host):
    return makeResult()


@pytest.fixture
def checks(host, result):
    from AutoFuseLib.VisualChecks import VisualChecks

    made = VisualChecks(result)
    yield made
    made.cleanup()


def colored(pixels, left=0.0, right=0.8):
    """Number of pixels with a clear hue, without the right side, where legends stand."""
    part = pixels[:, int(left * pixels.shape[1]) : int(right * pixels.shape[1])]
    return int((np.ptp(part, axis=2) > 60).sum())


def test_a_blend_shows_the_warped_image_over_the_fixed_one_in_all_slice_views(host, checks):
    checks.show("blend")
    assert {layers(name) for name in SLICES} == {("CT day 1", "warped", 0.5)}
    checks.setOpacity(0.25)
    assert layers("Green") == ("CT day 1", "warped", 0.25)
    checks.setAfter(False)
    assert layers("Yellow") == ("CT day 1", "CT day 8", 0.25)
    assert (checks.current, checks.after, checks.opacity) == ("blend", False, 0.25)
    assert "before" in checks.caption()
    assert "CT day 8" in checks.caption()


def test_flicker_shows_the_two_in_turn_until_it_is_hidden(host, checks, wait_until):
    checks.setFlickerInterval(0.1)
    checks.show("flicker")
    seen = set()
    wait_until(lambda: seen.add(layers()[2]) or seen == {0.0, 1.0}, timeout=10)
    checks.show("blend")
    assert layers()[2] == 0.5
    host.app.processEvents()
    checks.show("flicker")
    checks.hide()
    before = layers()
    end = np.inf
    for _ in range(40):
        host.app.processEvents()
        end = layers()
    assert end == before
    assert checks.current is None


def test_the_checkerboard_hides_its_squares_after_and_shows_them_before(host, checks, result):
    checks.setCheckerSize(10.0)
    checks.show("checkerboard")
    after = shownPixels(host, "Red", "checkerboard_after")
    checks.setAfter(False)
    before = shownPixels(host, "Red", "checkerboard_before")
    checks.show("blend")
    checks.setAfter(True)
    checks.setOpacity(0.0)
    fixed = shownPixels(host, "Red")
    assert np.abs(after - fixed).mean() < 1.5, "both images are alike after"
    assert np.abs(before - fixed).mean() > 4 * np.abs(after - fixed).mean() + 3
    assert "10 mm" not in checks.caption()
    with pytest.raises(ValueError, match="above 0 mm"):
        checks.setCheckerSize(0)


def test_squares_grow_with_their_size_and_are_chosen_from_the_image(host, checks):
    import slicer.util

    assert checks.checkerSize == 5.0
    checks.show("checkerboard")
    small = slicer.util.arrayFromVolume(slicer.util.getNode("AutoFuse check")).copy()
    checks.setCheckerSize(20.0)
    large = slicer.util.arrayFromVolume(slicer.util.getNode("AutoFuse check"))
    assert np.abs(small - large).max() > 1
    assert "20 mm" in checks.caption()


def test_the_difference_is_red_where_the_moving_image_is_brighter_and_blue_where_it_is_darker(host, checks):
    ball = np.array([8.0, 3.0, 2.0]) + MIDDLE
    checks.show("difference")
    after = shownPixels(host, "Red", "difference_after")
    checks.setAfter(False)
    lookAt("Red", ball - (4, -2, 0))
    pixels = shownPixels(host, "Red", "difference_before")
    fixedBall = pixelAt("Red", ball - (4.0, -2.0, 0.0), pixels)
    assert colored(after) < 0.02 * colored(pixels)
    assert fixedBall[2] - fixedBall[0] > 60, "the fixed image's ball is missing there: blue"
    movingBall = mapped(AFFINE, ball)
    lookAt("Red", movingBall)
    brighter = pixelAt("Red", movingBall, shownPixels(host, "Red"))
    assert brighter[0] - brighter[2] > 60, "the moving image's ball stands there before: red"


def test_the_legend_of_a_difference_stands_in_each_slice_view_and_goes_with_it(host, checks):
    shownPixels(host, "Green")  # as in Slicer, the view is there before the legend
    checks.show("difference")
    with_legend = shownPixels(host, "Green")
    right = with_legend[:, int(0.9 * with_legend.shape[1]) :]
    red = (right[..., 0] - right[..., 2] > 80).sum()
    blue = (right[..., 2] - right[..., 0] > 80).sum()
    assert min(red, blue) > 100
    checks.show("blend")
    assert colored(shownPixels(host, "Green"), 0.0, 1.0) == 0


def test_folded_voxels_of_the_jacobian_are_yellow_and_no_others(host, checks, result):
    import slicer.util

    array = slicer.util.arrayFromVolume(result.jacobian)
    array[:] = 0.02
    array[FOLDED] = -0.02
    slicer.util.arrayFromVolumeModified(result.jacobian)
    checks.show("jacobian")
    checks.setOpacity(1.0)
    inside = mapped(FIXED_PLACE, [11, 12, 9])
    outside = mapped(FIXED_PLACE, [18, 20, 9])
    lookAt("Red", inside)
    pixels = shownPixels(host, "Red", "jacobian")
    assert pixelAt("Red", inside, pixels).tolist() == pytest.approx([255, 230, 0], abs=3)
    lookAt("Red", outside)
    smallest = pixelAt("Red", outside, shownPixels(host, "Red"))
    assert smallest[2] > smallest[1], "nearly nothing, but not folded: the darkest purple"
    assert layers()[:2] == ("CT day 1", "jacobian")
    assert "100 cells" in checks.caption()
    assert "0.623 %" in checks.caption()


@pytest.mark.parametrize(("value", "channel"), [(0.6, 2), (1.7, 0)], ids=["shrunk: purple", "grown: orange"])
def test_the_jacobian_is_white_at_one_and_coloured_on_both_sides(host, checks, result, value, channel):
    import slicer.util

    array = slicer.util.arrayFromVolume(result.jacobian)
    array[:], array[:, :, 12:] = 1.0, value
    slicer.util.arrayFromVolumeModified(result.jacobian)
    checks.show("jacobian")
    checks.setOpacity(1.0)
    one, other = mapped(FIXED_PLACE, [4, 13, 10]), mapped(FIXED_PLACE, [19, 13, 10])
    lookAt("Red", one)
    white = pixelAt("Red", one, shownPixels(host, "Red"))
    lookAt("Red", other)
    color = pixelAt("Red", other, shownPixels(host, "Red"))
    assert white.min() > 235
    assert color[channel] - color[2 - channel] > 40


def test_a_volume_and_its_reciprocal_have_colours_equally_far_from_white(host):
    from AutoFuseLib.CheckColors import JACOBIAN_RANGE, between, jacobianColors, jacobianPosition

    values = np.array([0.5, 0.8, 1.0, 1.25, 2.0, 5.0, 0.01])
    assert jacobianPosition(values) == pytest.approx([0.0, 0.339, 0.5, 0.661, 1.0, 1.0, 0.0], abs=1e-3)
    table, (low, high) = jacobianColors(), JACOBIAN_RANGE
    assert len(table) == 256
    lowest = low + (high - low) * np.arange(256) / 255
    assert [tuple(color) == (1.0, 0.9, 0.0) for color in table] == [start < 0 for start in lowest]
    assert between([(0, 0, 0), (1, 0.5, 0)], np.array([-1, 0.25, 2.0])).tolist() == [
        [0, 0, 0],
        [0.25, 0.125, 0],
        [1, 0.5, 0],
    ]


def test_uncertainty_is_shown_in_mm_over_the_fixed_image_or_refused_with_a_sentence(host, checks, result):
    checks.show("uncertainty")
    assert layers()[:2] == ("CT day 1", "uncertainty")
    assert colored(shownPixels(host, "Red", "uncertainty")) > 1000
    assert "mm" in checks.caption()
    result.uncertainty = None
    assert "no uncertainty" in checks.available("uncertainty")
    with pytest.raises(ValueError, match="no uncertainty"):
        checks.show("uncertainty")
    with pytest.raises(ValueError, match="one of"):
        checks.available("flicking")


def test_before_hides_the_deformation_and_shows_the_moving_image(host, checks):
    for kind in ("grid", "arrows", "contours", "jacobian", "uncertainty"):
        checks.setAfter(True)
        checks.show(kind)
        assert colored(shownPixels(host, "Red", kind)) > 200, kind
        checks.setAfter(False)
        assert layers()[:2] == ("CT day 8", None), kind
        assert colored(shownPixels(host, "Red"), 0, 1) == 0, kind


def test_a_moving_volume_that_was_put_under_the_result_is_shown_where_it_lay(host, checks, result):
    import slicer.util

    result.moving.SetAndObserveTransformNodeID(result.transform.GetID())
    checks.setAfter(False)
    checks.show("blend")
    shown = slicer.mrmlScene.GetNodeByID(composite().GetForegroundVolumeID())
    assert shown is not result.moving
    assert shown.GetParentTransformNode() is None
    assert np.array_equal(slicer.util.arrayFromVolume(shown), slicer.util.arrayFromVolume(result.moving))
    ras = np.zeros(4)
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    shown.GetIJKToRASMatrix(matrix)
    assert np.allclose(slicer.util.arrayFromVTKMatrix(matrix), MOVING_PLACE)
    checks.show("difference")
    assert np.abs(slicer.util.arrayFromVolume(slicer.util.getNode("AutoFuse check"))).mean() > 0.05
    checks.hide()
    assert hiddenNodes() == []
    assert ras.sum() == 0


def test_a_result_without_warped_volume_is_warped_for_the_display(host):
    import slicer.util

    from AutoFuseLib.VisualChecks import VisualChecks

    result = makeResult(warped=False)
    checks = VisualChecks(result)
    checks.show("blend")
    assert layers()[:2] == ("CT day 1", "AutoFuse check")
    shown = slicer.util.arrayFromVolume(slicer.util.getNode("AutoFuse check"))
    fixed = slicer.util.arrayFromVolume(result.fixed)
    assert np.nanmean(np.abs(shown - fixed)) < 10
    checks.hide()
    slicer.mrmlScene.RemoveNode(result.transform)
    assert "neither" in checks.available("blend")
    assert "transform" in checks.available("grid")


def test_a_fixed_volume_under_a_bent_transform_is_refused_where_its_grid_is_needed(host, checks, result):
    result.fixed.SetAndObserveTransformNodeID(result.transform.GetID())
    assert checks.available("blend") == ""
    for kind in ("checkerboard", "difference", "grid"):
        assert "non-linear" in checks.available(kind)


def test_each_kind_has_a_name_and_says_what_to_look_for(host, checks):
    from AutoFuseLib import CheckTexts

    assert len({CheckTexts.title(kind) for kind in checks.KINDS}) == len(checks.KINDS)
    for kind in checks.KINDS:
        assert CheckTexts.tooltip(kind).endswith(".")
        if checks.available(kind):  # this result has no weight of smoothness
            continue
        checks.show(kind)
        assert "{" not in checks.caption()
        assert len(checks.caption()) > 15
    checks.hide()
    assert checks.caption() == ""
