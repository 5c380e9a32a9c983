"""Pictures of an evaluation: Dice, gates, smoothness and time; needs ``matplotlib``, imported on first use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from autofuse_engine.evaluation_rows import PairRow
from autofuse_engine.evaluation_statistics import EvaluationSummary, MethodSummary, Spread
from autofuse_engine.evaluation_tables import NAMES

DPI = 130
COLORS = (
    "#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#4d4d4d",
    "#1b4f72", "#7b241c", "#0b5345", "#b9770e", "#512e5f",
)  # fmt: skip
MARKERS = "osD^vP*X<>"
_NAME_WIDTH = 34
_INCHES_A_METHOD = 0.42
_INCHES_A_LEGEND_LINE = 0.19


class Palette:
    """A colour and a marker for each method, the same in every picture of one evaluation."""

    def __init__(self, summary: EvaluationSummary) -> None:
        self._number = {method.name: number for number, method in enumerate(summary.methods)}

    def color(self, name: str) -> str:
        """Colour of a method; with more methods than colours they repeat, with another marker."""
        return COLORS[self._number[name] % len(COLORS)]

    def marker(self, name: str) -> str:
        """Marker of a method."""
        number = self._number[name]
        return MARKERS[(number + number // len(COLORS)) % len(MARKERS)]


def new_figure(width: float, height: float) -> Any:
    """A ``matplotlib.figure.Figure`` of so many inches that makes room for all of its text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def wrapped(name: str, width: int = _NAME_WIDTH) -> str:
    """A long name on several lines, broken behind a sign that parts words where there is one."""
    lines = [""]
    for piece in re.findall(rf"[^@,_ -]{{1,{width - 1}}}[@,_ -]?|[@,_ -]", name):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def _with_count(name: str, count: int, most: int) -> str:
    """A wrapped name; where a method was judged on fewer pairs than another, with their number."""
    return wrapped(name) if count == most else f"{wrapped(name)}\n({count} of {most} pairs)"


def draw_boxes(summary: EvaluationSummary, rows: Sequence[PairRow], palette: Palette) -> Any:
    """The compared figure of every method as a box with its quartiles, every pair as a point; best mean on top."""
    figure_name = summary.compared or "dice"
    methods = _by_mean(summary, figure_name)
    values = {method.name: _known(rows, method.name, figure_name) for method in methods}
    most = max((len(points) for points in values.values()), default=0)
    names = [_with_count(method.name, len(values[method.name]), most) for method in methods]
    lines = sum(name.count("\n") + 1 for name in names)
    figure = new_figure(9.0, 1.3 + max(_INCHES_A_METHOD * len(methods), _INCHES_A_LEGEND_LINE * lines))
    axes = figure.add_subplot()
    for place, method in enumerate(methods):
        points = values[method.name]
        color = palette.color(method.name)
        axes.boxplot([points], positions=[place], orientation="horizontal", widths=0.6, showfliers=False,
                     manage_ticks=False, patch_artist=True,
                     boxprops={"facecolor": _pale(color), "edgecolor": color}, medianprops={"color": "black"},
                     whiskerprops={"color": color}, capprops={"color": color})  # fmt: skip
        heights = [place + _jitter(number) for number in range(len(points))]
        axes.scatter(points, heights, s=9, color=color, alpha=0.75, linewidths=0, zorder=3)
        axes.scatter([method.figures[figure_name].mean], [place], marker="D", s=26, color="white",
                     edgecolors="black", linewidths=0.9, zorder=4)  # fmt: skip
    axes.set_yticks(range(len(methods)), names)
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.set_xlabel(f"{NAMES[figure_name]}; points are pairs, the line is the median, the diamond the mean")
    axes.grid(axis="x", color="#dddddd")
    _open(axes)
    return figure


def draw_gates(summary: EvaluationSummary, palette: Palette) -> Any | None:
    """Mean weight of the pair path in each gate from the first stage to the last; None without gates."""
    methods = [method for method in summary.methods if method.gates]
    if not methods:
        return None
    figure = new_figure(8.5, 4.2 + _legend_inches(methods))
    axes = figure.add_subplot()
    places = sorted({(gate.stage, gate.level) for method in methods for gate in method.gates})
    apart = min(0.5, 0.08 * (len(methods) - 1))
    for number, method in enumerate(methods):
        shift = 0.0 if len(methods) == 1 else apart * (number / (len(methods) - 1) - 0.5)
        x = [places.index((gate.stage, gate.level)) + shift for gate in method.gates]
        axes.errorbar(x, [gate.weight.mean for gate in method.gates], [gate.weight.sd or 0.0 for gate in method.gates],
                      color=palette.color(method.name), marker=palette.marker(method.name), markersize=5, capsize=2.5,
                      linewidth=1.2, label=wrapped(method.name, 44))  # fmt: skip
    axes.axhline(0.5, color="#888888", linestyle="--", linewidth=1)
    axes.set_xticks(range(len(places)), [f"stage {stage}\nlevel {level}" for stage, level in places])
    lowest = min(gate.weight.mean - (gate.weight.sd or 0) for method in methods for gate in method.gates)
    highest = max(gate.weight.mean + (gate.weight.sd or 0) for method in methods for gate in method.gates)
    room = max(0.005, 0.08 * (max(highest, 0.5) - min(lowest, 0.5)))
    axes.set_ylim(min(lowest, 0.5) - room, max(highest, 0.5) + room)
    axes.set_xlabel("fusion gate; level 0 is the finest")
    axes.set_ylabel("mean weight of the pair path")
    axes.grid(axis="y", color="#dddddd")
    _open(axes)
    _legend_below(figure, len(methods))
    return figure


