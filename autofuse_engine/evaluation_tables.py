"""Tables of an evaluation: for Markdown, for the terminal, and the means of the fusion gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autofuse_engine.evaluation_statistics import (
    SIGNIFICANT,
    Comparison,
    EvaluationSummary,
    MethodSummary,
    Spread,
    has_enough_pairs,
)

NAMES = {"dice": "Dice", "tre_mm": "landmark error (mm)", "ncc": "NCC"}
_NONE = "-"
_NAME_WIDTH, _LEAST_NAME_WIDTH, _P_WIDTH = 40, 18, 12
"""Characters on a terminal."""


@dataclass(frozen=True)
class _Column:
    """A column of the table of methods.

    ``better`` is 1 or -1 where more or less is better and the best mean stands out. Doing nothing takes no time and
    never folds, so no such figure stands out.
    """

    title: str
    figure: str
    text: Callable[[Spread], str]
    better: int = 0


def _with_sd(decimals: int) -> Callable[[Spread], str]:
    def text(found: Spread) -> str:
        sd = "" if found.sd is None else f" ± {found.sd:.{decimals}f}"
        return f"{found.mean:.{decimals}f}{sd}"

    return text


def _mean(decimals: int) -> Callable[[Spread], str]:
    return lambda found: f"{found.mean:.{decimals}f}"


def _median(found: Spread) -> str:
    """The first registration of a process is slower than all others: the mean would tell of that."""
    return f"{found.median:.0f}" if found.median >= 100 else f"{found.median:.3g}"


_COLUMNS = (
    _Column("Dice", "dice", _with_sd(4), 1),
    _Column("Dice, median", "dice", lambda found: f"{found.median:.4f}"),
    _Column("HD95 (mm)", "hd95_mm", _with_sd(2), -1),
    _Column("landmarks (mm)", "tre_mm", _with_sd(2), -1),
    _Column("NCC", "ncc", _mean(4)),
    _Column("folding (%)", "folding_percent", _mean(4)),
    _Column("folding, worst (%)", "folding_percent", lambda found: f"{found.highest:.4f}"),
    _Column("folding (cells)", "folding_count", _mean(1)),
    _Column("SDlogJ", "sd_log_jacobian", _mean(4)),
    _Column("inverse, mean (mm)", "inverse_mean_mm", _mean(3)),
    _Column("inverse, 99 % (mm)", "inverse_p99_mm", _mean(3)),
    _Column("seconds, median", "seconds", _median),
    _Column("memory (GiB)", "peak_memory_gib", _mean(2)),
)


def table_markdown(summary: EvaluationSummary, title: str = "") -> str:
    """The table of methods in GitHub's Markdown with its notes; the best Dice, HD95 and landmark error are bold."""
    header, rows, best = _cells(summary)
    lines = [f"# {title}", ""] if title else []
    lines += [_line(header), _line(["---", *["---:"] * (len(header) - 1)])]
    for number, row in enumerate(rows):
        shown = [
            f"**{_escaped(cell)}**" if (number, place) in best else _escaped(cell) for place, cell in enumerate(row)
        ]
        lines.append(_line(shown))
    return "\n".join([*lines, "", *(f"{_escaped(note)}  " for note in notes(summary)), ""])


def gates_markdown(summary: EvaluationSummary) -> str:
    """Mean weight of the pair path in each fusion gate, a row a gate and a column a method; empty without gates."""
    methods = [method for method in summary.methods if method.gates]
    if not methods:
        return ""
    places = sorted({(gate.stage, gate.level) for method in methods for gate in method.gates})
    found = [{(gate.stage, gate.level): gate.weight for gate in method.gates} for method in methods]
    text = _with_sd(4)
    lines = [
        _line(["stage", "level", *(_escaped(method.name) for method in methods)]),
        _line(["---:", "---:", *["---:"] * len(methods)]),
    ]
    for place in places:
        weights = [table.get(place) for table in found]
        lines.append(_line([*map(str, place), *(_NONE if weight is None else text(weight) for weight in weights)]))
    note = (
        "Mean weight of the features of the pair path in each fusion gate, over voxels and channels, and its standard "
        "deviation over the pairs. Above 0.5 the pair path counts more than the paths of single images. "
        "Level 0 is the finest."
    )
    return "\n".join([*lines, "", note, ""])


