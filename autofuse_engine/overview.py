"""The one picture that shows whether to trust a registration; needs ``matplotlib``, imported on first use."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autofuse_engine.data.atomic import write_error
from autofuse_engine.data.volume import Volume
from autofuse_engine.overview_pictures import Labels, Painter
from autofuse_engine.overview_planes import Plane, planes_through
from autofuse_engine.registration import RegistrationResult
from autofuse_engine.verdict import judge

_DPI = 110
_COLUMN, _GAP, _LEFT, _RIGHT, _TOP, _BOTTOM = 2.35, 0.07, 0.42, 0.15, 1.1, 2.05
"""Inches."""

_TITLES = (
    "Fixed",
    "Moving, before",
    "Moving, registered",
    "Difference before",
    "Difference after",
    "Checkerboard:\nfixed, registered",
    "Grid of the moving image\non the fixed image",
    "Jacobian determinant",
)
_DIFFERENCES, _JACOBIAN = (3, 4), (7, 7)
_BRIGHT_COLUMNS = (3, 4, 7)


def save_overview(
    path: Path, fixed: Volume, moving: Volume, result: RegistrationResult, labels: Labels | None = None
) -> None:
    """Draw a registration as a PNG file.

    Args:
        path: of the file; its folder exists.
        fixed: the fixed image.
        moving: the moving image in its own place: "before" is how the two headers lay it onto the fixed image.
        result: what ``register`` returned for the two.
        labels: outlines to draw; those of the registered image come from the result.

    Raises:
        FileError: if the file cannot be written.
    """
    figure = draw_overview(fixed, moving, result, labels)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")  # names in scripts without a font here
            figure.savefig(path, dpi=_DPI, metadata={"Title": f"{moving.name} registered to {fixed.name}"})
    except OSError as error:
        raise write_error(path, error) from error


def draw_overview(fixed: Volume, moving: Volume, result: RegistrationResult, labels: Labels | None = None) -> Any:
    """The ``matplotlib.figure.Figure``: a row for each plane, a column for each of the titles; arguments as above."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    planes = planes_through(fixed)
    painter = Painter(planes, fixed, moving, result, labels or Labels())
    layout = _Layout(planes)
    figure = Figure(figsize=(layout.width, layout.height), facecolor="white")
    FigureCanvasAgg(figure)
    for row, plane in enumerate(planes):
        for column, draw in enumerate(painter.pictures(row)):
            axes = figure.add_axes(layout.cell(row, column))
            axes.set_axis_off()
            axes.set_xlim(0, plane.size_mm[0])
            axes.set_ylim(plane.size_mm[1], 0)
            draw(axes)
            _letters(axes, plane.letters, "black" if column in _BRIGHT_COLUMNS else "white")
        x, y, _, height = layout.cell(row, 0)
        figure.text(0.2 / layout.width, y + height / 2, plane.name, rotation=90, ha="center", va="center", fontsize=12)
    for column, title in enumerate(_TITLES):
        x = layout.column_center(column)
        figure.text(x, layout.from_top(_TOP - 0.09), title, ha="center", va="bottom", fontsize=12)
    _color_bar(figure, layout, _DIFFERENCES, painter.difference_scale, "moving - fixed, each scaled to 0..1")
    text = "below 1: smaller in the\nmoving image; yellow: folds"
    _color_bar(figure, layout, _JACOBIAN, painter.jacobian_scale, text)
    title = f"{_short(moving.name)} registered to {_short(fixed.name)}"
    figure.text(_LEFT / layout.width, layout.from_top(0.3), title, fontsize=16, fontweight="bold", va="center")
    for number, line in enumerate(caption(result.report, painter.shown_labels, labels or Labels())):
        place = (_BOTTOM - 1.0 - 0.25 * number) / layout.height
        figure.text(_LEFT / layout.width, place, line, fontsize=12, va="center")
    return figure


