"""A whole registration by the real worker, brought into a scene: Slicer's own classes see what the engine computed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene_parts import (
    AFFINE,
    PARENT,
    centred,
    itkPoints,
    judge,
    linearNode,
    mapped,
    place,
    pointsIn,
    turn,
    volumeNode,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FIXED_SHAPE, MOVING_SHAPE = (26, 30, 28), (30, 27, 32)
FIXED_PLACE = centred(FIXED_SHAPE, (3, -2, 4), place((-2.0, 1.5, 2.5), (0, 0, 0), turn((1, 2, 3), 0.35)))
MOVING_PLACE = centred(MOVING_SHAPE, (6, -6, 9), place((1.75, -2.25, 2.0), (0, 0, 0), turn((3, -1, 1), -0.2)))
ORGANS = (((0, 0, 0), (12, 9, 10), 1.0), ((8, -6, 10), (5, 6, 7), -0.7), ((-8, 5, 0), (6, 5, 5), 0.8),
          ((10, 10, 12), (4, 6, 5), 0.6))  # fmt: skip


def body(points: np.ndarray) -> np.ndarray:
    """Intensities at places of a made-up body, (..., 3) RAS."""
    parts = (np.exp(-(((points - np.array(at)) / np.array(size)) ** 2).sum(-1) / 2) * w for at, size, w in ORGANS)
    return (1000 * sum(parts)).astype(np.float32)


def places(shape: tuple[int, int, int], rasFromIjk: np.ndarray) -> np.ndarray:
    k, j, i = np.indices(shape)
    return mapped(rasFromIjk, np.stack([i, j, k], axis=-1))


def bodies() -> tuple[np.ndarray, np.ndarray]:
    """The fixed image, and the same body moved by a matrix and bent by up to 2.6 mm."""
    back = mapped(np.linalg.inv(AFFINE), places(MOVING_SHAPE, MOVING_PLACE))
    x, y, z = np.moveaxis(back, -1, 0)
    bent = back + 1.5 * np.stack([np.sin(y / 9), np.cos(z / 8), np.sin(x / 10)], axis=-1)
    return body(places(FIXED_SHAPE, FIXED_PLACE)), body(bent)


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The worker's result; the arrays stay in its folder."""
    folder = tmp_path_factory.mktemp("job ä")
    images = {}
    for name, array, matrix in zip(("fixed", "moving"), bodies(), (FIXED_PLACE, MOVING_PLACE), strict=True):
        np.save(folder / f"{name}.npy", array)
        images[name] = {"array": f"{name}.npy", "ras_from_ijk": matrix.tolist(), "name": name}
    config = {"model": "none", "initial": "affine", "device": "cpu", "refinement_steps": 12}
    request = {"id": 1, "job": "register", "spec": {"folder": str(folder), **images, "config": config}}
    command = [sys.executable, "-m", "autofuse_engine", "worker"]
    log = folder / "log.txt"
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, stderr=errors, encoding="utf-8") as worker,
    ):
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(request) + "\n")
        worker.stdin.flush()
        events = (json.loads(line) for line in worker.stdout)
        last = next((event for event in events if event["event"] in ("result", "error")), None)
        worker.stdin.close()
    assert last is not None, log.read_text(encoding="utf-8")
    assert last["event"] == "result", last
    return last


