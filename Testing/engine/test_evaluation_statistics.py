"""Means, tests and corrections against closed forms, scipy and examples calculated by hand."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from scipy import stats

from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_statistics import holm, signed_rank_p, spread, summarise
from Testing.engine.evaluation_examples import row, rows_of


def exact_p(differences: list[float]) -> float:
    """Two-sided p of the signed-rank test from its definition: the share of all assignments of signs."""
    kept = [value for value in differences if value != 0]
    ranks = stats.rankdata(np.abs(kept))
    observed = sum(rank for rank, value in zip(ranks, kept, strict=True) if value > 0)
    sums = [sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
            for signs in itertools.product((False, True), repeat=len(kept))]  # fmt: skip
    below = np.mean([total <= observed + 1e-9 for total in sums])
    above = np.mean([total >= observed - 1e-9 for total in sums])
    return min(1.0, 2 * min(below, above))


def test_holms_correction_is_that_of_an_example_calculated_by_hand() -> None:
    # 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, the last of which may not fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_corrected_values_keep_the_order_and_are_never_below_those_before() -> None:
    rng = random.Random(4)
    for _ in range(50):
        values = [rng.random() ** 3 for _ in range(rng.randint(1, 9))]
        corrected = holm(values)
        assert all(one >= other for one, other in zip(corrected, values, strict=True))
        order = sorted(range(len(values)), key=lambda number: values[number])
        assert [corrected[number] for number in order] == sorted(corrected)


@pytest.mark.parametrize(
    "differences",
    [
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        [0.1, -0.2, 0.3, 0.45, -0.05, 0.6, 0.7],
        [0.1, 0.1, -0.1, 0.3, 0.3, 0.3, -0.2, 0.4],
        [0.0, 0.0, 0.2, 0.4, -0.1, 0.5],
    ],
    ids=["one-sided", "mixed", "ties", "zeros"],
)
def test_p_of_few_pairs_is_the_share_of_all_assignments_of_signs(differences: list[float]) -> None:
    assert signed_rank_p(differences) == pytest.approx(exact_p(differences), abs=1e-12)


def test_p_of_many_pairs_is_that_of_scipy_in_both_directions() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.01, 0.03, 70)
    assert signed_rank_p(values.tolist()) == pytest.approx(stats.wilcoxon(values).pvalue, abs=1e-12)
    assert signed_rank_p((-values).tolist()) == pytest.approx(signed_rank_p(values.tolist()), abs=1e-12)


def test_equal_values_on_every_pair_give_p_one_and_say_so() -> None:
    dice = [0.7, 0.71, 0.72, 0.74]
    summary = summarise([*rows_of("one", dice), *rows_of("two", [value + 1e-17 for value in dice])], "one")
    found = summary.comparisons[0]
    assert (found.p, found.p_adjusted, found.mean_difference) == (1.0, 1.0, 0.0)
    assert not found.significant
    assert found.note == "equal on every pair"


def test_few_pairs_are_told_and_never_significant() -> None:
    better = [0.8, 0.81, 0.83, 0.84, 0.87]
    summary = summarise([*rows_of("good", better), *rows_of("bad", [value - 0.1 - 0.01 * value for value in better])])
    found = summary.comparisons[0]
    assert found.p == pytest.approx(2 / 2**5)
    assert "5 pairs in common, too few" in found.note
    assert not found.significant


def test_only_pairs_that_both_registered_are_compared_whatever_their_order() -> None:
    rng = random.Random(5)
    one, two = [[rng.random() for _ in range(9)] for _ in range(2)]
    with_failure = [None, *one[1:]]
    rows = [*rows_of("one", with_failure), *reversed(rows_of("two", two))]
    found = summarise(rows, "two").comparisons[0]
    differences = [a - b for a, b in zip(one[1:], two[1:], strict=True)]
    assert found.n == 8
    assert found.mean_difference == pytest.approx(sum(differences) / 8)
    assert found.p == pytest.approx(stats.wilcoxon(differences).pvalue)


def test_no_pair_in_common_is_no_test() -> None:
    other = [row("two", number, dice=0.8) for number in range(20, 26)]
    summary = summarise([*rows_of("one", [0.7] * 6), *other], "one")
    found = summary.comparisons[0]
    assert (found.n, found.p, found.p_adjusted, found.mean_difference) == (0, None, None, None)
    assert "no pair in common" in found.note
    assert summary.pairs == 12
    assert summary.uneven


def test_each_method_is_summarised_without_its_failures() -> None:
    rows = [
        row("net", 0, dice=0.5, hd95_mm=2.0, folding_percent=0.1, seconds=3.0, dice_per_label={"10": 0.4, "2": 0.6}),
        row("net", 1, dice=0.8, hd95_mm=None, folding_percent=0.5, seconds=1.0, dice_per_label={"10": 0.8}),
        row("net", 2, dice=0.9, hd95_mm=1.0, folding_percent=0.0, seconds=2.0, dice_per_label={"2": 1.0}),
        row("net", 3, seconds=99.0, error="It failed."),
    ]
    method = summarise(rows).methods[0]
    assert (method.n, method.failed, method.errors) == (3, 1, ("It failed.",))
    dice = method.figures["dice"]
    assert dice.mean == pytest.approx(2.2 / 3)
    assert dice.median == 0.8
    assert dice.sd == pytest.approx(math.sqrt(((0.5 - 2.2 / 3) ** 2 + (0.8 - 2.2 / 3) ** 2 + (0.9 - 2.2 / 3) ** 2) / 2))
    assert method.figures["folding_percent"].highest == 0.5
    assert method.figures["seconds"].mean == pytest.approx(2.0)
    assert method.figures["hd95_mm"].n == 2
    assert list(method.dice_per_label) == ["2", "10"]
    assert method.dice_per_label["10"].mean == pytest.approx(0.6)
    assert "tre_mm" not in method.figures


def test_gates_have_their_mean_and_deviation_over_the_pairs() -> None:
    weights = [(0.2, 0.9), (0.4, 0.7), (0.9, 0.8)]
    rows = [
        row("net", number, dice=0.5, gate_means=({"stage": 2, "level": 0, "pair_weight": late},
                                                {"stage": 1, "level": 1, "pair_weight": early}))
        for number, (early, late) in enumerate(weights)
    ]  # fmt: skip
    gates = summarise(rows).methods[0].gates
    assert [(gate.stage, gate.level) for gate in gates] == [(1, 1), (2, 0)]
    assert gates[0].weight.mean == pytest.approx(0.5)
    assert gates[0].weight.sd == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1))
    assert gates[1].weight.mean == pytest.approx(0.8)


def test_the_reference_is_the_best_of_those_with_enough_pairs() -> None:
    rows = [*rows_of("lucky", [0.99]), *rows_of("good", [0.8] * 8), *rows_of("bad", [0.7] * 8)]
    assert summarise(rows).reference == "good"
    assert {found.method for found in summarise(rows).comparisons} == {"lucky", "bad"}


def test_one_failure_of_many_does_not_cost_the_first_place() -> None:
    rows = [*rows_of("good", [None, *[0.8] * 19]), *rows_of("bad", [0.7] * 20)]
    assert summarise(rows).reference == "good"
    rows = [*rows_of("good", [None] * 3 + [0.8] * 17), *rows_of("bad", [0.7] * 20)]
    assert summarise(rows).reference == "bad"


def test_without_labels_landmarks_and_then_images_are_compared_and_less_distance_is_better() -> None:
    rows = [
        row(name, number, tre_mm=value, ncc=0.5) for name, value in (("near", 1.0), ("far", 2.0)) for number in (1, 2)
    ]
    summary = summarise(rows)
    assert (summary.compared, summary.reference) == ("tre_mm", "near")
    summary = summarise([row(name, 1, ncc=value) for name, value in (("low", 0.2), ("high", 0.3))])
    assert (summary.compared, summary.reference) == ("ncc", "high")
    assert summarise([row("alone", 1)]).reference is None


def test_an_unknown_reference_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InputError, match="Choose one of: one, two") as caught:
        summarise([*rows_of("one", [0.5]), *rows_of("two", [0.6])], "three")
    assert caught.value.code == "reference-unknown-method"


def test_a_single_pair_has_no_deviation() -> None:
    assert spread([0.25]).sd is None
