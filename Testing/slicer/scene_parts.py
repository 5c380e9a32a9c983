"""What the tests of the scene share: places without symmetry, nodes, a chain of the worker, and SimpleITK as judge.

Slicer's modules are imported inside the functions: the host must be there first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def turn(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    """3x3 rotation about an axis."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def place(spacing: tuple[float, float, float], origin: tuple[float, float, float], rotation: np.ndarray) -> np.ndarray:
    """4x4; negative spacings flip an axis."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.array(spacing)
    matrix[:3, 3] = origin
    return matrix


def centred(shape: tuple[int, int, int], middle: tuple[float, float, float], axes: np.ndarray) -> np.ndarray:
    """4x4 of an image whose middle lies at a point; ``axes`` is 4x4."""
    matrix = axes.copy()
    matrix[:3, 3] = middle - axes[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return matrix


FIXED_SHAPE, MOVING_SHAPE, GRID_SHAPE = (14, 18, 16), (19, 16, 22), (9, 10, 11)
FIXED_PLACE = centred(FIXED_SHAPE, (3, -2, 4), place((-2.0, 1.5, 2.5), (0, 0, 0), turn((1, 2, 3), 0.35)))  # left-handed
MOVING_PLACE = centred(MOVING_SHAPE, (5, -5, 8), place((1.75, -2.25, 2.0), (0, 0, 0), turn((3, -1, 1), -0.4)))
GRID_PLACE = centred(GRID_SHAPE, (3, -2, 4), place((4.0, 4.0, 4.5), (0, 0, 0), turn((1, 2, 3), 0.35)))
AFFINE = np.array([[1.05, 0.1, 0, 3], [-0.08, 0.95, 0.05, -4], [0.02, 0.03, 1.1, 5], [0, 0, 0, 1.0]])
RIGID = place((1.0, 1.0, 1.0), (3.0, -5.0, 4.0), turn((0, 1, 1), 0.3))
PARENT = place((1.0, 1.0, 1.0), (12.0, 7.0, -9.0), turn((2, 1, -1), 0.6))
SHEAR = np.array([[1.0, 0.3, 0, 2], [0, 1.1, 0.2, -3], [0, 0, 0.9, 1], [0, 0, 0, 1.0]])


def mapped(matrix: np.ndarray, points: Any) -> np.ndarray:
    return np.asarray(points, dtype=float) @ matrix[:3, :3].T + matrix[:3, 3]


def blobs(shape: tuple[int, int, int], seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """A smooth image without symmetry, values 0 to 1000."""
    k, j, i = (axis / (side - 1) for axis, side in zip(np.indices(shape), shape, strict=True))
    rng = np.random.default_rng(seed)
    image = sum(
        amplitude * np.exp(-(((k - z) ** 2 + (j - y) ** 2 + (i - x) ** 2) / 0.08))
        for amplitude, z, y, x in zip(*rng.uniform(0.25, 0.75, (4, 6)), strict=True)
    )
    return (1000 * (image - image.min()) / (image.max() - image.min())).astype(dtype)


def tapered() -> np.ndarray:
    """Displacements (k, j, i, 3) in mm up to 3 mm that are zero on the border of their grid, as the engine's are."""
    k, j, i = (axis / (side - 1) for axis, side in zip(np.indices(GRID_SHAPE), GRID_SHAPE, strict=True))
    window = np.sin(np.pi * k) * np.sin(np.pi * j) * np.sin(np.pi * i)
    waves = (np.sin(4 * j), np.cos(3 * k), np.sin(3 * i + 1))
    field = np.stack([3.0 * window * wave for wave in waves], axis=-1)
    for axis in range(3):
        np.moveaxis(field, axis, 0)[[0, -1]] = 0
    return field.astype(np.float32)