def print_summary(summary: EvaluationSummary, title: str = "") -> None:
    """The same table on stdout. On a narrow terminal figures that tell least are left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    header, rows, best = _cells(summary)
    hidden: set[int] = set()
    for name in ("inverse, 99 % (mm)", "NCC", "Dice, median", "folding (cells)", "memory (GiB)", "inverse, mean (mm)",
                 "SDlogJ", "folding, worst (%)", "HD95 (mm)", "pairs", "p"):  # fmt: skip
        if _width(header, rows, hidden) > console.width and name in header:
            hidden.add(header.index(name))
    made = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold")
    least = {"method": min(_LEAST_NAME_WIDTH, max((len(row[0]) for row in rows), default=0)), "p": _P_WIDTH}
    for place, name in enumerate(header):
        if place not in hidden:
            words = name in ("method", "p")
            made.add_column(name, justify="right" if place else "left", overflow="fold", no_wrap=not words,
                            min_width=least.get(name))  # fmt: skip
    for number, row in enumerate(rows):
        kept = [(place, cell) for place, cell in enumerate(row) if place not in hidden]
        made.add_row(*(Text(cell, style="bold green" if (number, place) in best else "") for place, cell in kept))
    console.print(made)
    for note in notes(summary):
        console.print(note, markup=False, highlight=False, style="dim")
    if hidden:
        left_out = "; ".join(header[place] for place in sorted(hidden))
        console.print(f"Left out for want of room: {left_out}.", markup=False, highlight=False, style="dim")


def notes(summary: EvaluationSummary) -> list[str]:
    """Sentences that belong below the table: what was tested, and what to be careful with."""
    pairs = "1 pair" if summary.pairs == 1 else f"{summary.pairs} pairs"
    lines = [f"Mean ± standard deviation over {pairs}; 'folding, worst' is the highest of any pair."]
    if summary.reference is not None and summary.comparisons:
        name = NAMES[summary.compared or "dice"]
        lines.append(
            f"p: two-sided Wilcoxon signed-rank test of {name} against {summary.reference}, over the pairs that both "
            f"registered; Holm's correction for {_count(len(summary.comparisons), 'test')}; significant below "
            f"{SIGNIFICANT:g}. Pairs that share a case are not independent: take p as a guide."
        )
    for text in dict.fromkeys(found.note for found in summary.comparisons if found.note):
        lines.append(f"{', '.join(found.method for found in summary.comparisons if found.note == text)}: {text}.")
    failed = [method for method in summary.methods if method.failed]
    if summary.uneven:
        lines.append("Not every method registered every pair: means over different pairs compare with caution.")
    for method in failed:
        lines.append(f"{method.name} failed on {_count(method.failed, 'pair')}: {' '.join(method.errors[:3])}")
    return lines


def p_text(summary: EvaluationSummary, name: str) -> str:
    """What stands in the column p: the corrected value, and whether it is not significant."""
    if name == summary.reference:
        return "reference"
    found: Comparison | None = summary.comparison(name)
    if found is None or found.p_adjusted is None:
        return _NONE
    shown = "< 0.001" if found.p_adjusted < 0.001 else f"{found.p_adjusted:.3f}"
    return shown if found.significant else f"{shown}, not significant"


def _cells(summary: EvaluationSummary) -> tuple[list[str], list[list[str]], set[tuple[int, int]]]:
    """Header, rows, and the places (row, column) that stand out."""
    methods = summary.methods
    columns = [column for column in _COLUMNS if any(column.figure in method.figures for method in methods)]
    compared = [column for column in columns if column.figure == summary.compared]
    table: list[tuple[str, list[str]]] = [
        ("method", [method.name for method in methods]),
        ("pairs", [str(method.n) for method in methods]),
    ]
    if any(method.failed for method in methods):
        table.append(("failed", [str(method.failed) for method in methods]))
    best: set[tuple[int, int]] = set()
    for column in columns:
        if column.better and len(methods) > 1:
            best |= {(number, len(table)) for number in _best(column, methods)}
        table.append((column.title, [_text(column, method) for method in methods]))
        if summary.comparisons and column is compared[-1]:
            table.append(("p", [p_text(summary, method.name) for method in methods]))
    rows = [[texts[number] for _, texts in table] for number in range(len(methods))]
    return [title for title, _ in table], rows, best


def _text(column: _Column, method: MethodSummary) -> str:
    found = method.figures.get(column.figure)
    return _NONE if found is None else column.text(found)


def _best(column: _Column, methods: Sequence[MethodSummary]) -> list[int]:
    """Rows whose mean is the best as it is shown, so that equal cells stand out together."""
    known = {
        number: method.figures[column.figure]
        for number, method in enumerate(methods)
        if column.figure in method.figures and has_enough_pairs(method, methods)
    }
    if not known:
        return []
    shown = {number: column.text(found).split(" ")[0] for number, found in known.items()}
    best = max(known, key=lambda number: column.better * known[number].mean)
    return [number for number in known if shown[number] == shown[best]]


def _width(header: Sequence[str], rows: Sequence[Sequence[str]], hidden: set[int]) -> int:
    """Characters that the table takes at least with some room for names; those and p may stand on several lines."""
    most = {"method": _NAME_WIDTH, "p": _P_WIDTH}
    widths = []
    for place, (name, *cells) in enumerate(zip(header, *rows, strict=True)):
        if place not in hidden:
            widths.append(max(len(name), min(most.get(name, 99), max(map(len, cells)))) + 3)
    return sum(widths) + 1


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\|*_`<[]" else letter for letter in text)
