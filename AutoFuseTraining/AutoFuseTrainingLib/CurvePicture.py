"""Draws curves as a picture for the panel, in the colours of its theme."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import qt

from .Curves import Curve

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 8, 20
_LEGEND = 16
_LINES = 6
_APART = 16


def drawCurves(curves: Sequence[Curve], width: int, height: int, palette: Any, logarithmic: bool) -> Any:
    """The picture.

    Args:
        curves: at least one with a point.
        width: pixels.
        height: pixels.
        palette: of the widget that will show it.
        logarithmic: whether the values stand on a logarithmic scale; all are above 0 then.

    Returns:
        A QPixmap.
    """
    picture = qt.QPixmap(width, height)
    picture.fill(palette.color(qt.QPalette.Base))
    painter = qt.QPainter(picture)
    try:
        painter.setRenderHint(qt.QPainter.Antialiasing)
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        _Drawing(curves, width, height, palette, logarithmic).draw(painter)
    finally:
        painter.end()
    return picture


class _Drawing:
    def __init__(self, curves: Sequence[Curve], width: int, height: int, palette: Any, logarithmic: bool) -> None:
        self._curves = curves
        self._text = palette.color(qt.QPalette.Text)
        self._logarithmic = logarithmic
        self._left, self._right = _LEFT, width - _RIGHT
        self._top, self._bottom = _TOP + _LEGEND, height - _BOTTOM
        xs = [x for curve in curves for x in curve.x]
        ys = [self._scaled(y) for curve in curves for y in curve.y]
        self._x = _span(min(xs), max(xs), 0.0)
        self._y = _span(min(ys), max(ys), 0.05)

    def draw(self, painter: Any) -> None:
        faint = qt.QColor(self._text)
        faint.setAlpha(60)
        for value in self._ticks():
            y = self._place(self._x[0], value).y()
            painter.setPen(_pen(faint, 1.0))
            painter.drawLine(qt.QPointF(self._left, y), qt.QPointF(self._right, y))
            painter.setPen(_pen(self._text, 1.0))
            place = qt.QRectF(0, y - 8, self._left - 6, 16)
            painter.drawText(place, int(qt.Qt.AlignRight | qt.Qt.AlignVCenter), _number(self._unscaled(value)))
        for share, side in ((0.0, qt.Qt.AlignLeft), (0.5, qt.Qt.AlignHCenter), (1.0, qt.Qt.AlignRight)):
            value = self._x[0] + share * (self._x[1] - self._x[0])
            place = qt.QRectF(self._left, self._bottom + 3, self._right - self._left, 16)
            painter.drawText(place, int(side | qt.Qt.AlignTop), f"{value:.0f}")
        self._legend(painter)
        for curve in self._curves:
            self._line(painter, curve)

    def _ticks(self) -> list[float]:
        """Round numbers between the ends of the axis of values; on a logarithmic one, those of the exponent."""
        low, high = self._y
        coarse = 10.0 ** math.floor(math.log10((high - low) / _LINES))
        step = next(coarse * part for part in (1, 2, 2.5, 5, 10) if coarse * part * _LINES >= high - low)
        first = math.ceil(low / step)
        return [number * step for number in range(first, math.floor(high / step) + 1)]

    def _legend(self, painter: Any) -> None:
        x = float(self._left)
        for curve in self._curves:
            painter.setPen(_pen(_color(curve), 3.0))
            painter.drawLine(qt.QPointF(x, _TOP + 5), qt.QPointF(x + 14, _TOP + 5))
            painter.setPen(_pen(self._text, 1.0))
            painter.drawText(
                qt.QRectF(x + 19, _TOP - 4, 160, 18), int(qt.Qt.AlignLeft | qt.Qt.AlignVCenter), curve.name
            )
            x += 19 + painter.fontMetrics().horizontalAdvance(curve.name) + _APART

    def _line(self, painter: Any, curve: Curve) -> None:
        points = [self._place(x, self._scaled(y)) for x, y in zip(curve.x, curve.y, strict=True)]
        painter.setPen(_pen(_color(curve), curve.width))
        for first, second in itertools.pairwise(points):
            painter.drawLine(first, second)
        if curve.markers or len(points) == 1:
            painter.setBrush(qt.QBrush(_color(curve)))
            for point in points:
                painter.drawEllipse(point, 3.0, 3.0)

    def _place(self, x: float, y: float) -> Any:
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return qt.QPointF(
            self._left + across * (self._right - self._left), self._bottom - up * (self._bottom - self._top)
        )

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._logarithmic else value

    def _unscaled(self, value: float) -> float:
        return 10**value if self._logarithmic else value


def _pen(color: Any, width: float) -> Any:
    pen = qt.QPen(color)
    pen.setWidthF(width)
    return pen


def _color(curve: Curve) -> Any:
    return qt.QColor(*(round(255 * part) for part in curve.color))


def _span(low: float, high: float, margin: float) -> tuple[float, float]:
    """The ends of an axis; never of no length."""
    room = margin * (high - low)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        room = abs(low) * 0.05 or 0.5
    return low - room, high + room


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) > 1e-12 else "0"
