"""A small registration result made of formulas, in a scene: oblique, anisotropic, left-handed, with a folded block.

The fixed image is what the moving image is at ``transform(x)``, so that a right display shows no difference "after".
Slicer's modules are imported inside the functions: the host must be there first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scene_parts import AFFINE, centred, mapped, place, turn

FIXED_SHAPE, MOVING_SHAPE, GRID_SHAPE = (20, 26, 24), (28, 27, 36), (15, 16, 17)
MIDDLE = (6.0, -12.0, 9.0)
FIXED_PLACE = centred(FIXED_SHAPE, MIDDLE, place((-2.0, 1.5, 2.5), (0, 0, 0), turn((1, 2, 3), 0.25)))
MOVING_PLACE = centred(
    MOVING_SHAPE, tuple(mapped(AFFINE, MIDDLE)), place((1.75, -2.25, 2.5), (0, 0, 0), turn((3, -1, 1), -0.3))
)
GRID_PLACE = centred(GRID_SHAPE, MIDDLE, place((4.0, 4.0, 4.5), (0, 0, 0), turn((1, 2, 3), 0.25)))
FOLDED = np.s_[8:12, 10:15, 9:14]
FOLDING_COUNT = 4 * 5 * 5
REACH_MM = 4.0
SLICES = ("Red", "Green", "Yellow")


def figures(ncc: float, dice: float, absent: float | None, hd95: float) -> dict[str, Any]:
    """Of one time: label 1 is in both images, label 2 in neither."""
    return {
        "ncc": ncc,
        "dice": {"1": dice, "2": absent},
        "dice_mean": dice,
        "hd95_mm": {"1": hd95},
        "hd95_mean_mm": hd95,
    }


REPORT = {
    "metrics": {
        "before": figures(0.31, 0.42, float("nan"), 9.0),
        "initial": figures(0.55, 0.60, float("nan"), 5.0),
        "after": figures(0.97, 0.91, None, 1.25),
    },
    "folding_percent": 0.6234,
    "folding_count": FOLDING_COUNT,
    "inverse_consistency_mm": {"mean": 0.0421, "p99": 0.1499, "max": 0.3},
    "seconds": {"initial alignment": 2.61, "refinement": 37.7, "total": 48.66},
    "peak_memory_gib": 1.0437,
    "gate_means": None,
    "initial_matrix_ras": AFFINE.tolist(),
    "warnings": [{"code": "less-memory", "text": "The working grid is coarser than wished."}],
    "provenance": {"engine": "0.1.0", "device": "cuda:0", "model": "brain-t1", "config": {"similarity": "lncc"}},
}


def points(shape: tuple[int, int, int], matrix: np.ndarray) -> np.ndarray:
    """(k, j, i, 3): RAS of voxels."""
    k, j, i = np.indices(shape)
    return mapped(matrix, np.stack([i, j, k], axis=-1))


def bump(ras: np.ndarray) -> np.ndarray:
    """Displacement beyond the initial alignment, at most REACH_MM along R, half of it against A."""
    weight = np.exp(-(((ras - MIDDLE) ** 2).sum(axis=-1)) / (2 * 9.0**2))
    return weight[..., None] * np.array([REACH_MM, -REACH_MM / 2, 0.0])


def transformed(ras: np.ndarray) -> np.ndarray:
    """The result: fixed to moving points."""
    return mapped(AFFINE, ras + bump(ras))


def movingValues(ras: np.ndarray) -> np.ndarray:
    """The moving image everywhere: a body with a bright ball at its own right, 0 to 1000."""
    own = mapped(np.linalg.inv(AFFINE), ras) - MIDDLE
    body = 400.0 / (1 + np.exp((np.linalg.norm(own / (1.0, 0.9, 1.1), axis=-1) - 17.0) / 1.5))
    ball = 600.0 * np.exp(-(((own - (8.0, 3.0, 2.0)) ** 2).sum(axis=-1)) / (2 * 3.5**2))
    return body + ball


def addVolume(name: str, values: np.ndarray, matrix: np.ndarray, className: str = "vtkMRMLScalarVolumeNode") -> Any:
    import slicer.util

    node = slicer.util.addVolumeFromArray(values, matrix, name, className)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    if className == "vtkMRMLScalarVolumeNode":
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(0, 1000)
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    return node


def gridTransform() -> Any:
    """vtkGeneralTransform of the result, from parent: the bump on its own grid, then the matrix."""
    import slicer
    import slicer.util
    import vtk
    from vtk.util import numpy_support

    image = vtk.vtkImageData()
    image.SetDimensions(*GRID_SHAPE[::-1])
    spacing = np.linalg.norm(GRID_PLACE[:3, :3], axis=0)
    image.SetSpacing(*spacing)
    image.SetOrigin(*GRID_PLACE[:3, 3])
    field = bump(points(GRID_SHAPE, GRID_PLACE)).reshape(-1, 3)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(field, deep=1))
    directions = np.eye(4)
    directions[:3, :3] = GRID_PLACE[:3, :3] / spacing
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetGridDirectionMatrix(slicer.util.vtkMatrixFromArray(directions))
    grid.SetInterpolationModeToLinear()
    matrix = vtk.vtkTransform()
    matrix.SetMatrix(slicer.util.vtkMatrixFromArray(AFFINE))
    chain = vtk.vtkGeneralTransform()
    chain.PostMultiply()
    chain.Concatenate(grid)
    chain.Concatenate(matrix)
    return chain


def makeResult(*, warped: bool = True, uncertainty: bool = True) -> Any:
    """ResultNodes in the scene."""
    import slicer

    from AutoFuseLib.ResultNodes import ResultNodes

    registered = movingValues(transformed(points(FIXED_SHAPE, FIXED_PLACE)))
    jacobian = np.linspace(0.5, 1.5, FIXED_SHAPE[0])[:, None, None] * np.ones(FIXED_SHAPE)
    jacobian[FOLDED] = -0.02
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "CT day 8 to CT day 1")
    transform.SetAndObserveTransformFromParent(gridTransform())
    spread = (0.8 * np.linspace(0, 1, FIXED_SHAPE[2]) * np.ones(FIXED_SHAPE)).astype(np.float32)
    return ResultNodes(
        transform=transform,
        fixed=addVolume("CT day 1", registered.astype(np.float32), FIXED_PLACE),
        moving=addVolume("CT day 8", movingValues(points(MOVING_SHAPE, MOVING_PLACE)).astype(np.int16), MOVING_PLACE),
        warped=addVolume("warped", registered.astype(np.float32), FIXED_PLACE) if warped else None,
        jacobian=addVolume("jacobian", jacobian.astype(np.float32), FIXED_PLACE),
        uncertainty=addVolume("uncertainty", spread, FIXED_PLACE) if uncertainty else None,
        report=dict(REPORT),
    )


def shownPixels(host: Any, name: str, artefact: str | None = None) -> np.ndarray:
    """Picture of a slice view, or of the first 3D view for "3D": (height, width, 3), int, first line on top."""
    import qt
    import slicer

    manager = slicer.app.layoutManager()
    view = manager.threeDWidget(0).threeDView() if name == "3D" else manager.sliceWidget(name).sliceView()
    if artefact:
        host.screenshot(view, f".artefacts/slicer/{artefact}_{name}.png")
    image = view.grab().toImage().convertToFormat(qt.QImage.Format_RGB888)
    width, height = image.width(), image.height()
    lines = np.frombuffer(image.constBits(), np.uint8).reshape(height, image.bytesPerLine())
    return lines[:, : 3 * width].reshape(height, width, 3).astype(int)


def pixelAt(name: str, ras: Any, pixels: np.ndarray) -> np.ndarray:
    """Colour that a slice view shows at a point."""
    import slicer

    x, y, _ = slicer.app.layoutManager().sliceWidget(name).sliceView().convertRASToXYZ(tuple(ras))
    return pixels[pixels.shape[0] - 1 - round(y), round(x)]


def lookAt(name: str, ras: Any) -> None:
    """Move a slice view's plane through a point."""
    import slicer

    slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().JumpSliceByOffsetting(*(float(value) for value in ras))


def composite(name: str = "Red") -> Any:
    """The layers of a slice view."""
    import slicer

    return slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()


def layers(name: str = "Red") -> tuple[str | None, str | None, float]:
    """Names of background and foreground, and the foreground's opacity."""
    import slicer

    node = composite(name)
    ids = (node.GetBackgroundVolumeID(), node.GetForegroundVolumeID())
    background, foreground = (slicer.mrmlScene.GetNodeByID(i).GetName() if i else None for i in ids)
    return background, foreground, node.GetForegroundOpacity()


def hiddenNodes() -> list[str]:
    """Names of the nodes that only serve a check."""
    import slicer.util

    return [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLNode") if "AutoFuse" in node.GetName()]
