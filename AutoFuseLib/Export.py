"""Save a result outside of the scene: transforms for other programs, figures as JSON and CSV.

Files appear whole or not at all, and the nodes' own storage (what File > Save writes) is not touched.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from numpy.typing import NDArray

from autofuse_engine.errors import FileError
from autofuse_engine.events import finite
from AutoFuseLib.ArrayFiles import arrayOf, writeError
from AutoFuseLib.Geometry import isSheared, regularGridAround, shapeOf
from AutoFuseLib.Resampling import Reslicer
from AutoFuseLib.Transforms import orientedGrid

FIELD_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""One displacement field; the identity outside of its box."""

MATRIX_ENDINGS = (".tfm", ".txt")
"""One matrix."""

ENDINGS = (".h5", *FIELD_ENDINGS, *MATRIX_ENDINGS)
COLUMNS = ("metric", "label", "before", "initial", "after")
_LINEAR_MM = 1e-6
_TIMES = ("before", "initial", "after")


def exportTransform(node: Any, path: str | Path) -> Path:
    """Save a transform of a result, as ITK, SimpleITK, ANTs and Slicer read it.

    Args:
        node: the transform or the inverse, vtkMRMLGridTransformNode with one oriented grid from parent.
        path: its ending says how: ``.h5`` is exact always; ``.nii.gz``, ``.nii``, ``.nrrd``, ``.mha`` hold a
            displacement field on axes at right angles, onto which an inverse may have to be resampled (its error is
            that of linear interpolation between nodes); ``.tfm``, ``.txt`` hold a matrix, where the transform is one.

    Returns:
        The path.

    Raises:
        FileError: ``output-format-unknown``, ``transform-not-linear``, ``output-not-writable`` or ``disk-full``.
    """
    path = Path(path)
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise FileError(
            "output-format-unknown",
            f"The name of the transform file {path} has an unknown ending.",
            f"Choose one of {', '.join(ENDINGS)}.",
        )
    grid = node.GetTransformFromParentAs("vtkOrientedGridTransform", False, True)
    if grid is None:
        raise ValueError(f"{node.GetName()} is not a grid from parent")
    written: Any
    if ending in MATRIX_ENDINGS:
        matrix = matrixOfGrid(grid)
        if matrix is None:
            raise FileError(
                "transform-not-linear",
                f"The transform {node.GetName()} is a deformation, and a {ending} file holds a matrix.",
                "Choose .h5 (exact) or .nii.gz (a displacement field).",
            )
        written = slicer.vtkMRMLLinearTransformNode()
        written.SetMatrixTransformFromParent(slicer.util.vtkMatrixFromArray(matrix))
    elif ending in FIELD_ENDINGS and isSheared(rasFromNodes(grid)):
        written = slicer.vtkMRMLGridTransformNode()
        written.SetAndObserveTransformFromParent(_atRightAngles(grid))
    else:
        written = slicer.vtkMRMLGridTransformNode()
        written.SetAndObserveTransformFromParent(grid)
    with replacing(path) as temporary:
        storage = slicer.vtkMRMLTransformStorageNode()
        storage.SetFileName(str(temporary))
        if not storage.WriteData(written) or not temporary.is_file():
            raise writeError(path, None)
    return path


def exportReportJson(report: Mapping[str, Any], path: str | Path) -> Path:
    """Save a report as JSON; numbers that are not finite become null.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``.
    """
    return _writeText(Path(path), json.dumps(finite(report), indent=2, ensure_ascii=False) + "\n")


