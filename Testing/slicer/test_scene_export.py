"""Exported files: transforms that SimpleITK, the engine and Slicer read alike, figures as JSON and CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scene_parts import (
    AFFINE,
    FIXED_PLACE,
    FIXED_SHAPE,
    GRID_PLACE,
    GRID_SHAPE,
    MOVING_PLACE,
    MOVING_SHAPE,
    chain,
    itkPoints,
    judge,
    linearNode,
    mapped,
    pointsIn,
)

from autofuse_engine.errors import FileError

NAME = "Größe mit Leerzeichen"


def imported(folder: Path, kind: str, place: np.ndarray = FIXED_PLACE, shape: Any = FIXED_SHAPE) -> Any:
    import slicer

    from AutoFuseLib.Geometry import Grid
    from AutoFuseLib.Steps import exhaust
    from AutoFuseLib.Transforms import importTransformSteps

    steps, files = chain(folder, "affine then grid" if kind == "inverse" else kind)
    if kind == "inverse":
        steps[0] = {"matrix_ras": np.linalg.inv(AFFINE).tolist()}
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Transform")
    exhaust(importTransformSteps(node, steps, files, Grid(place, shape)))
    return node, judge(steps, files)


def readByItk(path: Path) -> sitk.Transform:
    if path.suffix in (".h5", ".tfm", ".txt"):
        return sitk.ReadTransform(str(path))
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))


@pytest.mark.parametrize("ending", [".h5", ".nii.gz", ".nii", ".nrrd", ".mha"])
def test_simpleitk_the_engine_and_slicer_read_a_transform_alike(host, tmp_path: Path, ending: str) -> None:
    import slicer

    from autofuse_engine.data.transform_files import read_transform
    from AutoFuseLib.Export import exportTransform
    from AutoFuseLib.Transforms import makeNodeLinear

    node, itk = imported(tmp_path, "grid then affine")
    count = slicer.mrmlScene.GetNumberOfNodes()
    path = exportTransform(node, tmp_path / f"{NAME}{ending}")
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert node.GetStorageNode() is None
    points = pointsIn(FIXED_SHAPE, FIXED_PLACE, margin=-0.49)
    wanted = itkPoints(itk, points)
    tolerance = 1e-4 if "nii" in ending else 2e-5  # NIfTI keeps places in 32 bits
    assert np.abs(itkPoints(readByItk(path), points) - wanted).max() < tolerance
    assert np.abs(read_transform(path).transform_points(points) - wanted).max() < tolerance
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformStorageNode")
    again = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Again")
    storage.SetFileName(str(path))
    assert storage.ReadData(again)
    makeNodeLinear(again)
    moved = np.array([again.GetTransformFromParent().TransformPoint(*point) for point in points])
    assert np.abs(moved - wanted).max() < tolerance


@pytest.mark.parametrize(("ending", "tolerance"), [(".h5", 2e-5), (".nrrd", 0.3), (".nii.gz", 0.3)])
def test_an_inverse_whose_grid_is_sheared_is_exact_in_h5_and_regular_in_images(
    host, tmp_path: Path, ending: str, tolerance: float
) -> None:
    """Here the nodes of the regular grid lie 4 mm apart, between those of the sheared one; the field is rough."""
    from AutoFuseLib.Export import exportTransform

    node, itk = imported(tmp_path, "inverse", MOVING_PLACE, MOVING_SHAPE)
    path = exportTransform(node, tmp_path / f"{NAME}{ending}")
    points = pointsIn(MOVING_SHAPE, MOVING_PLACE, margin=1)
    difference = itkPoints(readByItk(path), points) - itkPoints(itk, points)
    assert np.abs(difference).max() < tolerance
    if ending != ".h5":
        direction = np.array(sitk.ReadImage(str(path)).GetDirection()).reshape(3, 3)
        assert np.abs(direction.T @ direction - np.eye(3)).max() < 1e-6


@pytest.mark.parametrize("ending", [".tfm", ".txt"])
def test_a_matrix_is_saved_as_a_matrix_and_a_deformation_is_not(host, tmp_path: Path, ending: str) -> None:
    from AutoFuseLib.Export import exportTransform

    node, itk = imported(tmp_path, "two matrices")
    path = exportTransform(node, tmp_path / f"{NAME}{ending}")
    read = sitk.ReadTransform(str(path))
    assert read.IsLinear()
    points = pointsIn(FIXED_SHAPE, FIXED_PLACE)
    assert np.abs(itkPoints(read, points) - itkPoints(itk, points)).max() < 1e-9
    bent, _ = imported(tmp_path, "grid then affine")
    with pytest.raises(FileError) as raised:
        exportTransform(bent, tmp_path / f"bent{ending}")
    assert raised.value.code == "transform-not-linear"
    assert ".h5" in raised.value.hint
    assert not (tmp_path / f"bent{ending}").exists()


def test_what_cannot_be_written_is_an_error_with_a_cure_and_leaves_the_old_file(
    host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from AutoFuseLib.Export import exportReportJson, exportTransform

    node, _ = imported(tmp_path, "grid")
    with pytest.raises(FileError) as raised:
        exportTransform(node, tmp_path / "t.xyz")
    assert raised.value.code == "output-format-unknown"
    (tmp_path / "folder.h5").mkdir()
    for path in (tmp_path / "missing" / "t.h5", tmp_path / "folder.h5"):
        with pytest.raises(FileError) as raised:
            exportTransform(node, path)
        assert raised.value.code == "output-not-writable"
        assert raised.value.hint
    old = tmp_path / "report.json"
    old.write_text("old", encoding="utf-8")

    def refuse(*_: Any) -> None:
        raise PermissionError("in use")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(FileError) as raised:
        exportReportJson({}, old)
    assert raised.value.code == "output-not-writable"
    monkeypatch.undo()
    assert old.read_text(encoding="utf-8") == "old"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_file_is_replaced_whole(host, tmp_path: Path) -> None:
    from AutoFuseLib.Export import exportTransform

    path = tmp_path / "t.h5"
    path.write_bytes(b"old")
    node, itk = imported(tmp_path, "grid")
    exportTransform(node, path)
    points = pointsIn(GRID_SHAPE, GRID_PLACE)
    assert np.abs(itkPoints(sitk.ReadTransform(str(path)), points) - itkPoints(itk, points)).max() < 1e-5


def test_a_node_that_is_no_grid_is_a_programmers_error(host, tmp_path: Path) -> None:
    from AutoFuseLib.Export import exportTransform

    with pytest.raises(ValueError, match="grid"):
        exportTransform(linearNode(AFFINE), tmp_path / "t.h5")


REPORT = {
    "metrics": {
        "before": {"ncc": 0.25, "dice": {"1": 0.5, "2": None}, "dice_mean": 0.5},
        "initial": {"ncc": 0.5, "dice": {"1": 0.75, "2": 0.125}, "dice_mean": 0.4375},
        "after": {"ncc": 0.75, "dice": {"1": 0.875, "2": 0.25}, "dice_mean": 0.5625, "tre_mean_mm": 1.5},
    },
    "folding_percent": 0.0,
    "folding_count": 0,
    "inverse_consistency_mm": {"mean": 0.01, "p99": 0.02, "max": float("nan")},
}


def test_the_figures_are_a_flat_table(host, tmp_path: Path) -> None:
    from AutoFuseLib.Export import exportReportCsv

    path = exportReportCsv(REPORT, tmp_path / f"{NAME}.csv", {1: "Größe, links"})
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["metric", "label", "before", "initial", "after"],
        ["ncc", "", "0.25", "0.5", "0.75"],
        ["dice", "Größe, links", "0.5", "0.75", "0.875"],
        ["dice", "2", "", "0.125", "0.25"],
        ["dice_mean", "", "0.5", "0.4375", "0.5625"],
        ["tre_mean_mm", "", "", "", "1.5"],
        ["folding_percent", "", "", "", "0.0"],
        ["folding_count", "", "", "", "0"],
        ["inverse_consistency_mean_mm", "", "", "", "0.01"],
        ["inverse_consistency_p99_mm", "", "", "", "0.02"],
        ["inverse_consistency_max_mm", "", "", "", ""],
    ]


def test_the_report_is_json_that_every_program_reads(host, tmp_path: Path) -> None:
    from AutoFuseLib.Export import exportReportJson

    path = exportReportJson(REPORT, tmp_path / f"{NAME}.json")
    read = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert read["metrics"] == REPORT["metrics"]
    assert read["inverse_consistency_mm"]["max"] is None


def test_the_matrix_of_a_grid_is_that_of_its_chain(host, tmp_path: Path) -> None:
    from AutoFuseLib.Export import matrixOfGrid

    node, _ = imported(tmp_path, "affine")
    grid = node.GetTransformFromParentAs("vtkOrientedGridTransform", False, True)
    found = matrixOfGrid(grid)
    points = pointsIn(FIXED_SHAPE, FIXED_PLACE)
    assert np.abs(mapped(found, points) - mapped(AFFINE, points)).max() < 1e-9
    assert np.abs(found - AFFINE).max() < 1e-10
