"""A plot of what the network's fusion gates did with a pair of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

_STAGE, _SHARE, _PLACE = "stage", "pair path, %", "place"


def tooltip() -> str:
    """What the plot shows, in a sentence."""
    return _(
        "At each stage a gate mixes what the network sees in the two images together (pair path) with what it sees in "
        "each image alone: 100 % means that only the pair path passes, 0 % that only the single images do."
    )


def fillPlot(report: Mapping[str, Any], name: str, chartNode: Any = None) -> Any:
    """Plot the mean share of the pair path at each fusion gate.

    Args:
        report: of the worker; ``gate_means`` lists ``{"stage", "level", "pair_weight"}``, weights in 0..1.
        name: of the result, for the nodes.
        chartNode: a chart of an earlier call, whose series and table are filled again; None makes new nodes.

    Returns:
        The vtkMRMLPlotChartNode; its series node refers to the table. None where the report has no gates, as without
        a model: ``chartNode`` is left as it was then.
    """
    gates = report.get("gate_means")
    if not gates:
        return None
    series = chartNode.GetPlotSeriesNode() if chartNode is not None else None
    table = series.GetTableNode() if series is not None else None
    if chartNode is None:
        chartNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", _("{name} gates").format(name=name))
    if series is None:
        series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", _("{name} gate series").format(name=name))
    if table is None:
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", _("{name} gate table").format(name=name))
    stages = [int(gate["stage"]) for gate in gates]
    _fillTable(table, gates, stages)
    with slicer.util.NodeModify(series):
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(_STAGE)
        series.SetYColumnName(_SHARE)
        series.SetLabelColumnName(_PLACE)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleSolid)
        series.SetLineWidth(2)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle)
        series.SetMarkerSize(9)
        series.SetColor(0.0, 0.45, 0.70)
    with slicer.util.NodeModify(chartNode):
        chartNode.RemoveAllPlotSeriesNodeIDs()
        chartNode.AddAndObservePlotSeriesNodeID(series.GetID())
        chartNode.SetTitle(_("How much the fusion gates rely on the pair of images"))
        chartNode.SetXAxisTitle(_("Stage of the network, first to last"))
        chartNode.SetYAxisTitle(_("Share of the pair path, %"))
        chartNode.SetLegendVisibility(False)
        chartNode.SetXAxisRangeAuto(False)
        chartNode.SetXAxisRange(min(stages) - 0.5, max(stages) + 0.5)
        chartNode.SetYAxisRangeAuto(False)
        chartNode.SetYAxisRange(0.0, 100.0)
    return chartNode


def removePlot(chartNode: Any) -> None:
    """Take a chart that :func:`fillPlot` made out of the scene, with its series and table."""
    series = chartNode.GetPlotSeriesNode()
    for node in (series.GetTableNode() if series is not None else None, series, chartNode):
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)


def _fillTable(table: Any, gates: list[Mapping[str, Any]], stages: list[int]) -> None:
    columns = (
        (vtk.vtkIntArray, _STAGE, stages),
        (vtk.vtkDoubleArray, _SHARE, [100.0 * float(gate["pair_weight"]) for gate in gates]),
        (vtk.vtkStringArray, _PLACE, [_place(gate) for gate in gates]),
    )
    with slicer.util.NodeModify(table):
        table.RemoveAllColumns()
        for kind, name, values in columns:
            array = kind()
            array.SetName(name)
            for value in values:
                array.InsertNextValue(value)
            table.AddColumn(array)
        table.SetColumnDescription(_STAGE, _("Number of the stage, in the order of computation"))
        table.SetColumnUnitLabel(_SHARE, "%")
        table.SetColumnDescription(_SHARE, tooltip())
        table.SetLocked(True)


def _place(gate: Mapping[str, Any]) -> str:
    level = int(gate["level"])
    resolution = _("full resolution") if level == 0 else _("1/{part} of the resolution").format(part=2**level)
    return _("stage {stage}, {resolution}").format(stage=gate["stage"], resolution=resolution)
