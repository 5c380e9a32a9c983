"""The results table and the plot of the fusion gates: every figure at its place, readable, and filled again."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_result import REPORT

GATES = [
    {"stage": 2, "level": 1, "pair_weight": 0.25},
    {"stage": 3, "level": 2, "pair_weight": 0.5},
    {"stage": 8, "level": 0, "pair_weight": 0.875},
]


def cells(table):
    columns = table.GetNumberOfColumns()
    return [
        tuple(table.GetCellText(row, column) for column in range(columns)) for row in range(table.GetNumberOfRows())
    ]


def test_the_verdict_comes_first_and_segments_last_by_their_names(host):
    from autofuse_engine.verdict import judge
    from AutoFuseLib.ReportTable import rows

    found = rows(REPORT, {1: "Left hippocampus"})
    assert found[0] == ("Verdict", "", "", judge(REPORT).text)
    assert found[1] == ("Warning", "", "", "The working grid is coarser than wished.")
    assert found[-4:] == [
        ("Dice, Left hippocampus", "0.420", "0.600", "0.910"),
        ("HD95, Left hippocampus, mm", "9.00", "5.00", "1.25"),
        ("Dice, label 2", "-", "-", "-"),
        ("HD95, label 2, mm", "-", "-", "-"),
    ]
    assert all(len(row) == 4 and all(isinstance(text, str) for text in row) for row in found)


@pytest.mark.parametrize(
    "row",
    [
        ("Dice, mean of the segments", "0.420", "0.600", "0.910"),
        ("HD95, mean of the segments, mm", "9.00", "5.00", "1.25"),
        ("Correlation of intensities (NCC)", "0.310", "0.550", "0.970"),
        ("Folding, % of the cells", "", "", "0.623"),
        ("Folding, cells", "", "", "100"),
        ("Error of the inverse, mean, mm", "", "", "0.042"),
        ("Error of the inverse, 99 % below, mm", "", "", "0.150"),
        ("Time, initial alignment, s", "", "", "2.6"),
        ("Time, refinement, s", "", "", "37.7"),
        ("Time, total, s", "", "", "48.7"),
        ("Peak memory, GiB", "", "", "1.04"),
        ("Device", "", "", "cuda:0"),
        ("Model", "", "", "brain-t1"),
    ],
)
def test_each_figure_has_its_row_with_its_unit(host, row):
    from AutoFuseLib.ReportTable import rows

    assert row in rows(REPORT, {})


def test_what_a_report_lacks_has_no_row_and_landmarks_have_theirs(host):
    from AutoFuseLib.ReportTable import rows

    assert len(rows({}, {})) == 1
    names = [row[0] for row in rows(REPORT, {})]
    assert not any("Landmark" in name for name in names)
    metrics = {time: {"tre_mean_mm": value} for time, value in (("before", 7.125), ("initial", None), ("after", 0.5))}
    found = rows({"metrics": metrics, "peak_memory_gib": None}, {})
    assert found[1:] == [("Landmark error, mean, mm", "7.12", "-", "0.50")]


def test_a_table_node_holds_the_rows_and_can_be_filled_again(host):
    import slicer

    from AutoFuseLib.ReportTable import fillTable, headers, rows

    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "figures")
    fillTable(table, REPORT, {1: "Left hippocampus", 2: "Größe"})
    assert cells(table) == rows(REPORT, {1: "Left hippocampus", 2: "Größe"})
    assert tuple(table.GetColumnName(column) for column in range(4)) == headers()
    assert table.GetUseColumnTitleAsColumnHeader()
    fillTable(table, {"folding_count": 3}, {})
    assert cells(table)[1:] == [("Folding, cells", "", "", "3")]


def test_the_gate_plot_shows_the_share_of_the_pair_path_at_each_stage(host):
    import slicer.util

    from AutoFuseLib.GatePlot import fillPlot, tooltip

    chart = fillPlot({"gate_means": GATES}, "CT day 8")
    series = chart.GetPlotSeriesNode()
    table = series.GetTableNode()
    assert slicer.util.arrayFromTableColumn(table, series.GetXColumnName()).tolist() == [2, 3, 8]
    assert slicer.util.arrayFromTableColumn(table, series.GetYColumnName()).tolist() == [25.0, 50.0, 87.5]
    labels = table.GetTable().GetColumnByName(series.GetLabelColumnName())
    assert [labels.GetValue(row) for row in range(3)] == [
        "stage 2, 1/2 of the resolution",
        "stage 3, 1/4 of the resolution",
        "stage 8, full resolution",
    ]
    assert chart.GetTitle()
    assert "%" in chart.GetYAxisTitle()
    assert chart.GetYAxisRange() == (0.0, 100.0)
    assert tooltip().count(".") == 1


def test_a_plot_is_filled_again_without_new_nodes_and_is_absent_without_gates(host):
    import slicer

    from AutoFuseLib.GatePlot import fillPlot

    chart = fillPlot({"gate_means": GATES}, "CT")
    count = slicer.mrmlScene.GetNumberOfNodes()
    assert fillPlot({"gate_means": GATES[:1]}, "CT", chart) is chart
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert chart.GetNumberOfPlotSeriesNodes() == 1
    assert chart.GetPlotSeriesNode().GetTableNode().GetNumberOfRows() == 1
    for report in ({}, {"gate_means": None}, {"gate_means": []}):
        assert fillPlot(report, "CT") is None
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert np.isfinite(chart.GetXAxisRange()).all()