def caption(report: Mapping[str, Any], shown_labels: list[int], labels: Labels) -> list[str]:
    """Lines below the pictures: figures before and after, what was run where, and how to read the picture."""
    metrics = report.get("metrics", {})
    before, after = metrics.get("before", {}), metrics.get("after", {})
    figures = [
        f"{name} {before[key]:.{decimals}f} -> {after[key]:.{decimals}f}{unit}"
        for name, key, decimals, unit in (
            ("NCC", "ncc", 3, ""),
            ("mean Dice", "dice_mean", 3, ""),
            ("HD95", "hd95_mean_mm", 2, " mm"),
            ("landmark error", "tre_mean_mm", 2, " mm"),
        )
        if _is_number(before.get(key)) and _is_number(after.get(key))
    ]
    if _is_number(report.get("folding_percent")):
        figures.append(f"folding {report['folding_percent']:.3f} % ({report.get('folding_count', 0)} cells)")
    inverse = report.get("inverse_consistency_mm") or {}
    if _is_number(inverse.get("mean")) and _is_number(inverse.get("p99")):
        figures.append(f"inverse consistency mean {inverse['mean']:.3f} mm, 99 % below {inverse['p99']:.3f} mm")
    origin = report.get("provenance", {})
    run = [f"{name} {origin[name]}" for name in ("model", "device", "seed") if origin.get(name) is not None]
    if _is_number((report.get("seconds") or {}).get("total")):
        run.append(f"{report['seconds']['total']:.1f} s")
    reading = "Radiological convention: the patient's right is on the left of axial and coronal pictures."
    if shown_labels:
        kinds = "solid: own label" + (", dotted: fixed label" if labels.fixed is not None else "")
        reading += f" Outlines ({kinds}) of label {', '.join(map(str, shown_labels))}."
    run.append("not for clinical use")
    lines = ["; ".join(figures), "; ".join(run), judge(report).text, reading]
    return [short for line in lines if line for short in textwrap.wrap(line, 190)]


class _Layout:
    """Places of the cells as shares of the figure; all planes have one scale, so 10 mm are equally long everywhere."""

    def __init__(self, planes: tuple[Plane, ...]) -> None:
        per_mm = _COLUMN / max(plane.size_mm[0] for plane in planes)
        self._sizes = [(plane.size_mm[0] * per_mm, plane.size_mm[1] * per_mm) for plane in planes]
        self.width = _LEFT + len(_TITLES) * (_COLUMN + _GAP) - _GAP + _RIGHT
        self.height = _TOP + sum(height + _GAP for _, height in self._sizes) - _GAP + _BOTTOM

    def cell(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Left, bottom, width, height."""
        width, height = self._sizes[row]
        below = _TOP + sum(size[1] + _GAP for size in self._sizes[:row]) + height
        left = _LEFT + column * (_COLUMN + _GAP) + (_COLUMN - width) / 2
        return left / self.width, 1 - below / self.height, width / self.width, height / self.height

    def column_center(self, column: int) -> float:
        return (_LEFT + column * (_COLUMN + _GAP) + _COLUMN / 2) / self.width

    def from_top(self, inches: float) -> float:
        return 1 - inches / self.height

    def bar(self, first: int, last: int) -> tuple[float, float, float, float]:
        """Place of a colour bar below the columns ``first`` to ``last``."""
        left = _LEFT + first * (_COLUMN + _GAP) + 0.1
        width = (last - first + 1) * (_COLUMN + _GAP) - _GAP - 0.2
        return left / self.width, (_BOTTOM - 0.27) / self.height, width / self.width, 0.13 / self.height


def _color_bar(figure: Any, layout: _Layout, columns: tuple[int, int], scale: Any, text: str) -> None:
    axes = figure.add_axes(layout.bar(*columns))
    ticks = (scale.norm.vmin, (scale.norm.vmin + scale.norm.vmax) / 2, scale.norm.vmax)
    bar = figure.colorbar(scale, cax=axes, orientation="horizontal", ticks=ticks, format="%.2g")
    bar.ax.tick_params(labelsize=10)
    bar.set_label(text, fontsize=10.5, labelpad=2)


def _letters(axes: Any, letters: str, color: str) -> None:
    from matplotlib.patheffects import withStroke

    left, right, top, bottom = letters
    places = ((left, 0.02, 0.5, "left", "center"), (right, 0.98, 0.5, "right", "center"),
              (top, 0.5, 0.985, "center", "top"), (bottom, 0.5, 0.015, "center", "bottom"))  # fmt: skip
    halo = withStroke(linewidth=2, foreground="white" if color == "black" else "black")
    for letter, x, y, horizontal, vertical in places:
        text = axes.text(x, y, letter, transform=axes.transAxes, color=color, fontsize=10, ha=horizontal, va=vertical)
        text.set_path_effects([halo])


def _short(name: str, longest: int = 50) -> str:
    return name if len(name) <= longest else f"{name[: longest // 2 - 1]}...{name[-longest // 2 + 2 :]}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == value