def chain(folder: Path, kind: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A transform as in the worker's answer: its report's chain, and its files."""
    path = folder / "displacement ä.npy"
    np.save(path, tapered())
    grid = {"displacement": "displacement", "ras_from_ijk": GRID_PLACE.tolist()}
    affine, rigid = ({"matrix_ras": matrix.tolist()} for matrix in (AFFINE, RIGID))
    steps = {
        "grid": [grid],
        "grid then affine": [grid, affine],
        "affine then grid": [affine, grid],
        "rigid, grid, affine": [rigid, grid, affine],
        "affine": [affine],
        "two matrices": [rigid, affine],
    }
    return steps[kind], {"displacement": str(path)}


def judge(steps: list[dict[str, Any]], files: dict[str, str]) -> sitk.Transform:
    """The same chain as an ITK transform, LPS."""
    composite = sitk.CompositeTransform(3)
    for step in reversed(steps):  # ITK applies what was added last first
        if "matrix_ras" in step:
            matrix = LPS @ np.array(step["matrix_ras"]) @ LPS
            part: sitk.Transform = sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())
        else:
            values = np.load(files[step["displacement"]]).astype(np.float64) * [-1, -1, 1]
            image = sitk.GetImageFromArray(values, isVector=True)
            put(image, np.array(step["ras_from_ijk"]))
            part = sitk.DisplacementFieldTransform(image)
        composite.AddTransform(part)
    return composite


def put(image: sitk.Image, rasFromIjk: np.ndarray) -> sitk.Image:
    """Place an ITK image."""
    matrix = LPS @ rasFromIjk
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    return image


def itkImage(array: np.ndarray, rasFromIjk: np.ndarray) -> sitk.Image:
    return put(sitk.GetImageFromArray(array), rasFromIjk)


def itkPoints(transform: sitk.Transform, pointsRas: np.ndarray) -> np.ndarray:
    """RAS points through an ITK transform."""
    lps = np.asarray(pointsRas) * [-1, -1, 1]
    return np.array([transform.TransformPoint(point.tolist()) for point in lps]) * [-1, -1, 1]


def pointsIn(shape: tuple[int, int, int], rasFromIjk: np.ndarray, count: int = 200, margin: float = 0.0) -> np.ndarray:
    """Random points in the box of an image, RAS."""
    high = np.array(shape[::-1]) - 1 - margin
    return mapped(rasFromIjk, np.random.default_rng(1).uniform(margin, high, (count, 3)))


def volumeNode(name: str, array: np.ndarray, rasFromIjk: np.ndarray, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
    import slicer.util

    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(rasFromIjk))
    node.CreateDefaultDisplayNodes()
    return node


def linearNode(matrix: np.ndarray, name: str = "Parent") -> Any:
    """A transform node, given to parent."""
    import slicer.util

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def bendingNode() -> Any:
    """A transform node that bends by up to 6 mm: a thin-plate spline."""
    import slicer
    import vtk

    rng = np.random.default_rng(5)
    corners = np.array(np.meshgrid([-60, 60], [-60, 60], [-60, 60])).T.reshape(-1, 3).astype(float)
    inner = rng.uniform(-25, 25, (5, 3))
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for point in (*corners, *inner):
        source.InsertNextPoint(*point)
        target.InsertNextPoint(*(point + rng.uniform(-6, 6, 3)))
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Bend")
    node.SetAndObserveTransformToParent(spline)
    return node


def segmentationNode(
    name: str, labels: np.ndarray, rasFromIjk: np.ndarray, names: list[str], separate: bool = False
) -> Any:
    """A segmentation whose n-th segment holds label n + 1; each in a labelmap of its own if ``separate``."""
    import slicer.util

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    for number, title in enumerate(names, start=1):
        identifier = node.GetSegmentation().AddEmptySegment(f"id {title} {number}", title, (0.1 * number, 0.5, 0.2))
        image = volumeNode("temporary", (labels == number).astype(np.uint8), rasFromIjk, "vtkMRMLLabelMapVolumeNode")
        slicer.util.updateSegmentBinaryLabelmapFromArray((labels == number).astype(np.uint8), node, identifier, image)
        slicer.mrmlScene.RemoveNode(image)
    if not separate:
        node.GetSegmentation().CollapseBinaryLabelmaps(False)
    return node
