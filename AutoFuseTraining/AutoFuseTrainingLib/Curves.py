"""What is drawn of a run: the points of its curves, smoothed and thinned, whatever draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from slicer.i18n import tr as _

from AutoFuseLib.RunWatcher import RunWatcher

MOST_POINTS = 1000
LOSS, VALIDATION = "loss", "validation"
SMOOTH_COLOR, SINGLE_COLOR, THIRD_COLOR = (0.90, 0.49, 0.13), (0.24, 0.65, 0.86), (0.18, 0.62, 0.31)


@dataclass(frozen=True)
class Curve:
    """One line: steps and values of equal length, a name, a colour (red, green, blue in 0..1), and how it is drawn."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    color: tuple[float, float, float]
    width: float = 2.0
    markers: bool = False


def curvesOf(watcher: RunWatcher, kind: str, smoothing: float) -> list[Curve]:
    """The lines of a kind, those in front last.

    Args:
        watcher: of the run; what it has read is drawn.
        kind: ``loss`` or ``validation``.
        smoothing: weight of what came before, in 0..1, of the smooth line.
    """
    if kind == LOSS:
        steps, losses = _present(watcher.metrics.columns["step"], watcher.metrics.columns["loss"])
        single = Curve(_("Loss of each step"), *_thinned(steps, losses), SINGLE_COLOR, width=1.0)
        if not steps or smoothing <= 0:
            return [single] if steps else []
        smooth = Curve(_("Loss, smoothed"), *_thinned(steps, smoothed(losses, smoothing)), SMOOTH_COLOR)
        return [single, smooth]
    columns = watcher.validation.columns
    curves = []
    for name, column, color in (
        (_("Dice"), "dice", SMOOTH_COLOR),
        (_("Similarity"), "similarity", SINGLE_COLOR),
        (_("Segmentation"), "segmentation_dice", THIRD_COLOR),
    ):
        steps, values = _present(columns["step"], columns[column])
        if steps:
            curves.append(Curve(name, *_thinned(steps, values), color, markers=True))
    return curves


def whyNotLogarithmic(curves: Sequence[Curve]) -> str:
    """Why the values cannot stand on a logarithmic scale; empty if they can."""
    if any(value <= 0 for curve in curves for value in curve.y):
        return _("There are values of 0 or less: a similarity that is maximised makes the loss negative.")
    return ""


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential mean, corrected for its beginning: the first value is itself."""
    mean, norm, result = 0.0, 0.0, []
    for value in values:
        mean = weight * mean + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        result.append(mean / norm)
    return result


def _present(steps: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    pairs = [(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    return [step for step, _value in pairs], [value for _step, value in pairs]


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means of neighbours where there are more points than can be told apart; the first and the last one stay."""
    size = math.ceil(len(x) / MOST_POINTS)
    if size <= 1:
        return tuple(x), tuple(y)
    pieces = [slice(start, start + size) for start in range(1, len(x) - 1, size)]
    xs = [x[0], *(math.fsum(x[piece]) / len(x[piece]) for piece in pieces), x[-1]]
    ys = [y[0], *(math.fsum(y[piece]) / len(y[piece]) for piece in pieces), y[-1]]
    return tuple(xs), tuple(ys)