@pytest.fixture
def scene(host, answer: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Fixed and moving volume, each under a linear parent, and the result."""
    import slicer

    from AutoFuseLib.Geometry import Grid
    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Transforms import importTransformSteps
    from AutoFuseLib.Volumes import exportVolumeSteps, importVolumeSteps

    nodes: dict[str, Any] = {}
    parents = {"fixed": PARENT, "moving": np.linalg.inv(PARENT)}
    for name, array, matrix in zip(("fixed", "moving"), bodies(), (FIXED_PLACE, MOVING_PLACE), strict=True):
        nodes[name] = volumeNode(name, array, np.linalg.inv(parents[name]) @ matrix)
        nodes[name].SetAndObserveTransformNodeID(linearNode(parents[name], f"P of {name}").GetID())
        spec = exhaust(exportVolumeSteps(nodes[name], tmp_path / f"{name}.npy"))
        assert np.abs(np.array(spec["ras_from_ijk"]) - matrix).max() < 1e-9
    report, files = answer["report"], answer["files"]
    for name, covered in (("transform", "fixed"), ("inverse", "moving")):
        nodes[name] = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", name)
        grid = Grid.ofVolume(nodes[covered])
        exhaust(importTransformSteps(nodes[name], report[name], files, grid))
    nodes["warped"] = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "warped")
    exhaust(importVolumeSteps(nodes["warped"], Path(files["warped"]), report["outputs"]["warped"]["ras_from_ijk"]))
    return nodes


def test_the_registration_deforms_and_aligns(answer: dict[str, Any]) -> None:
    metrics = answer["report"]["metrics"]
    assert metrics["after"]["ncc"] > 0.97 > metrics["before"]["ncc"]
    assert len(answer["report"]["transform"]) == 2


def test_slicers_resampling_gives_the_engines_warped_image(scene: dict[str, Any], answer: dict[str, Any]) -> None:
    import slicer
    import slicer.util

    from AutoFuseLib.Placement import putUnder

    putUnder(scene["moving"], scene["transform"])
    resampled = slicer.modules.volumes.logic().ResampleVolumeToReferenceVolume(scene["moving"], scene["warped"])
    warped = slicer.util.arrayFromVolume(scene["warped"])
    to = judge(answer["report"]["transform"], answer["files"])
    voxels = places(FIXED_SHAPE, FIXED_PLACE).reshape(-1, 3)
    ijk = mapped(np.linalg.inv(MOVING_PLACE), itkPoints(to, voxels))
    inside = ((ijk > 0.01) & (ijk < np.array(MOVING_SHAPE[::-1]) - 1.01)).all(axis=1).reshape(FIXED_SHAPE)
    assert inside.mean() > 0.5
    difference = np.abs(slicer.util.arrayFromVolume(resampled) - warped)[inside]
    assert difference.max() < 1e-5 * np.ptp(warped)


def test_landmarks_models_and_segments_of_the_moving_image_land_on_the_fixed_one(
    scene: dict[str, Any], answer: dict[str, Any]
) -> None:
    import slicer
    import vtk

    from AutoFuseLib.Placement import putUnder

    fixedPoints = pointsIn(FIXED_SHAPE, FIXED_PLACE, 30, margin=2)
    movingPoints = itkPoints(judge(answer["report"]["transform"], answer["files"]), fixedPoints)
    engineBack = itkPoints(judge(answer["report"]["inverse"], answer["files"]), movingPoints)
    markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Points")
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "Model")
    points = vtk.vtkPoints()
    for point in movingPoints:
        markups.AddControlPoint(*point.tolist())
        points.InsertNextPoint(*point)
    surface = vtk.vtkPolyData()
    surface.SetPoints(points)
    model.SetAndObservePolyData(surface)
    for node in (markups, model):
        putUnder(node, scene["transform"])
    model.HardenTransform()
    for number, (fixedPoint, back) in enumerate(zip(fixedPoints, engineBack, strict=True)):
        found = np.array(markups.GetNthControlPointPositionWorld(number))
        assert np.abs(found - fixedPoint).max() < 1e-3
        assert np.linalg.norm(found - back) < 0.1
        assert np.abs(np.array(model.GetPolyData().GetPoint(number)) - fixedPoint).max() < 1e-3


def test_the_inverse_node_is_the_engines_inverse(scene: dict[str, Any], answer: dict[str, Any]) -> None:
    points = pointsIn(MOVING_SHAPE, MOVING_PLACE, 200, margin=-0.49)
    wanted = itkPoints(judge(answer["report"]["inverse"], answer["files"]), points)
    found = [scene["inverse"].GetTransformFromParent().TransformPoint(*point) for point in points]
    assert np.abs(np.array(found) - wanted).max() < 2e-5


@pytest.mark.parametrize("name", ["transform", "inverse"])
def test_saved_by_slicer_and_read_by_simpleitk_it_is_the_same(
    scene: dict[str, Any], answer: dict[str, Any], tmp_path: Path, name: str
) -> None:
    import SimpleITK as sitk
    import slicer.util

    from AutoFuseLib.Transforms import makeNodeLinear

    path = tmp_path / "Transformation ß.h5"
    assert slicer.util.saveNode(scene[name], str(path))
    shape, matrix = (FIXED_SHAPE, FIXED_PLACE) if name == "transform" else (MOVING_SHAPE, MOVING_PLACE)
    points = pointsIn(shape, matrix, 100, margin=-0.49)
    wanted = itkPoints(judge(answer["report"][name], answer["files"]), points)
    assert np.abs(itkPoints(sitk.ReadTransform(str(path)), points) - wanted).max() < 1e-6
    again = slicer.util.loadTransform(str(path))
    makeNodeLinear(again)
    found = [again.GetTransformFromParent().TransformPoint(*point) for point in points]
    assert np.abs(np.array(found) - wanted).max() < 2e-5
