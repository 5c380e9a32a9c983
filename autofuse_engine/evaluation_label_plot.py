"""Picture of the Dice of each label by each method, as a table of colours; needs ``matplotlib``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autofuse_engine.evaluation_plots import new_figure, wrapped
from autofuse_engine.evaluation_statistics import EvaluationSummary, MethodSummary

MOST_LABELS = 40
"""With more labels, only those at both ends are shown one by one."""
_WORST, _BEST = 20, 10
_LABEL_WIDTH = 30


@dataclass(frozen=True)
class _Row:
    text: str
    values: tuple[float | None, ...]
    summarised: bool = False


def draw_labels(summary: EvaluationSummary, names: Mapping[str, str] | None = None) -> Any | None:
    """Mean Dice of each label (rows, worst on top) by each method (columns); None where no method has labels.

    With more than :data:`MOST_LABELS` labels the 20 worst and the 10 best are shown (by the mean over the methods),
    and all others in one row between them.

    Args:
        summary: of the evaluation.
        names: names of labels by value, where known.
    """
    methods = [method for method in summary.methods if method.dice_per_label]
    if not methods:
        return None
    rows = _rows(methods, names or {})
    figure = new_figure(3.0 + 0.62 * len(methods), _name_inches(methods) + 0.9 + 0.25 * len(rows))
    axes = figure.add_subplot()
    _fill(axes, rows, len(methods))
    axes.set_xticks(range(len(methods)), [wrapped(method.name) for method in methods], rotation=90, fontsize=9)
    axes.set_yticks(range(len(rows)), [row.text for row in rows])
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_style("italic" if row.summarised else "normal")
    axes.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    axes.spines[:].set_visible(False)
    count = len(_labels(methods))
    about = "mean Dice of each label, the hardest on top"
    if count > MOST_LABELS:
        about += f"\nthe {_WORST} worst and {_BEST} best of {count}"
    figure.supxlabel(about, fontsize=9)
    return figure


def _name_inches(methods: Sequence[MethodSummary]) -> float:
    """Room for the longest line of the names, which stand upright."""
    return 0.085 * max(len(line) for method in methods for line in wrapped(method.name).splitlines())


def _fill(axes: Any, rows: Sequence[_Row], columns: int) -> None:
    import numpy as np
    from matplotlib import colormaps

    table = np.array([[np.nan if value is None else value for value in row.values] for row in rows])
    known = table[np.isfinite(table)]
    low, high = float(known.min()), float(known.max())
    if high - low < 0.05:
        low, high = low - 0.025, high + 0.025
    map_of_colors = colormaps["YlGnBu"].with_extremes(bad="#eeeeee")
    axes.imshow(np.ma.masked_invalid(table), cmap=map_of_colors, vmin=low, vmax=high, aspect="auto")
    for number, row in enumerate(rows):
        for place, value in enumerate(row.values):
            if value is None:
                text, color = "-", "black"
            else:
                red, green, blue, _ = map_of_colors((value - low) / (high - low))
                text = f"{value:.2f}"
                color = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            cell = axes.text(place, number, text, ha="center", va="center", fontsize=8, color=color)
            cell.set_in_layout(False)  # it needs no room of its own, and thousands of them take long to measure
    axes.set_xticks([place - 0.5 for place in range(1, columns)], minor=True)
    axes.grid(which="minor", axis="x", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)


def _rows(methods: Sequence[MethodSummary], names: Mapping[str, str]) -> list[_Row]:
    labels = _labels(methods)
    order = sorted(labels, key=lambda label: labels[label])

    def row(label: str) -> _Row:
        name = names.get(label, "")
        text = f"{label} {name}" if name else f"label {label}"
        short = text if len(text) <= _LABEL_WIDTH else f"{text[: _LABEL_WIDTH - 1]}…"
        return _Row(short, tuple(_mean(method, label) for method in methods))

    if len(order) <= MOST_LABELS:
        return [row(label) for label in order]
    middle = order[_WORST:-_BEST]
    means: list[float | None] = []
    for method in methods:
        known = [value for label in middle if (value := _mean(method, label)) is not None]
        means.append(statistics.fmean(known) if known else None)
    between = _Row(f"mean of the {len(middle)} others", tuple(means), summarised=True)
    return [*(row(label) for label in order[:_WORST]), between, *(row(label) for label in order[-_BEST:])]


def _labels(methods: Sequence[MethodSummary]) -> dict[str, float]:
    """Each label with its mean over the methods."""
    values: dict[str, list[float]] = {}
    for method in methods:
        for label, found in method.dice_per_label.items():
            values.setdefault(label, []).append(found.mean)
    return {label: statistics.fmean(found) for label, found in values.items()}


def _mean(method: MethodSummary, label: str) -> float | None:
    found = method.dice_per_label.get(label)
    return None if found is None else found.mean
