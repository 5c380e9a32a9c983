"""Nodes under a result's transform: where they appear, what else moves (nothing), and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene_parts import (
    FIXED_PLACE,
    FIXED_SHAPE,
    MOVING_PLACE,
    MOVING_SHAPE,
    PARENT,
    bendingNode,
    blobs,
    chain,
    itkPoints,
    judge,
    linearNode,
    pointsIn,
    segmentationNode,
    volumeNode,
)


def transformNode(folder: Path, name: str = "Transform") -> Any:
    import slicer

    from AutoFuseLib.Geometry import Grid
    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Transforms import importTransformSteps

    steps, files = chain(folder, "grid then affine")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", name)
    exhaust(importTransformSteps(node, steps, files, Grid(FIXED_PLACE, FIXED_SHAPE)))
    return node


def toWorld(node: Any, point: Any) -> np.ndarray:
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(list(point), world)
    return np.array(world)


@pytest.mark.parametrize("parent", ["none", "linear", "two linear", "bent"])
def test_a_node_under_a_parent_is_warped_from_where_the_parent_puts_it(host, tmp_path: Path, parent: str) -> None:
    import slicer

    from AutoFuseLib.Placement import parentBefore, putUnder, takeOut

    transform = transformNode(tmp_path)
    itk = judge(*chain(tmp_path, "grid then affine"))
    moving = volumeNode("Moving", blobs(MOVING_SHAPE), MOVING_PLACE)
    other = volumeNode("Other", blobs(MOVING_SHAPE), MOVING_PLACE)
    above = None
    if parent != "none":
        above = bendingNode() if parent == "bent" else linearNode(PARENT)
        if parent == "two linear":
            above.SetAndObserveTransformNodeID(linearNode(PARENT, "Grandparent").GetID())
        for node in (moving, other):
            node.SetAndObserveTransformNodeID(above.GetID())
    fixedPoints = pointsIn(FIXED_SHAPE, FIXED_PLACE, 10, margin=3)
    local = []
    for point in itkPoints(itk, fixedPoints):
        place = [0.0, 0.0, 0.0]
        moving.TransformPointFromWorld(point.tolist(), place)
        local.append(place)
    elsewhere = toWorld(other, local[0])
    count = slicer.mrmlScene.GetNumberOfNodes()

    putUnder(moving, transform)
    putUnder(moving, transform)
    assert slicer.mrmlScene.GetNumberOfNodes() == count + (above is not None)
    for place, point in zip(local, fixedPoints, strict=True):
        assert np.abs(toWorld(moving, place) - point).max() < 0.02
    assert np.array_equal(toWorld(other, local[0]), elsewhere)
    assert parentBefore(moving) is above
    if above is not None:
        assert moving.GetParentTransformNode().GetName() == f"{above.GetName()} (Moving)"

    assert takeOut(moving)
    assert moving.GetParentTransformNode() is above
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert not takeOut(moving)


def test_a_copied_parent_stays_as_it_was_when_the_image_was_registered(host, tmp_path: Path) -> None:
    import slicer.util

    from AutoFuseLib.Placement import putUnder

    parent = linearNode(PARENT)
    moving = volumeNode("Moving", blobs(MOVING_SHAPE), MOVING_PLACE)
    moving.SetAndObserveTransformNodeID(parent.GetID())
    putUnder(moving, transformNode(tmp_path))
    before = toWorld(moving, (1, 2, 3))
    parent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4)))
    assert np.array_equal(toWorld(moving, (1, 2, 3)), before)


def test_from_one_result_to_the_next_and_back_to_the_start(host, tmp_path: Path) -> None:
    import slicer

    from AutoFuseLib.Placement import isUnder, putUnder, takeOut

    first, second = transformNode(tmp_path, "First"), transformNode(tmp_path, "Second")
    parent = linearNode(PARENT)
    moving = segmentationNode("S", np.ones(MOVING_SHAPE, np.uint8), MOVING_PLACE, ["a"])
    moving.SetAndObserveTransformNodeID(parent.GetID())
    count = slicer.mrmlScene.GetNumberOfNodes()
    putUnder(moving, first)
    putUnder(moving, second)
    assert isUnder(moving, second)
    assert not isUnder(moving, first)
    assert slicer.mrmlScene.GetNumberOfNodes() == count + 1
    takeOut(moving)
    assert moving.GetParentTransformNode() is parent


def test_what_the_user_moved_since_then_is_left_alone(host, tmp_path: Path) -> None:
    from AutoFuseLib.Placement import isPlaced, putUnder, takeOut

    mine = linearNode(PARENT, "Mine")
    moving = volumeNode("Moving", blobs(MOVING_SHAPE), MOVING_PLACE)
    putUnder(moving, transformNode(tmp_path))
    assert isPlaced(moving)
    moving.SetAndObserveTransformNodeID(mine.GetID())
    assert not isPlaced(moving)
    assert not takeOut(moving)
    assert moving.GetParentTransformNode() is mine


def test_the_way_back_survives_saving_and_loading_the_scene(host, tmp_path: Path) -> None:
    import slicer
    import slicer.util

    from AutoFuseLib.Placement import putUnder, takeOut

    parent = linearNode(PARENT)
    markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Points")
    markups.SetAndObserveTransformNodeID(parent.GetID())
    putUnder(markups, transformNode(tmp_path))
    path = tmp_path / "Szene ä.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(False)
    slicer.util.loadScene(str(path))
    markups = slicer.util.getNode("Points")
    assert markups.GetParentTransformNode().GetName() == "Parent (Points)"
    assert takeOut(markups)
    assert markups.GetParentTransformNode().GetName() == "Parent"