def exportReportCsv(report: Mapping[str, Any], path: str | Path, labelNames: Mapping[int, str] | None = None) -> Path:
    """Save the figures of a report as a table ``metric,label,before,initial,after``.

    Args:
        report: the worker's report.
        path: the file; UTF-8 with a mark, which spreadsheets want.
        labelNames: names of the labels, for the column ``label``.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows(reportRows(report, labelNames or {}))
    return _writeText(Path(path), "\ufeff" + text.getvalue())


def reportRows(report: Mapping[str, Any], labelNames: Mapping[int, str]) -> list[tuple[str, str, Any, Any, Any]]:
    """The figures as rows of :data:`COLUMNS`; empty texts where there is no figure."""
    metrics = report.get("metrics") or {}
    times = [metrics.get(time) or {} for time in _TIMES]
    rows: list[tuple[str, str, Any, Any, Any]] = []
    for metric in dict.fromkeys(key for figures in times for key in figures):
        values = [figures.get(metric) for figures in times]
        if not any(isinstance(value, Mapping) for value in values):
            rows.append((metric, "", *map(_shown, values)))  # type: ignore[arg-type]
            continue
        maps = [value if isinstance(value, Mapping) else {} for value in values]
        for label in sorted({int(key) for figures in maps for key in figures}):
            found = [figures.get(str(label), figures.get(label)) for figures in maps]
            rows.append((metric, labelNames.get(label, str(label)), *map(_shown, found)))  # type: ignore[arg-type]
    consistency = report.get("inverse_consistency_mm") or {}
    single = {"folding_percent": report.get("folding_percent"), "folding_count": report.get("folding_count")}
    single |= {f"inverse_consistency_{name}_mm": value for name, value in consistency.items()}
    rows += [(name, "", "", "", _shown(value)) for name, value in single.items() if value is not None]
    return rows


def rasFromNodes(grid: Any) -> NDArray[np.float64]:
    """4x4 from the nodes (i, j, k) of a vtkOrientedGridTransform to RAS, mm."""
    image = grid.GetDisplacementGrid()
    rasFromIjk = np.eye(4)
    directions = grid.GetGridDirectionMatrix()
    if directions is not None:
        rasFromIjk = slicer.util.arrayFromVTKMatrix(directions)
    rasFromIjk[:3, :3] *= np.array(image.GetSpacing())
    rasFromIjk[:3, 3] = image.GetOrigin()
    return rasFromIjk


def matrixOfGrid(grid: Any) -> NDArray[np.float64] | None:
    """4x4, RAS mm, of a vtkOrientedGridTransform that holds nothing but a matrix; else None."""
    displacement, place = arrayOf(grid.GetDisplacementGrid()), rasFromNodes(grid)
    depth, height, width = displacement.shape[:3]
    if min(depth, height, width) < 2:
        return None
    slope = np.stack(
        [(displacement[0, 0, -1] - displacement[0, 0, 0]) / (width - 1),
         (displacement[0, -1, 0] - displacement[0, 0, 0]) / (height - 1),
         (displacement[-1, 0, 0] - displacement[0, 0, 0]) / (depth - 1)], axis=1)  # fmt: skip
    along = [np.multiply.outer(np.arange(count), slope[:, axis]) for axis, count in ((0, width), (1, height))]
    for k in range(depth):
        expected = displacement[0, 0, 0] + k * slope[:, 2] + along[1][:, None] + along[0]
        if np.abs(displacement[k] - expected).max() > _LINEAR_MM:
            return None
    matrix = np.eye(4)
    matrix[:3, :3] += slope @ np.linalg.inv(place[:3, :3])
    matrix[:3, 3] = displacement[0, 0, 0] + place[:3, 3] - matrix[:3, :3] @ place[:3, 3]
    return matrix


def _atRightAngles(grid: Any) -> Any:
    """The same displacements on a grid of about the same spacing with right angles; image formats need that."""
    source, place = grid.GetDisplacementGrid(), rasFromNodes(grid)
    target = regularGridAround(place, shapeOf(source))
    reslicer = Reslicer(source, place, target)
    image = vtk.vtkImageData()
    depth, height, width = target.shape
    values = reslicer.values((slice(0, depth), slice(0, height), slice(0, width)))
    image.SetDimensions(width, height, depth)
    image.AllocateScalars(vtk.VTK_DOUBLE, 3)
    arrayOf(image)[...] = values
    return orientedGrid(image, target.rasFromIjk)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` with the same ending; it takes the place of ``path`` when all went well.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise writeError(path, None)
    ending = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
    temporary = path.with_name(f".autofuse-{secrets.token_hex(6)}{ending}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise writeError(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _writeText(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return path


def _shown(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and value != value) else value
