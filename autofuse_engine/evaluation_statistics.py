"""What the rows of an evaluation say together: a summary of each method, and tests of its difference to a reference."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_rows import PairRow

FIGURES = (
    "dice",
    "dice_before",
    "hd95_mm",
    "hd95_before_mm",
    "tre_mm",
    "tre_before_mm",
    "ncc",
    "folding_percent",
    "folding_count",
    "sd_log_jacobian",
    "inverse_mean_mm",
    "inverse_p99_mm",
    "seconds",
    "seconds_alignment",
    "peak_memory_gib",
)
"""Fields of a row that are summarised."""
COMPARED: Mapping[str, Literal[1, -1]] = {"dice": 1, "tre_mm": -1, "ncc": 1}
"""Figures that methods can be compared by, the first one that is there; 1 where more is better."""
SIGNIFICANT = 0.05
_FEWEST_PAIRS = 6
"""Below, a two-sided signed-rank test cannot reach 0.05: its least p is 2 / 2^n."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One figure of one method over its pairs; ``sd`` (of a sample, n - 1) is None for a single pair."""

    n: int
    mean: float
    sd: float | None
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class GateSpread:
    """Mean weight of the pair path in one fusion gate, over the pairs; level 0 is the finest."""

    stage: int
    level: int
    weight: Spread


@dataclass(frozen=True, kw_only=True)
class MethodSummary:
    """One method over all its pairs.

    Attributes:
        name: display name.
        n: pairs that it registered.
        failed: pairs on which it failed; their figures count nowhere.
        errors: what it said then, each sentence once.
        figures: by name of :data:`FIGURES`, those that are known for at least one pair.
        dice_per_label: by label value.
        hd95_per_label_mm: by label value.
        gates: one per fusion gate, in the order of the stages.
    """

    name: str
    n: int
    failed: int
    errors: tuple[str, ...]
    figures: Mapping[str, Spread]
    dice_per_label: Mapping[str, Spread]
    hd95_per_label_mm: Mapping[str, Spread]
    gates: tuple[GateSpread, ...]

    def mean(self, figure: str) -> float | None:
        """Mean of a figure, or None where no pair has it."""
        found = self.figures.get(figure)
        return None if found is None else found.mean


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A method against the reference, over the pairs that both registered.

    Attributes:
        method: the one that is compared.
        n: pairs in common.
        mean_difference: method minus reference; None without pairs in common.
        p: of the two-sided Wilcoxon signed-rank test; None without pairs in common.
        p_adjusted: after Holm's correction for all methods that are compared; None where ``p`` is.
        note: what has to be known of a test that could not say much; empty else.
    """

    method: str
    n: int
    mean_difference: float | None
    p: float | None
    p_adjusted: float | None
    note: str

    @property
    def significant(self) -> bool:
        """Whether the corrected p lies below :data:`SIGNIFICANT`."""
        return self.p_adjusted is not None and self.p_adjusted < SIGNIFICANT


@dataclass(frozen=True, kw_only=True)
class EvaluationSummary:
    """All methods, and how each one compares with the reference.

    Attributes:
        methods: in the order of their first rows.
        compared: the figure that the tests are about, of :data:`COMPARED`; None where no method has any.
        reference: name of the method that the others are compared with; None where nothing can be compared.
        comparisons: one for each other method.
        pairs: different pairs in all.
        uneven: whether some method has not registered all of them.
    """

    methods: tuple[MethodSummary, ...]
    compared: str | None
    reference: str | None
    comparisons: tuple[Comparison, ...]
    pairs: int
    uneven: bool

    def method(self, name: str) -> MethodSummary:
        """The summary of a method, by its name."""
        return next(method for method in self.methods if method.name == name)

    def comparison(self, name: str) -> Comparison | None:
        """How a method compares; None for the reference itself."""
        return next((found for found in self.comparisons if found.method == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON, with the names of test and correction."""
        tests = {"test": "Wilcoxon signed-rank, two-sided", "correction": "Holm", "significant_below": SIGNIFICANT}
        return {**asdict(self), **tests}


def summarise(rows: Sequence[PairRow], reference: str | None = None) -> EvaluationSummary:
    """Summarise the rows of an evaluation.

    Args:
        rows: one for each method and pair.
        reference: name of the method that the others are compared with; None takes the best mean of the figure
            compared, among methods with nearly all pairs (:func:`has_enough_pairs`).

    Raises:
        InputError: ``reference-unknown-method`` if no row is of that method.
    """
    by_method: dict[str, list[PairRow]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    if reference is not None and reference not in by_method:
        raise InputError(
            "reference-unknown-method",
            f"No method of this evaluation has the name {reference!r}.",
            f"Choose one of: {', '.join(by_method)}.",
        )
    methods = tuple(_method(name, group) for name, group in by_method.items())
    pairs = len({(row.fixed, row.moving) for row in rows})
    compared = next((name for name in COMPARED if any(name in method.figures for method in methods)), None)
    if reference is None and compared is not None:
        reference = _best(methods, compared)
    comparisons: list[Comparison] = []
    if reference is not None and compared is not None:
        base = _values(by_method[reference], compared)
        comparisons = [
            _compare(name, _values(group, compared), base) for name, group in by_method.items() if name != reference
        ]
    return EvaluationSummary(
        methods=methods,
        compared=compared,
        reference=reference if compared is not None else None,
        comparisons=_corrected(comparisons),
        pairs=pairs,
        uneven=any(method.n != pairs for method in methods),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scand. J. Statist. 6, 1979): the k-th smallest of m times m - k + 1, never falling.

    Args:
        p_values: of one family of tests, in any order.

    Returns:
        The corrected values in the same order, at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, p_values[number] * (len(p_values) - rank)))
        corrected[number] = highest
    return corrected


