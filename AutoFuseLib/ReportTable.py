"""The figures of a result as a table: for the panel, and for a table node that Slicer shows and saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import slicer.util
import vtk
from slicer.i18n import tr as _

from autofuse_engine.verdict import judge

Row = tuple[str, str, str, str]
"""Figure with its unit, before, after the initial alignment, after all."""

_ABSENT = "-"


def headers() -> Row:
    """Titles of the four columns."""
    return _("Figure"), _("Before"), _("After initial alignment"), _("After registration")


def rows(report: Mapping[str, Any], names: Mapping[int, str]) -> list[Row]:
    """Every figure of a report that it has, the verdict first, segments last.

    Args:
        report: of the worker; figures that are absent or null have no row.
        names: of the segments by label; others are called by their number.

    Returns:
        Texts with as many decimals as mean something; "-" where one of three times has no figure, and empty where a
        figure is one of the result, not of a time.
    """
    return [
        (_("Verdict"), "", "", judge(report).text),
        *((_("Warning"), "", "", str(item.get("text", ""))) for item in report.get("warnings") or ()),
        *_summary(report),
        *_result(report),
        *_run(report),
        *_segments(report, names),
    ]


def fillTable(tableNode: Any, report: Mapping[str, Any], names: Mapping[int, str]) -> None:
    """Put :func:`rows` into a vtkMRMLTableNode in place of what it held."""
    found = rows(report, names)
    titles = headers()
    with slicer.util.NodeModify(tableNode):
        tableNode.RemoveAllColumns()
        for column, title in enumerate(titles):
            array = vtk.vtkStringArray()
            array.SetName(title)
            array.SetNumberOfValues(len(found))
            for index, row in enumerate(found):
                array.SetValue(index, row[column])
            tableNode.AddColumn(array)
            tableNode.SetColumnType(title, vtk.VTK_STRING)
        tableNode.SetColumnDescription(titles[0], _("What is measured, with its unit"))
        tableNode.SetColumnDescription(titles[1], _("The images where the scene has them"))
        tableNode.SetColumnDescription(titles[2], _("The moving image where the search started"))
        tableNode.SetColumnDescription(titles[3], _("The moving image under the whole transform"))
        tableNode.SetUseColumnTitleAsColumnHeader(True)
        tableNode.SetUseFirstColumnAsRowHeader(False)
        tableNode.SetLocked(True)


def _summary(report: Mapping[str, Any]) -> Iterator[Row]:
    for key, name, decimals in (
        ("tre_mean_mm", _("Landmark error, mean, mm"), 2),
        ("dice_mean", _("Dice, mean of the segments"), 3),
        ("hd95_mean_mm", _("HD95, mean of the segments, mm"), 2),
        ("ncc", _("Correlation of intensities (NCC)"), 3),
    ):
        values = [at.get(key) for at in _times(report)]
        if any(value is not None for value in values):
            yield _row(name, values, decimals)


def _result(report: Mapping[str, Any]) -> Iterator[Row]:
    inverse = report.get("inverse_consistency_mm") or {}
    yield from _single(_("Folding, % of the cells"), report.get("folding_percent"), 3)
    yield from _single(_("Folding, cells"), report.get("folding_count"), 0)
    yield from _single(_("Error of the inverse, mean, mm"), inverse.get("mean"), 3)
    yield from _single(_("Error of the inverse, 99 % below, mm"), inverse.get("p99"), 3)


def _run(report: Mapping[str, Any]) -> Iterator[Row]:
    for stage, value in (report.get("seconds") or {}).items():
        name = _("Time, total, s") if stage == "total" else _("Time, {stage}, s").format(stage=stage)
        yield from _single(name, value, 1)
    yield from _single(_("Peak memory, GiB"), report.get("peak_memory_gib"), 2)
    origin = report.get("provenance") or {}
    for key, name in (("device", _("Device")), ("model", _("Model")), ("engine", _("AutoFuse version"))):
        if origin.get(key) is not None:
            yield name, "", "", str(origin[key])


def _segments(report: Mapping[str, Any], names: Mapping[int, str]) -> Iterator[Row]:
    times = _times(report)
    labels = {label for at in times for key in ("dice", "hd95_mm") for label in at.get(key) or {}}
    for label in sorted(labels, key=int):
        name = names.get(int(label)) or _("label {label}").format(label=label)
        for key, title, decimals in (("dice", _("Dice, {name}"), 3), ("hd95_mm", _("HD95, {name}, mm"), 2)):
            values = [(at.get(key) or {}).get(label) for at in times]
            yield _row(title.format(name=name), values, decimals)


def _times(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    metrics = report.get("metrics") or {}
    return [metrics.get(time) or {} for time in ("before", "initial", "after")]


def _single(name: str, value: Any, decimals: int) -> Iterator[Row]:
    if value is not None:
        yield name, "", "", _text(value, decimals)


def _row(name: str, values: Sequence[Any], decimals: int) -> Row:
    before, initial, after = (_text(value, decimals) for value in values)
    return name, before, initial, after


def _text(value: Any, decimals: int) -> str:
    finite = isinstance(value, (int, float)) and value == value and abs(value) != float("inf")
    return f"{value:.{decimals}f}" if finite else _ABSENT
