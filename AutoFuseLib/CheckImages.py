"""The images that the visual checks of one result show: nodes of the scene, and hidden volumes that are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer.util
import vtk
from numpy.typing import NDArray

from AutoFuseLib import CheckVolumes
from AutoFuseLib.DeformationDisplay import niceAbove
from AutoFuseLib.Geometry import Grid
from AutoFuseLib.HiddenNodes import inScene, removeNodes
from AutoFuseLib.ResultNodes import ResultNodes
from AutoFuseLib.Steps import Steps

_SQUARES = 8


def hasImage(node: Any) -> bool:
    """Whether a volume is in the scene and has voxels."""
    return inScene(node) and node.GetImageData() is not None


class CheckImages:
    """Computes images on the fixed grid, keeps what may be wanted again, and owns the hidden nodes that show them."""

    def __init__(self, result: ResultNodes) -> None:
        self._result = result
        self._hidden: dict[str, Any] = {}
        self._resampled: dict[bool, tuple[Any, NDArray]] = {}

    @property
    def squareMm(self) -> float:
        """A handy side of a checkerboard's squares: some eight to sixteen along the fixed image."""
        bounds = np.zeros(6)
        self._result.fixed.GetRASBounds(bounds)
        return niceAbove(float((bounds[1::2] - bounds[::2]).max()) / (2 * _SQUARES))

    def warpedSteps(self) -> Steps[NDArray | None]:
        """The warped image, float32 (k, j, i) on the fixed grid, where the result has no node of it; else None."""
        if hasImage(self._result.warped):
            return None
        return (yield from self._otherSteps(True))

    def differenceSteps(self, after: bool) -> Steps[NDArray]:
        """Warped (or moving) minus fixed; see :func:`AutoFuseLib.CheckVolumes.differenceSteps`."""
        fixed = slicer.util.arrayFromVolume(self._result.fixed)
        other = yield from self._otherSteps(after)
        return (yield from CheckVolumes.differenceSteps(fixed, other, *self._ranges()))

    def checkerboardSteps(self, after: bool, squareMm: float) -> Steps[NDArray]:
        """See :func:`AutoFuseLib.CheckVolumes.checkerboardSteps`."""
        fixed = slicer.util.arrayFromVolume(self._result.fixed)
        other = yield from self._otherSteps(after)
        grid = Grid.ofVolume(self._result.fixed)
        return (yield from CheckVolumes.checkerboardSteps(fixed, other, *self._ranges(), grid, squareMm))

    def _ranges(self) -> tuple[CheckVolumes.Range, CheckVolumes.Range]:
        """Of the fixed and of the moving image, which the warped one shares."""
        fixed, moving = (slicer.util.arrayFromVolume(node) for node in (self._result.fixed, self._result.moving))
        return CheckVolumes.intensityRange(fixed), CheckVolumes.intensityRange(moving)

    def _otherSteps(self, after: bool) -> Steps[NDArray]:
        """:meth:`onGridSteps` of the fixed grid; kept until :meth:`forget`."""
        result = self._result
        source = result.warped if after and hasImage(result.warped) else result.moving
        key = self._state(source)
        known = self._resampled.get(after)
        if known is not None and known[0] == key:
            return known[1]
        values = yield from self.onGridSteps(after, Grid.ofVolume(result.fixed))
        self._resampled[after] = (key, values)
        return values

    def onGridSteps(self, after: bool, grid: Grid) -> Steps[NDArray]:
        """The warped image, or the moving one where it lay, on any grid; float32 (k, j, i), NaN outside of it.

        Where the result has no warped volume, the moving one is looked up through the transform.
        """
        result = self._result
        if after and hasImage(result.warped):
            return (yield from CheckVolumes.onGridSteps(result.warped, grid))
        through = result.transform.GetTransformFromParent() if after else None
        bare = self._movingIsUnderResult()
        return (yield from CheckVolumes.onGridSteps(result.moving, grid, through=through, ignoreParent=bare))

    def _state(self, source: Any) -> tuple[Any, ...]:
        """Changes when an image or its place does."""
        nodes = (source, self._result.fixed, *(node.GetParentTransformNode() for node in (source, self._result.fixed)))
        times = [node.GetTransformToWorldMTime() if node.IsA("vtkMRMLTransformNode") else node.GetMTime()
                 for node in nodes if node is not None]  # fmt: skip
        return source.GetID(), source.GetImageData().GetMTime(), *times

    def _movingIsUnderResult(self) -> bool:
        """Whether the user has put the moving volume under the result's transform, to see it registered."""
        parent = self._result.moving.GetParentTransformNode()
        return parent is not None and parent is self._result.transform

    def movingNode(self) -> Any:
        """The moving volume where it lay; a hidden copy without parent if it was put under the result."""
        moving = self._result.moving
        if not self._movingIsUnderResult():
            return moving
        copy, matrix = self._volume("moving"), vtk.vtkMatrix4x4()
        moving.GetIJKToRASMatrix(matrix)
        copy.SetIJKToRASMatrix(matrix)
        copy.SetAndObserveImageData(moving.GetImageData())
        _copyLook(moving, copy)
        return copy

    def computedNode(self, values: NDArray, like: Any = None) -> Any:
        """The hidden volume that shows an array (k, j, i) on the fixed grid.

        Args:
            values: the array; the node keeps it.
            like: a volume whose colours and window it takes, or None.
        """
        node = self._volume("check")
        CheckVolumes.fillVolume(node, values, Grid.ofVolume(self._result.fixed))
        if like is not None:
            _copyLook(like, node)
        return node

    def _volume(self, role: str) -> Any:
        if not inScene(self._hidden.get(role)):
            self._hidden[role] = CheckVolumes.newHiddenVolume(f"AutoFuse {role}")
        return self._hidden[role]

    def refresh(self, result: ResultNodes) -> None:
        """The nodes of the result have new content: what was computed from them is dropped."""
        self._result = result
        self._resampled.clear()

    def forget(self) -> None:
        """Remove the hidden nodes and drop the arrays."""
        self._resampled.clear()
        for node in self._hidden.values():
            display = node.GetDisplayNode()
            removeNodes(node, display)
        self._hidden.clear()


def _copyLook(source: Any, target: Any) -> None:
    """Give a volume the colours, window and interpolation of another one."""
    model, display = source.GetDisplayNode(), target.GetDisplayNode()
    if model is None:
        return
    with slicer.util.NodeModify(display):
        if model.GetColorNodeID():
            display.SetAndObserveColorNodeID(model.GetColorNodeID())
        display.SetWindowLevel(model.GetWindow(), model.GetLevel())
        display.SetInterpolate(model.GetInterpolate())
