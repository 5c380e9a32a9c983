"""One picture that shows whether to trust a result, as PNG: three planes, before and after, with key figures.

It follows the overview of the command line and is drawn by numpy and VTK, which Slicer brings along.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer.util
from numpy.typing import NDArray
from slicer.i18n import tr as _

from autofuse_engine.verdict import judge
from AutoFuseLib.CheckImages import CheckImages, hasImage
from AutoFuseLib.CheckVolumes import intensityRange, onGridSteps, scaled
from AutoFuseLib.DeformationDisplay import beyondInitial, niceAbove
from AutoFuseLib.Export import replacing
from AutoFuseLib.FigureCanvas import Canvas, textWidth, wrapped
from AutoFuseLib.FigurePainter import Painter, Pictures
from AutoFuseLib.FigurePlanes import planesThrough, throughTransform
from AutoFuseLib.Geometry import hasLinearParent
from AutoFuseLib.HiddenNodes import inScene
from AutoFuseLib.ResultNodes import ResultNodes
from AutoFuseLib.Steps import Steps, exhaust

COLUMN = 236
"""Pixels of the widest picture."""

_GAP, _LEFT, _RIGHT, _TOP, _BARS, _LINE = 8, 44, 18, 118, 84, 25
_TITLE_SIZE, _HEAD_SIZE, _TEXT_SIZE = 26, 17, 17
_LIGHTS = {"good": (0.13, 0.62, 0.25), "check": (0.93, 0.62, 0.05), "bad": (0.80, 0.12, 0.12)}


def unavailable(result: ResultNodes) -> str:
    """Empty if a figure can be drawn; else a sentence why not."""
    if not hasImage(result.fixed) or not hasImage(result.moving):
        return _("The fixed or the moving volume is no longer in the scene.")
    if not hasLinearParent(result.fixed):
        return _("The fixed volume lies under a non-linear transform now: harden that transform first.")
    if not inScene(result.transform):
        return _("The transform of this result is no longer in the scene.")
    return ""


def writeFigure(result: ResultNodes, path: str | Path) -> Path:
    """Draw a result into a PNG file at once; see :func:`writeFigureSteps`."""
    return exhaust(writeFigureSteps(result, path))


def writeFigureSteps(result: ResultNodes, path: str | Path) -> Steps[Path]:
    """Draw a result into a PNG file, which appears whole or not at all.

    Raises:
        FileError: ``output-not-writable`` or ``disk-full``.
        ValueError: where :func:`unavailable` says so.
    """
    canvas = yield from drawFigureSteps(result)
    content = yield from canvas.pngSteps()
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def drawFigureSteps(result: ResultNodes) -> Steps[Canvas]:
    """The figure as pixels: a row for each plane, a column for each kind of picture."""
    reason = unavailable(result)
    if reason:
        raise ValueError(reason)
    painter = yield from _painterSteps(result)
    rows = painter.rows()
    heights = [row.height for row in rows]
    width = _LEFT + len(painter.titles) * (COLUMN + _GAP) - _GAP + _RIGHT
    light, lines = _caption(result.report, width - _LEFT - _RIGHT - 30)
    body = _TOP + sum(heights) + _GAP * (len(rows) - 1)
    canvas = Canvas(width, body + _BARS + _LINE * len(lines) + 24)
    canvas.text(_title(result, width - _LEFT - _RIGHT), _LEFT, 42, _TITLE_SIZE, bold=True)
    for column, title in enumerate(painter.titles):
        parts = title.split("\n")
        for number, part in enumerate(parts):
            y = _TOP - 12 - 21 * (len(parts) - 1 - number)
            canvas.text(part, _x(column) + COLUMN / 2, y, _HEAD_SIZE, align="center")
    top = _TOP
    for row in rows:
        canvas.text(row.name, _LEFT - 14, top + row.height / 2, _HEAD_SIZE, align="center", upwards=True)
        for column in range(len(painter.titles)):
            left = _x(column) + (COLUMN - row.width) // 2
            row.draw(canvas, column, left, top)
            yield
        top += row.height + _GAP
    painter.legends(canvas, _x, COLUMN, body + 14)
    for number, line in enumerate(lines):
        y = body + _BARS + _LINE * (number + 1)
        if number == 0:
            canvas.disc(_LEFT + 7, y - 6, 7, _LIGHTS[light])
        canvas.text(line, _LEFT + (24 if number == 0 else 0), y, _TEXT_SIZE, bold=number == 0)
    return canvas


def _painterSteps(result: ResultNodes) -> Steps[Painter]:
    planes = planesThrough(result.fixed, COLUMN)
    ranges = [intensityRange(slicer.util.arrayFromVolume(node)) for node in (result.fixed, result.moving)]
    images = CheckImages(result)
    initial = np.array(result.report.get("initial_matrix_ras") or np.eye(4), dtype=np.float64)
    deformation = beyondInitial(result.transform, initial)
    pictures: list[Pictures] = []
    for plane in planes:
        samples: dict[str, NDArray[np.float32]] = {}
        for name, after in (("before", False), ("warped", True)):
            values = yield from images.onGridSteps(after, plane.grid)
            samples[name] = scaled(values[0], ranges[1])
        values = yield from onGridSteps(result.fixed, plane.grid)
        samples["fixed"] = scaled(values[0], ranges[0])
        jacobian = None
        if hasImage(result.jacobian):
            values = yield from onGridSteps(result.jacobian, plane.grid)
            jacobian = values[0]
        moved = throughTransform(deformation, plane.points())
        pictures.append(Pictures(plane=plane, jacobian=jacobian, moved=moved, **samples))
        yield
    extent = max(max(plane.shape) * plane.pixelMm for plane in planes)
    folds = result.report.get("folding_count")
    return Painter(pictures, squareMm=images.squareMm, gridMm=niceAbove(extent / 24), folds=folds)


def _x(column: int) -> int:
    return _LEFT + column * (COLUMN + _GAP)


def _title(result: ResultNodes, width: int) -> str:
    for longest in (80, 60, 40, 24):
        moving, fixed = (_short(node.GetName(), longest) for node in (result.moving, result.fixed))
        title = _("{moving} registered to {fixed}").format(moving=moving, fixed=fixed)
        if textWidth(title, _TITLE_SIZE, True) <= width:
            break
    return title


def _caption(report: Mapping[str, Any], width: int) -> tuple[str, list[str]]:
    """Colour of the light, and the lines below the pictures: verdict, figures, what was run, how to read it."""
    verdict = judge(report)
    metrics = report.get("metrics") or {}
    before, after = metrics.get("before") or {}, metrics.get("after") or {}
    figures = [
        f"{name} {before[key]:.{decimals}f} -> {after[key]:.{decimals}f}{unit}"
        for name, key, decimals, unit in (
            (_("landmark error"), "tre_mean_mm", 2, " mm"),
            (_("mean Dice"), "dice_mean", 3, ""),
            (_("mean HD95"), "hd95_mean_mm", 2, " mm"),
            (_("NCC"), "ncc", 3, ""),
        )
        if _isNumber(before.get(key)) and _isNumber(after.get(key))
    ]
    if _isNumber(report.get("folding_percent")):
        text = _("folding {percent:.3f} % ({count} cells)")
        figures.append(text.format(percent=report["folding_percent"], count=report.get("folding_count") or 0))
    inverse = report.get("inverse_consistency_mm") or {}
    if _isNumber(inverse.get("mean")) and _isNumber(inverse.get("p99")):
        text = _("error of the inverse {mean:.3f} mm on average, 99 % below {p99:.3f} mm")
        figures.append(text.format(mean=inverse["mean"], p99=inverse["p99"]))
    origin = report.get("provenance") or {}
    run = [f"{name} {origin[key]}" for name, key in ((_("model"), "model"), (_("device"), "device"),
           (_("AutoFuse"), "engine")) if origin.get(key) is not None]  # fmt: skip
    if _isNumber((report.get("seconds") or {}).get("total")):
        run.append(f"{report['seconds']['total']:.1f} s")
    run.append(_("not for clinical use"))
    reading = _("Radiological convention: the patient's right is on the left of axial and coronal pictures.")
    texts = [verdict.text, "; ".join(figures), "; ".join(run), reading]
    return verdict.level, [line for text in texts if text for line in wrapped(text, _TEXT_SIZE, width)]


def _short(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest // 2 - 1]}...{name[-(longest // 2) + 2 :]}"


def _isNumber(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == value