def signed_rank_p(differences: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, differences of zero left out (Wilcoxon, 1945); 1 where none is left.

    Exact for few pairs, else by the normal approximation, as ``scipy.stats.wilcoxon`` chooses.
    """
    from scipy.stats import wilcoxon

    # Sums of the same decimals in another order differ in the last bits, and would count as a difference.
    remaining = [rounded for value in differences if (rounded := round(value, 12)) != 0]
    if not remaining:
        return 1.0
    result: Any = wilcoxon(remaining, alternative="two-sided")
    return min(1.0, float(result.pvalue))


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation, median and ends of at least one value."""
    return Spread(
        n=len(values),
        mean=statistics.fmean(values),
        sd=statistics.stdev(values) if len(values) > 1 else None,
        median=statistics.median(values),
        lowest=min(values),
        highest=max(values),
    )


def _method(name: str, rows: Sequence[PairRow]) -> MethodSummary:
    good = [row for row in rows if row.error is None]
    figures = {figure: [getattr(row, figure) for row in good] for figure in FIGURES}
    gates: dict[tuple[int, int], list[float]] = {}
    for row in good:
        for gate in row.gate_means:
            gates.setdefault((int(gate["stage"]), int(gate["level"])), []).append(gate["pair_weight"])
    return MethodSummary(
        name=name,
        n=len(good),
        failed=len(rows) - len(good),
        errors=tuple(dict.fromkeys(row.error for row in rows if row.error is not None)),
        figures=_spreads(figures),
        dice_per_label=_spreads(_by_label([row.dice_per_label for row in good])),
        hd95_per_label_mm=_spreads(_by_label([row.hd95_per_label_mm for row in good])),
        gates=tuple(
            GateSpread(stage=stage, level=level, weight=spread(weights))
            for (stage, level), weights in sorted(gates.items())
        ),
    )


def _spreads(columns: Mapping[str, Sequence[float | None]]) -> dict[str, Spread]:
    known = {
        name: [value for value in values if value is not None and math.isfinite(value)]
        for name, values in columns.items()
    }
    return {name: spread(values) for name, values in known.items() if values}


def _by_label(tables: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for table in tables:
        for label, value in table.items():
            columns.setdefault(label, []).append(value)
    return dict(sorted(columns.items(), key=lambda item: (not item[0].isdigit(), item[0].zfill(12))))


def has_enough_pairs(method: MethodSummary, methods: Sequence[MethodSummary]) -> bool:
    """Whether a method registered nearly as many pairs as the one with the most, so that its means can be the best."""
    return 10 * method.n >= 9 * max(other.n for other in methods)


def _best(methods: Sequence[MethodSummary], compared: str) -> str:
    known = [method for method in methods if compared in method.figures]
    full = [method for method in known if has_enough_pairs(method, known)]
    sign = COMPARED[compared]
    return max(full, key=lambda method: sign * method.figures[compared].mean).name


def _values(rows: Sequence[PairRow], figure: str) -> dict[tuple[str, str], float]:
    values = {(row.fixed, row.moving): getattr(row, figure) for row in rows if row.error is None}
    return {pair: value for pair, value in values.items() if value is not None and math.isfinite(value)}


def _compare(name: str, values: Mapping[tuple[str, str], float], base: Mapping[tuple[str, str], float]) -> Comparison:
    """A comparison that is not corrected yet."""
    differences = [value - base[pair] for pair, value in values.items() if pair in base]
    if not differences:
        return Comparison(
            method=name, n=0, mean_difference=None, p=None, p_adjusted=None, note="no pair in common with the reference"
        )
    p, note = signed_rank_p(differences), ""
    if all(abs(value) < 1e-12 for value in differences):
        note = "equal on every pair"
    elif len(differences) < _FEWEST_PAIRS:
        pairs = "1 pair" if len(differences) == 1 else f"{len(differences)} pairs"
        note = f"{pairs} in common, too few for significance"
    return Comparison(
        method=name, n=len(differences), mean_difference=statistics.fmean(differences), p=p, p_adjusted=None, note=note
    )


def _corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    tested = [found.p for found in comparisons if found.p is not None]
    adjusted = iter(holm(tested))
    return tuple(
        Comparison(**{**asdict(found), "p_adjusted": None if found.p is None else next(adjusted)})
        for found in comparisons
    )
