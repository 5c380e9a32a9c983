"""The curves of a run as plot nodes of the scene: a table and a series for each line, and one chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

from .Curves import LOSS, Curve

ATTRIBUTE = "AutoFuse.curve"
_STEP = "step"


def fillChart(kind: str, runName: str, curves: Sequence[Curve], logarithmic: bool) -> Any:
    """Fill the chart of a kind; the nodes of an earlier call are used again.

    Args:
        kind: ``loss`` or ``validation``.
        runName: stands in the title.
        curves: the lines.
        logarithmic: whether values stand on a logarithmic scale.

    Returns:
        The vtkMRMLPlotChartNode.
    """
    chart = _node("vtkMRMLPlotChartNode", kind, _("Training {kind}").format(kind=kind))
    series = [_series(kind, number, curve) for number, curve in enumerate(curves)]
    with slicer.util.NodeModify(chart):
        wanted = [node.GetID() for node in series]
        if [chart.GetNthPlotSeriesNodeID(number) for number in range(chart.GetNumberOfPlotSeriesNodes())] != wanted:
            chart.RemoveAllPlotSeriesNodeIDs()
            for identifier in wanted:
                chart.AddAndObservePlotSeriesNodeID(identifier)
        chart.SetTitle(f"{runName}: {_('loss') if kind == LOSS else _('validation')}")
        chart.SetXAxisTitle(_("Step"))
        chart.SetYAxisTitle(_("Loss") if kind == LOSS else _("Mean over the validation pairs"))
        chart.SetYAxisLogScale(logarithmic)
        chart.SetLegendVisibility(True)
    return chart


def findChart(kind: str) -> Any:
    """The chart of a kind in this scene, or None."""
    return _find("vtkMRMLPlotChartNode", kind)


def _series(kind: str, number: int, curve: Curve) -> Any:
    table = _node("vtkMRMLTableNode", f"{kind}.{number}", _("Training {name} table").format(name=curve.name))
    _fillTable(table, curve)
    series = _node("vtkMRMLPlotSeriesNode", f"{kind}.{number}", curve.name)
    with slicer.util.NodeModify(series):
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(_STEP)
        series.SetYColumnName(curve.name)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleSolid)
        series.SetLineWidth(curve.width)
        circle, none = slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle, slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone
        series.SetMarkerStyle(circle if curve.markers else none)
        series.SetColor(*curve.color)
    return series


def _fillTable(table: Any, curve: Curve) -> None:
    with slicer.util.NodeModify(table):
        table.RemoveAllColumns()
        for name, values in ((_STEP, curve.x), (curve.name, curve.y)):
            array = vtk.vtkDoubleArray()
            array.SetName(name)
            array.SetNumberOfValues(len(values))
            for index, value in enumerate(values):
                array.SetValue(index, value)
            table.AddColumn(array)
        table.SetLocked(True)


def _node(className: str, key: str, name: str) -> Any:
    node = _find(className, key)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass(className, name)
        node.SetAttribute(ATTRIBUTE, key)
    return node


def _find(className: str, key: str) -> Any:
    nodes = slicer.util.getNodesByClass(className)
    return next((node for node in nodes if node.GetAttribute(ATTRIBUTE) == key), None)