def draw_smoothness(
    summary: EvaluationSummary, families: Sequence[Mapping[str, float]], titles: Sequence[str], palette: Palette
) -> Any:
    """The compared figure and folding over the smoothness, a line for each family.

    Args:
        summary: of the evaluation.
        families: the smoothness of each method that belongs together, by the method's name.
        titles: what the methods of each family have in common.
        palette: of the evaluation.
    """
    figure_name = summary.compared or "dice"
    figure = new_figure(9.5, 3.9 + _INCHES_A_LEGEND_LINE * len(families))
    left, right = figure.subplots(1, 2, sharex=True)
    for family, title in zip(families, titles, strict=True):
        names = sorted(family, key=lambda name: family[name])
        look: dict[str, Any] = {"color": palette.color(names[0]), "marker": palette.marker(names[0]), "markersize": 5}
        for axes, name in ((left, figure_name), (right, "folding_percent")):
            known = [method for method in names if name in summary.method(method).figures]
            x, spreads = (
                [family[method] for method in known],
                [summary.method(method).figures[name] for method in known],
            )
            low, high = _band(spreads, least=0.0 if axes is right else None)
            axes.plot(x, [found.mean for found in spreads], label=wrapped(title, 60), **look)
            axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
    values = sorted({smoothness for family in families for smoothness in family.values()})
    for axes, label in ((left, NAMES[figure_name]), (right, "folding (% of cells)")):
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
        axes.set_xlabel("smoothness")
        axes.set_title(label, fontsize=11)
        axes.grid(color="#dddddd")
        _open(axes)
    right.set_ylim(bottom=0)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=1, frameon=False, fontsize=9)
    figure.suptitle("mean over the pairs; the band is one standard deviation", fontsize=9, color="#555555")
    return figure


def draw_time(summary: EvaluationSummary, palette: Palette) -> Any | None:
    """The compared figure against the seconds a pair; None where no method took time."""
    figure_name = summary.compared or "dice"
    methods = _by_mean(summary, figure_name)
    timed = [method for method in methods if "seconds" in method.figures and method.figures["seconds"].median > 0]
    if not timed:
        return None
    figure = new_figure(10.0, max(4.2, 1.0 + 0.31 * len(methods)))
    axes = figure.add_subplot()
    for method in methods:
        found, color = method.figures[figure_name], palette.color(method.name)
        label = wrapped(method.name, 40)
        if method in timed:
            axes.errorbar([method.figures["seconds"].median], [found.mean], color=color, ecolor=_pale(color),
                          marker=palette.marker(method.name), markersize=8, linestyle="none",
                          label=label)  # fmt: skip
        else:
            axes.axhline(found.mean, color=color, linestyle=":", linewidth=1.4, label=f"{label} (no time)")
    axes.set_xscale("log")
    _plain_log_ticks(axes, [method.figures["seconds"].median for method in timed])
    axes.set_xlabel("seconds a pair, median, without the initial alignment (logarithmic)")
    axes.set_ylabel(f"{NAMES[figure_name]}, mean")
    axes.grid(color="#dddddd")
    _open(axes)
    handles, labels = axes.get_legend_handles_labels()
    order = {label: number for number, label in enumerate(wrapped(method.name, 40) for method in methods)}
    both = sorted(zip(handles, labels, strict=True), key=lambda item: order[item[1].removesuffix(" (no time)")])
    figure.legend([handle for handle, _ in both], [label for _, label in both], loc="outside right upper",
                  frameon=False, fontsize=9, title="best on top", title_fontsize=9)  # fmt: skip
    return figure


def _by_mean(summary: EvaluationSummary, figure: str) -> list[MethodSummary]:
    """Methods that have the figure, the best mean first."""
    known = [method for method in summary.methods if figure in method.figures]
    return sorted(known, key=lambda method: method.figures[figure].mean, reverse=figure != "tre_mm")


def _known(rows: Sequence[PairRow], method: str, figure: str) -> list[float]:
    values = (getattr(row, figure) for row in rows if row.method == method and row.error is None)
    return [value for value in values if value is not None]


def _jitter(number: int) -> float:
    """A fixed sequence that fills -0.2..0.2 evenly (golden ratio), so that a picture is the same every time."""
    return 0.4 * (number * 0.6180339887 % 1) - 0.2


def _pale(color: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(0.75 + 0.25 * part for part in to_rgb(color))


def _open(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _legend_inches(methods: Sequence[MethodSummary]) -> float:
    lines = sum(wrapped(method.name, 44).count("\n") + 1 for method in methods)
    return 0.25 + _INCHES_A_LEGEND_LINE * (lines + 1) / 2


def _legend_below(figure: Any, entries: int) -> None:
    figure.legend(loc="outside lower left", ncols=min(2, entries), frameon=False, fontsize=9)


def _band(spreads: Sequence[Spread], least: float | None) -> tuple[list[float], list[float]]:
    """One standard deviation below and above the means, the former not below ``least``."""
    low = [found.mean - (found.sd or 0.0) for found in spreads]
    high = [found.mean + (found.sd or 0.0) for found in spreads]
    return low if least is None else [max(least, value) for value in low], high


def _plain_log_ticks(axes: Any, values: Sequence[float]) -> None:
    """Ticks at 1, 2, 5 times powers of ten with plain numbers, over the values and more, at least a power of ten."""
    room = max(1.5, (10.0 * min(values) / max(values)) ** 0.5)
    low, high = min(values) / room, max(values) * room
    ticks = [digit * 10.0**power for power in range(-4, 6) for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_xlim(low, high)
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()
