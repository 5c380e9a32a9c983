"""Colours of the visual checks and their legends.

Volumes take tables of 256 colours, transform displays take functions of mm; both are hidden nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import slicer.util
from numpy.typing import NDArray

from AutoFuseLib.HiddenNodes import newHiddenNode

Anchors = Sequence[tuple[float, float, float]]

BLUE_WHITE_RED: Anchors = (
    (0.02, 0.19, 0.42), (0.20, 0.52, 0.80), (0.65, 0.83, 0.93), (0.97, 0.97, 0.97),
    (0.98, 0.75, 0.64), (0.86, 0.33, 0.26), (0.45, 0.00, 0.12),
)  # fmt: skip
PURPLE_WHITE_ORANGE: Anchors = (
    (0.20, 0.02, 0.36), (0.45, 0.33, 0.66), (0.75, 0.73, 0.88), (0.97, 0.97, 0.97),
    (0.99, 0.76, 0.46), (0.85, 0.45, 0.06), (0.48, 0.22, 0.03),
)  # fmt: skip
DARK_TO_BRIGHT: Anchors = (
    (0.02, 0.01, 0.10), (0.36, 0.07, 0.43), (0.75, 0.22, 0.32), (0.97, 0.55, 0.07), (0.99, 0.98, 0.62),
)  # fmt: skip
ON_ANY_GREY: Anchors = ((0.00, 0.55, 1.00), (0.00, 0.72, 0.35), (0.95, 0.55, 0.00), (0.95, 0.05, 0.25))
"""Saturated and of middle brightness, so that lines stand out from black, grey and white alike."""

FOLD: tuple[float, float, float] = (1.0, 0.9, 0.0)
"""Not on the scale of the Jacobian."""

TABLE_SIZE = 256
_LEGEND_POINTS = 11
_LEGEND_SHADE = 0.55
"""Of the ground behind the letters, which stand on white as well as on black."""

FOLD_SHARE = 51
"""Entries of the Jacobian's table below 0: with a range from -0.5 to 2, entry 51 begins at 0 exactly."""

JACOBIAN_RANGE = (-0.5, 2.0)
JACOBIAN_REACH = 2.0
"""Full colours at this determinant and at its reciprocal."""


def between(anchors: Anchors, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours (N, 3) at positions (N,) in 0..1 along evenly spaced anchors; clipped beyond."""
    known = np.asarray(anchors, dtype=np.float64)
    places = np.linspace(0.0, 1.0, len(known))
    return np.stack([np.interp(positions, places, known[:, channel]) for channel in range(3)], axis=-1)


def evenColors(anchors: Anchors) -> NDArray[np.float64]:
    """(256, 3) along a scale."""
    return between(anchors, np.linspace(0.0, 1.0, TABLE_SIZE))


def jacobianPosition(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place of determinants on the diverging scale: logarithmic, 1 in the middle, 1/2 and 2 at the ends."""
    safe = np.maximum(values, 1e-6)
    return np.clip(0.5 + 0.5 * np.log(safe) / np.log(JACOBIAN_REACH), 0.0, 1.0)


def jacobianColors() -> NDArray[np.float64]:
    """(256, 3) over JACOBIAN_RANGE; what folds, below 0, has the colour FOLD. Slicer rounds values down to entries."""
    low, high = JACOBIAN_RANGE
    starts = low + (high - low) * np.arange(TABLE_SIZE) / (TABLE_SIZE - 1)
    colors = between(PURPLE_WHITE_ORANGE, jacobianPosition(starts))
    colors[:FOLD_SHARE] = FOLD
    return colors


def newColorTable(name: str, colors: NDArray[np.float64]) -> Any:
    """A hidden vtkMRMLColorTableNode of 256 opaque colours (256, 3)."""
    node = newHiddenNode("vtkMRMLColorTableNode", name)
    with slicer.util.NodeModify(node):
        node.SetTypeToUser()
        node.SetNumberOfColors(TABLE_SIZE)
        for index, (red, green, blue) in enumerate(colors):
            node.SetColor(index, str(index), red, green, blue, 1.0)
    return node


def newColorFunction(name: str, anchors: Anchors, highest: float) -> Any:
    """A hidden vtkMRMLProceduralColorNode from 0 to ``highest``, as displays of transforms need it."""
    node = newHiddenNode("vtkMRMLProceduralColorNode", name)
    function = node.GetColorTransferFunction()
    function.RemoveAllPoints()
    for position, color in zip(np.linspace(0.0, highest, len(anchors)), anchors, strict=True):
        function.AddRGBPoint(position, *color)
    return node


def newLegend(displayNode: Any, title: str, labels: int, labelFormat: str) -> Any:
    """A colour bar at the right side of all views that show what ``displayNode`` displays; a hidden node.

    Slicer's views look for the bar's volume when the bar is modified, not when their layers are: after a change of
    layers, call its ``Modified``.
    """
    legend = newHiddenNode("vtkMRMLColorLegendDisplayNode", f"{title} legend")
    with slicer.util.NodeModify(legend):
        legend.SetAndObservePrimaryDisplayNode(displayNode)
        legend.SetTitleText(title)
        legend.SetLabelFormat(labelFormat)
        legend.SetNumberOfLabels(labels)
        legend.SetMaxNumberOfColors(TABLE_SIZE)
        legend.SetSize(0.12, 0.45)
        legend.SetPosition(0.99, 0.5)
        for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
            text.SetFontFamilyToArial()
            text.SetFontSize(_LEGEND_POINTS)
            text.SetColor(1.0, 1.0, 1.0)
            text.SetBackgroundColor(0.0, 0.0, 0.0)
            text.SetBackgroundOpacity(_LEGEND_SHADE)
            text.SetShadow(False)
            text.SetBold(False)
            text.SetItalic(False)
    displayNode.GetDisplayableNode().AddAndObserveDisplayNodeID(legend.GetID())
    legend.Modified()
    return legend
