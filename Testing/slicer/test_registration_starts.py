"""The transform of the scene that a registration starts from: when it is asked for, and how it reaches the engine."""

from __future__ import annotations


def tip(registration):
    """Why Register cannot be pressed; empty if it can."""
    button = registration.ui.registerButton
    return "" if button.enabled else button.toolTip


def test_a_transform_is_asked_for_only_when_it_is_the_start(registration):
    import slicer

    registration.makePair()
    registration.load()
    from AutoFuseRegistrationLib.ParameterNode import InitialAlignment

    ui = registration.ui
    ui.advancedCollapsibleButton.collapsed = False
    registration.host.app.processEvents()
    assert not ui.initialTransformSelector.visible
    registration.host.choose(ui.initialAlignmentBox, InitialAlignment.TRANSFORM.label())
    assert ui.initialTransformSelector.visible
    assert tip(registration).startswith("Choose the transform that")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "From landmarks")
    registration.widget.logic.getParameterNode().initialTransform = node
    assert tip(registration) == ""


def test_a_deformation_of_the_scene_reaches_the_engine_as_a_grid(registration):
    """Also under a parent, and without a change of the scene; the next smoothness starts from it too."""
    from pathlib import Path

    import numpy as np
    import slicer
    import slicer.util
    import vtk

    fixed, _ = registration.makePair()
    registration.load()
    from AutoFuseRegistrationLib.ParameterNode import InitialAlignment

    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    landmarks = np.array([[x, y, z] for x in (-60.0, 60.0) for y in (-60.0, 60.0) for z in (-60.0, 60.0)])
    moved = landmarks * 1.1 + 3.0
    moved[0] += 9.0
    for points, give in ((landmarks, spline.SetSourceLandmarks), (moved, spline.SetTargetLandmarks)):
        holder = vtk.vtkPoints()
        for point in points:
            holder.InsertNextPoint(*point)
        give(holder)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp of another program")
    node.SetAndObserveTransformFromParent(spline)
    parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Couch")
    parent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([-1.0, -1.0, 1.0, 1.0])))
    node.SetAndObserveTransformNodeID(parent.GetID())
    parameters = registration.widget.logic.getParameterNode()
    parameters.initialTransform, parameters.initialAlignment = node, InitialAlignment.TRANSFORM
    assert tip(registration) == ""
    registration.register()
    spec = registration.worker.jobs[-1][1]
    assert spec["config"]["initial"] == "transform"
    assert spec["config"]["initial_matrix_ras"] is None
    vectors = np.load(Path(spec["folder"]) / spec["start_from"]["array"])
    assert vectors.shape == (*slicer.util.arrayFromVolume(fixed).shape, 3)
    place = np.array(spec["start_from"]["ras_from_ijk"])
    point = place @ (3.0, 5.0, 2.0, 1.0)
    expected = spline.TransformPoint(-point[0], -point[1], point[2])
    assert np.allclose(vectors[2, 5, 3] + point[:3], expected, atol=1e-3)
    registration.finish()


def test_a_large_grid_is_coarsened_over_the_same_box(host):
    import numpy as np

    from AutoFuseLib.Geometry import Grid, mapPoints
    from AutoFuseLib.StartTransforms import coarsened

    place = np.array([[0.0, -2.0, 0.0, 5.0], [1.5, 0.0, 0.0, -8.0], [0.0, 0.0, 3.0, 11.0], [0.0, 0.0, 0.0, 1.0]])
    grid = Grid(place, (20, 60, 110))
    assert coarsened(grid, 20 * 60 * 110) is grid
    fewer = coarsened(grid, 5000)
    assert np.prod(fewer.shape) <= 5000 < 2 * np.prod(fewer.shape)
    for corner in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)):
        ends = [np.array(corner) * (np.array(one.shape[::-1]) - 1) for one in (grid, fewer)]
        assert np.allclose(mapPoints(grid.rasFromIjk, ends[0]), mapPoints(fewer.rasFromIjk, ends[1]))


def test_a_start_that_the_moving_volume_has_already_is_not_taken_twice(registration):
    import slicer

    _, moving = registration.makePair()
    registration.load()
    from AutoFuseRegistrationLib.ParameterNode import InitialAlignment

    above = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "From landmarks")
    between = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Between")
    between.SetAndObserveTransformNodeID(above.GetID())
    parameters = registration.widget.logic.getParameterNode()
    parameters.initialAlignment = InitialAlignment.TRANSFORM
    parameters.initialTransform = above
    for parent in (above, between):
        moving.SetAndObserveTransformNodeID(None)
        assert tip(registration) == ""
        moving.SetAndObserveTransformNodeID(parent.GetID())
        assert "lies under From landmarks already" in tip(registration)
    parameters.initialTransform = between  # the transform below it alone is not the one above
    assert "lies under Between already" in tip(registration)
    moving.SetAndObserveTransformNodeID(None)
    assert tip(registration) == ""
    registration.widget.exit()
    assert not moving.HasObserver(slicer.vtkMRMLTransformableNode.TransformModifiedEvent)


def test_the_start_transform_reaches_the_engine_in_its_direction(registration):
    import numpy as np
    import slicer.util

    registration.makePair()
    registration.load()
    from AutoFuseRegistrationLib.ParameterNode import InitialAlignment

    toWorld = np.array([[0.0, -1.0, 0.0, 12.0], [1.0, 0.0, 0.0, -7.0], [0.0, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 1.0]])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "From landmarks")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(toWorld))
    parameters = registration.widget.logic.getParameterNode()
    parameters.initialTransform, parameters.initialAlignment = node, InitialAlignment.TRANSFORM
    registration.register()
    config = registration.worker.jobs[-1][1]["config"]
    movingPoint = np.array([5.0, -3.0, 8.0, 1.0])
    assert np.allclose(np.array(config["initial_matrix_ras"]) @ toWorld @ movingPoint, movingPoint)
    registration.finish()
