"""Grid, arrows and contours of a result's deformation in slice and 3D views, with Slicer's own transform display.

What is drawn is the deformation beyond the initial alignment: of a pair that lies 30 mm apart, arrows of 30 mm
everywhere would hide what the deformation does. It is drawn as Slicer draws every transform, from where tissue lay to
where it was taken in the fixed image, so that the lines fit the warped image.

The transforms are hidden nodes made of the result's own live transform and the inverse of the initial matrix: nothing
is copied or resampled, and the display of the result's transform node stays as the user set it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import slicer
import slicer.util
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util import numpy_support

from AutoFuseLib.CheckColors import ON_ANY_GREY, newColorFunction, newLegend
from AutoFuseLib.CheckVolumes import inverseOf
from AutoFuseLib.Geometry import Grid, mapPoints
from AutoFuseLib.HiddenNodes import inScene, newHiddenNode, removeNodes
from AutoFuseLib.Steps import Steps

Mode = Literal["grid", "arrows", "contours"]

_NICE = (1.0, 2.0, 5.0, 10.0)
_SURVEY_POINTS = 4000
_LEAST_REACH_MM = 0.1
_LINE_PIXELS = 2
_LEGEND_LABELS = 5
_CONTOUR_OPACITY = 0.4


@dataclass(frozen=True)
class Sizes:
    """Distances of one display, mm.

    Attributes:
        reach: displacement that 99 % of the fixed image's foreground stay below, rounded up.
        gridSpacing: between grid lines.
        arrowSpacing: between arrows.
        arrowScale: how many times longer than true arrows are drawn.
        levels: of the contours.
        sampling2d: between the points of contours in slice views.
        sampling3d: in 3D views, where all of the volume is sampled.
    """

    reach: float
    gridSpacing: float
    arrowSpacing: float
    arrowScale: float
    levels: tuple[float, ...]
    sampling2d: float
    sampling3d: float


def niceAbove(value: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below ``value`` (> 0)."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in _NICE if step * power >= value * (1 - 1e-9)))


def sizesFor(extentMm: float, reachMm: float) -> Sizes:
    """What suits an image of this longest side and displacements up to this length; a few millimetres to a metre."""
    reach = max(reachMm, _LEAST_REACH_MM)
    step = niceAbove(reach / 6)
    top = step * np.ceil(reach / step - 1e-9)
    arrows = extentMm / 24
    scales = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
    scale = max(scale for scale in scales if scale == 1.0 or scale * reach <= 2 * arrows)
    return Sizes(
        reach=float(top),
        gridSpacing=extentMm / 20,
        arrowSpacing=arrows,
        arrowScale=scale,
        levels=tuple(float(level) for level in np.arange(step, top + step / 2, step)),
        sampling2d=extentMm / 80,
        sampling3d=extentMm / 40,
    )


class DeformationDisplay:
    """The deformation of one result in the views, from its making until :meth:`remove`."""

    def __init__(
        self, mode: Mode, transformNode: Any, fixedNode: Any, initialMatrix: NDArray, planes: Sequence[Any]
    ) -> None:
        """Prepare it; :meth:`revealSteps` shows it.

        Args:
            mode: what to draw.
            transformNode: the result, fixed to moving points.
            fixedNode: the fixed volume, on which it is drawn; under linear parent transforms.
            initialMatrix: 4x4 of the initial alignment, fixed to moving points; RAS, mm.
            planes: slice nodes whose planes 3D views show, empty for no 3D view. A grid is drawn on these planes, as a
                block of grid lines would be a tangle; arrows and contours throughout the fixed volume.
        """
        self._nodes: list[Any] = []
        self.node = self._hidden("vtkMRMLTransformNode", "AutoFuse deformation")
        self.node.SetAndObserveTransformFromParent(beyondInitial(transformNode, initialMatrix))
        bounds = np.zeros(6)
        fixedNode.GetRASBounds(bounds)
        extent = float((bounds[1::2] - bounds[::2]).max())
        self.sizes = sizesFor(extent, _reach(self.node, fixedNode))
        colors = newColorFunction("AutoFuse displacement colors", ON_ANY_GREY, self.sizes.reach)
        self._displays = [self._display(mode, fixedNode, colors, in3d=False)]
        for region in planes if mode == "grid" else planes[:1] and [fixedNode]:
            self._displays.append(self._display(mode, region, colors, in3d=True))
        self._legend = newLegend(self._displays[0], _("Moved, mm"), _LEGEND_LABELS, "%.1f")
        self._nodes = [colors, *self._nodes, self._legend]

    def revealSteps(self) -> Steps[None]:
        """Let it appear, one display after the other: Slicer computes what it draws at that moment."""
        for display in self._displays:
            if inScene(display):
                display.SetVisibility(True)
                self._legend.Modified()
            yield

    def remove(self) -> None:
        """Take it out of the views and the scene."""
        removeNodes(*reversed(self._nodes))
        self._nodes.clear()

    def _hidden(self, className: str, name: str) -> Any:
        node = newHiddenNode(className, name)
        self._nodes.append(node)
        return node

    def _display(self, mode: Mode, region: Any, colors: Any, *, in3d: bool) -> Any:
        """A display node, not visible yet. Slicer sets some values while it draws; with those set, it draws once."""
        sizes = self.sizes
        display = self._hidden("vtkMRMLTransformDisplayNode", f"{self.node.GetName()} display")
        with slicer.util.NodeModify(display):
            display.SetVisibility(False)
            display.SetAndObserveColorNodeID(colors.GetID())
            display.SetVisibility2D(not in3d)
            display.SetVisibility3D(in3d)
            display.SetAndObserveRegionNode(region)
            display.SetScalarVisibility(True)
            display.SetAutoScalarRange(False)
            display.SetScalarRange(0.0, sizes.reach)
            display.SetBackfaceCulling(mode != "contours")
            display.SetOpacity(_CONTOUR_OPACITY if mode == "contours" else 1.0)
            display.SetSliceIntersectionThickness(_LINE_PIXELS)
            display.SetVisualizationMode(
                {
                    "grid": display.VIS_MODE_GRID,
                    "arrows": display.VIS_MODE_GLYPH,
                    "contours": display.VIS_MODE_CONTOUR,
                }[mode]
            )
            display.SetGridSpacingMm(sizes.gridSpacing)
            display.SetGridResolutionMm(sizes.gridSpacing / 5)
            display.SetGridLineDiameterMm(sizes.gridSpacing / 16)
            display.SetGlyphType(display.GLYPH_TYPE_ARROW)
            display.SetGlyphSpacingMm(sizes.arrowSpacing)
            display.SetGlyphScalePercent(100 * sizes.arrowScale)
            display.SetGlyphDisplayRangeMinMm(0.0)
            display.SetGlyphDisplayRangeMaxMm(1e6)
            display.SetGlyphDiameterMm(sizes.arrowSpacing / 5)
            display.SetContourLevelsMmFromString(" ".join(f"{level:g}" for level in sizes.levels))
            display.SetContourResolutionMm(sizes.sampling3d if in3d else sizes.sampling2d)
            display.SetContourOpacity(_CONTOUR_OPACITY)
        self.node.AddAndObserveDisplayNodeID(display.GetID())
        return display


def beyondInitial(transformNode: Any, initialMatrix: NDArray) -> Any:
    """Fixed point to the point that the initial alignment alone takes to the same place of the moving image."""
    transform = vtk.vtkGeneralTransform()
    transform.PostMultiply()
    transform.Concatenate(transformNode.GetTransformFromParent())
    transform.Concatenate(inverseOf(initialMatrix))
    return transform


def _reach(transformNode: Any, fixedNode: Any) -> float:
    """99th percentile of the displacement over the brighter half of the fixed image, mm."""
    grid = Grid.ofVolume(fixedNode)
    array = slicer.util.arrayFromVolume(fixedNode)
    step = max(1, int(np.ceil((array.size / _SURVEY_POINTS) ** (1 / 3))))
    survey = np.asarray(array[::step, ::step, ::step], dtype=np.float64)
    bright = survey > np.nanmean(survey)
    found = np.argwhere(bright if bright.any() else np.ones_like(bright)) * step
    points = mapPoints(grid.rasFromIjk, found[:, ::-1])
    sampled, moved = vtk.vtkPoints(), vtk.vtkPoints()
    for holder in (sampled, moved):
        holder.SetDataTypeToDouble()
    sampled.SetData(numpy_support.numpy_to_vtk(points, deep=1))
    transformNode.GetTransformFromParent().TransformPoints(sampled, moved)
    lengths = np.linalg.norm(numpy_support.vtk_to_numpy(moved.GetData()) - points, axis=1)
    return float(np.percentile(lengths, 99))
