"""The deformation in the views: what is drawn is the result without its initial alignment, at sensible sizes."""

from __future__ import annotations

import numpy as np
import pytest
from scene_parts import AFFINE, linearNode
from synthetic_result import MIDDLE, REACH_MM, bump, lookAt, makeResult, shownPixels


def display(result, mode, planes=(), initial=AFFINE):
    from AutoFuseLib.DeformationDisplay import DeformationDisplay
    from AutoFuseLib.Steps import exhaust

    made = DeformationDisplay(mode, result.transform, result.fixed, initial, planes)
    exhaust(made.revealSteps())
    return made


def world(node, point):
    """Where the node's transform takes a point, to the world."""
    import vtk

    transform = vtk.vtkGeneralTransform()
    node.GetTransformToWorld(transform)
    return np.array(transform.TransformPoint(*point))


def test_tissue_is_drawn_from_where_it_lay_to_where_it_was_taken_in_the_fixed_image(host):
    result = makeResult()
    made = display(result, "arrows")
    for shift in ((0, 0, 0), (5, -4, 3), (-6, 2, 7)):
        inFixed = np.array(MIDDLE) + shift
        lay = inFixed + bump(inFixed)
        assert world(made.node, lay) == pytest.approx(inFixed, abs=0.15), "the grid is 4 mm wide"
    made.remove()
    from_start = display(result, "arrows", initial=np.eye(4))
    assert np.abs(world(from_start.node, MIDDLE) - MIDDLE).max() > REACH_MM, "with the initial alignment"
    from_start.remove()


def test_a_result_that_is_only_an_initial_alignment_shows_no_deformation(host):
    result = makeResult()
    result.transform = linearNode(np.linalg.inv(AFFINE))
    made = display(result, "contours")
    assert made.sizes.reach == pytest.approx(0.1)
    assert np.abs(world(made.node, MIDDLE) - MIDDLE).max() < 1e-9
    made.remove()


def test_the_scale_reaches_the_largest_displacements_in_steps_of_1_2_or_5(host):
    from AutoFuseLib.DeformationDisplay import niceAbove, sizesFor

    made = display(makeResult(), "contours")
    assert made.sizes.reach in (4.0, 5.0), "the largest is 4.5 mm, and one voxel in a hundred may lie above"
    made.remove()
    sizes = sizesFor(240.0, 11.3)
    assert sizes.levels == (2.0, 4.0, 6.0, 8.0, 10.0, 12.0)
    assert (sizes.reach, sizes.arrowSpacing, sizes.arrowScale, sizes.gridSpacing) == (12.0, 10.0, 1.0, 12.0)
    assert sizesFor(240.0, 0.9).arrowScale == 20.0
    assert sizesFor(240.0, 60.0).arrowScale == 1.0
    assert [niceAbove(value) for value in (0.011, 0.2, 1.0, 3.0, 51.0)] == [0.02, 0.2, 1.0, 5.0, 100.0]


def test_lines_are_coloured_by_their_displacement_and_bend_with_it(host):
    import slicer.util

    result = makeResult()
    slicer.util.setSliceViewerLayers(background=result.fixed, fit=True)
    lookAt("Red", MIDDLE)
    dark = shownPixels(host, "Red")
    shownPixels(host, "3D")
    made = display(result, "grid")
    pixels = shownPixels(host, "Red", "deformation_grid")
    changed = np.abs(pixels - dark).max(axis=2) > 40
    inside = changed[:, : int(0.75 * changed.shape[1])]
    assert 0.05 < inside.mean() < 0.6, "lines, not a plane"
    warm = (pixels[..., 0] - pixels[..., 2] > 80) & changed
    cold = (pixels[..., 2] - pixels[..., 0] > 80) & changed
    x, y, _ = slicer.app.layoutManager().sliceWidget("Red").sliceView().convertRASToXYZ(MIDDLE)
    row, column = pixels.shape[0] - 1 - round(y), round(x)
    near = np.zeros_like(warm)
    near[row - 90 : row + 90, column - 90 : column + 90] = True
    legend = np.zeros_like(warm)
    legend[:, int(0.75 * changed.shape[1]) :] = True
    assert (warm & near).sum() > 0.9 * (warm & ~legend).sum() > 50, "large displacements are in the middle"
    assert (cold & ~near & ~legend).sum() > 200, "small ones are outside"
    made.remove()
    assert np.abs(shownPixels(host, "Red") - dark).max() == 0


def test_lines_stand_out_from_black_and_from_white(host):
    from AutoFuseLib.CheckColors import ON_ANY_GREY

    for color in ON_ANY_GREY:
        assert np.abs(np.array(color) - 0.0).max() > 0.7
        assert np.abs(np.array(color) - 1.0).max() > 0.6
        assert np.ptp(color) > 0.6, "never a grey"


@pytest.mark.parametrize("mode", ["grid", "arrows", "contours"])
def test_each_mode_appears_in_3d_where_planes_are_given_and_nowhere_after(host, mode):
    import slicer
    import slicer.util

    result = makeResult()
    slicer.util.setSliceViewerLayers(background=result.fixed, fit=True)
    planes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    slicer.app.layoutManager().threeDWidget(0).threeDView().resetFocalPoint()
    before, count = shownPixels(host, "3D"), slicer.mrmlScene.GetNumberOfNodes()
    made = display(result, mode, planes)
    seen = shownPixels(host, "3D", f"deformation_{mode}")
    assert (np.abs(seen - before).max(axis=2) > 20).sum() > 300
    made.remove()
    assert np.abs(shownPixels(host, "3D") - before).max() == 0
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert result.transform.GetNumberOfDisplayNodes() == 0
    flat = display(result, mode)
    assert np.abs(shownPixels(host, "3D") - before).max() == 0
    flat.remove()


def test_a_check_turns_3d_views_to_the_deformation_only_where_the_user_had_not_set_them_up(host):
    import slicer
    import slicer.util

    from AutoFuseLib.VisualChecks import VisualChecks

    result = makeResult()
    checks = VisualChecks(result)
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    view.resetFocalPoint()
    camera = view.cameraNode()
    camera.SetPosition(1.0, 500.0, 2.0)
    place = camera.GetPosition()
    checks.show("arrows")
    assert camera.GetPosition() != place
    checks.hide()
    assert camera.GetPosition() == pytest.approx(place)
    slicer.util.setSliceViewerLayers(background=result.fixed)
    checks.show("arrows")
    assert camera.GetPosition() == pytest.approx(place)
    checks.hide()
