"""What each column of a result's figure shows, as colours of pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slicer.i18n import tr as _

from AutoFuseLib.CheckColors import BLUE_WHITE_RED, FOLD, PURPLE_WHITE_ORANGE, between, jacobianPosition
from AutoFuseLib.FigureCanvas import BLACK, GREY, WHITE, Canvas
from AutoFuseLib.FigurePlanes import Plane

_GRID_COLOR = np.array([0.37, 0.84, 1.0])
_DARKENED = 0.55
_LETTER_SIZE, _LEGEND_SIZE = 15, 15
_BAR_HEIGHT = 14
_BRIGHT_COLUMNS = (3, 4, 7)


@dataclass(frozen=True, eq=False)
class Pictures:
    """What was sampled on one plane; each (rows, columns), NaN outside of its image.

    Attributes:
        plane: where.
        fixed, before, warped: intensities in 0..1.
        jacobian: determinant, or None where the result has no map of it.
        moved: (rows, columns, 3), RAS mm: where the deformation beyond the initial alignment takes each pixel.
    """

    plane: Plane
    fixed: NDArray[np.float32]
    before: NDArray[np.float32]
    warped: NDArray[np.float32]
    jacobian: NDArray[np.float32] | None
    moved: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Row:
    """The pictures of one plane, ready to be put onto the sheet."""

    name: str
    letters: str
    height: int
    width: int
    pictures: Sequence[Callable[[], NDArray]]
    """Each gives colours (height, width, 3), 0..1, when it is called."""

    def draw(self, canvas: Canvas, column: int, x: int, y: int) -> None:
        """Put one picture with the letters of its sides onto the sheet."""
        canvas.picture(self.pictures[column](), x, y)
        color, halo = (BLACK, WHITE) if column in _BRIGHT_COLUMNS else (WHITE, BLACK)
        left, right, top, bottom = self.letters
        middle = y + self.height / 2 + _LETTER_SIZE * 0.35
        for letter, place, line in (
            (left, x + 10, middle),
            (right, x + self.width - 10, middle),
            (top, x + self.width / 2, y + _LETTER_SIZE + 1),
            (bottom, x + self.width / 2, y + self.height - 5),
        ):
            canvas.text(letter, place, line, _LETTER_SIZE, color=color, align="center", halo=halo)


class Painter:
    """Colours the pictures of one result; scales are the same on every plane."""

    titles: Sequence[str]

    def __init__(self, pictures: Sequence[Pictures], *, squareMm: float, gridMm: float, folds: int | None) -> None:
        """Choose the scales.

        Args:
            pictures: of each plane.
            squareMm: side of the checkerboard's squares.
            gridMm: distance of the grid's lines in the moving image.
            folds: number of folded cells for the legend, None if it is not known.
        """
        self._pictures, self._squareMm, self._gridMm, self._folds = pictures, squareMm, gridMm, folds
        differences = [values for item in pictures for values in (item.before - item.fixed, item.warped - item.fixed)]
        found = np.abs(np.concatenate([values[np.isfinite(values)] for values in differences]))
        self._reach = float(np.clip(np.percentile(found, 99.5), 0.2, 1.0)) if found.size else 1.0
        self.titles = (
            _("Fixed"),
            _("Moving, before"),
            _("Moving, registered"),
            _("Difference before"),
            _("Difference after"),
            _("Checkerboard:\nfixed, registered"),
            _("Grid, {size:g} mm,\ndeformed").format(size=gridMm),
            *((_("Jacobian determinant"),) if self._hasJacobian else ()),
        )

    @property
    def _hasJacobian(self) -> bool:
        return all(item.jacobian is not None for item in self._pictures)

    def rows(self) -> list[Row]:
        """A row for each plane."""
        names = {"axial": _("axial"), "coronal": _("coronal"), "sagittal": _("sagittal")}
        return [
            Row(names[item.plane.name], item.plane.letters, *item.plane.shape, self._columns(item))
            for item in self._pictures
        ]

    def _columns(self, item: Pictures) -> list[Callable[[], NDArray]]:
        columns: list[Callable[[], NDArray]] = [
            lambda: _grey(item.fixed),
            lambda: _grey(item.before),
            lambda: _grey(item.warped),
            lambda: self._difference(item.before - item.fixed),
            lambda: self._difference(item.warped - item.fixed),
            lambda: self._checkerboard(item),
            lambda: self._grid(item),
        ]
        return [*columns, lambda: self._jacobian(item)] if self._hasJacobian else columns

    def _difference(self, values: NDArray) -> NDArray:
        return between(BLUE_WHITE_RED, 0.5 + 0.5 * np.nan_to_num(values, nan=0.0) / self._reach)

    def _checkerboard(self, item: Pictures) -> NDArray:
        rows, columns = item.plane.shape
        across = np.floor((np.arange(columns) - columns / 2) * item.plane.pixelMm / self._squareMm)
        down = np.floor((np.arange(rows) - rows / 2) * item.plane.pixelMm / self._squareMm)
        odd = (down[:, None] + across[None, :]) % 2 == 1
        return _grey(np.where(odd, item.warped, item.fixed))

    def _grid(self, item: Pictures) -> NDArray:
        """Lines of equal in-plane coordinate of the point that each pixel is taken to, on the darkened fixed image."""
        result = _grey(item.fixed) * _DARKENED
        for axis in item.plane.axes:
            values = item.moved[..., axis] / self._gridMm
            slope = np.hypot(*np.gradient(values))
            away = np.abs(values - np.rint(values)) / np.maximum(slope, 1e-9)
            share = np.clip(1.2 - away, 0.0, 1.0)[..., None]
            result = result * (1 - share) + _GRID_COLOR * share
        return result

    def _jacobian(self, item: Pictures) -> NDArray:
        known = np.nan_to_num(np.asarray(item.jacobian, dtype=np.float64), nan=1.0)
        colors = between(PURPLE_WHITE_ORANGE, jacobianPosition(known))
        colors[known <= 0] = FOLD
        return colors

    def legends(self, canvas: Canvas, x: Callable[[int], int], column: int, y: int) -> None:
        """Draw the colour bars below the pictures that they belong to.

        Args:
            canvas: the sheet.
            x: left end of a column.
            column: width of one.
            y: of the bars' upper ends.
        """
        left, width = x(3) + 20, x(4) + column - x(3) - 40
        steps = np.linspace(0.0, 1.0, 256)
        canvas.colorBar(between(BLUE_WHITE_RED, steps), left, y, width, _BAR_HEIGHT)
        for share, value in ((0.0, -self._reach), (0.5, 0.0), (1.0, self._reach)):
            _tick(canvas, f"{value:+.2f}" if value else "0", left + share * width, y)
        text = _("moving minus fixed, each scaled to 0..1")
        canvas.text(text, left + width / 2, y + _BAR_HEIGHT + 42, _LEGEND_SIZE, color=GREY, align="center")
        if self._hasJacobian:
            self._jacobianLegend(canvas, x(7), column, y)

    def _jacobianLegend(self, canvas: Canvas, left: int, column: int, y: int) -> None:
        patch, gap = 26, 24
        start, width = left + patch + gap, column - patch - gap - 8
        canvas.colorBar(np.array([FOLD, FOLD]), left, y, patch, _BAR_HEIGHT)
        canvas.colorBar(between(PURPLE_WHITE_ORANGE, np.linspace(0.0, 1.0, 256)), start, y, width, _BAR_HEIGHT)
        _tick(canvas, "<0", left + patch / 2, y)
        for share, text in ((0.0, "0.5"), (0.5, "1"), (1.0, "2")):
            _tick(canvas, text, start + share * width, y)
        folds = _("yellow: folds") if self._folds is None else _("yellow: folds ({count})").format(count=self._folds)
        note = _("1: unchanged; {folds}").format(folds=folds)
        canvas.text(note, left + column / 2, y + _BAR_HEIGHT + 42, _LEGEND_SIZE, color=GREY, align="center")


def _tick(canvas: Canvas, text: str, x: float, y: int) -> None:
    canvas.text(text, x, y + _BAR_HEIGHT + 20, _LEGEND_SIZE, align="center")


def _grey(values: NDArray) -> NDArray[Any]:
    known = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
    return np.repeat(known[..., None], 3, axis=-1)
