"""Pairs for training: every pair equally often, never a case with itself, and nothing but seed and step decides."""

from __future__ import annotations

import random
from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest
from prepared_folder import make_prepared

from autofuse_engine.data.pairs import PairSampler, read_pairs
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.errors import FileError, InputError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Seven training cases, of which 0, 1, 2 have labels, in the groups a a b b b c d; validation 7, 8, 9."""
    return make_prepared(
        tmp_path_factory.mktemp("pairs"), train=7, validation=3, labelled=3, groups=list("aabbbcd") + list("eef")
    )


def epoch(sampler: PairSampler, number: int = 0) -> list[tuple[int, int]]:
    first = number * sampler.pairs_per_epoch
    return [sampler.pair(first + step) for step in range(sampler.pairs_per_epoch)]


def test_every_ordered_pair_of_training_cases_occurs_once_an_epoch(dataset: PreparedDataset) -> None:
    sampler = PairSampler(dataset, seed=3)
    assert sorted(epoch(sampler)) == sorted(permutations(range(7), 2))
    assert sorted(epoch(sampler, 5)) == sorted(permutations(range(7), 2))


def test_epochs_and_seeds_differ_in_their_order(dataset: PreparedDataset) -> None:
    sampler = PairSampler(dataset, seed=3)
    orders = [epoch(sampler), epoch(sampler, 1), epoch(PairSampler(dataset, seed=4))]
    assert len({tuple(order) for order in orders}) == 3


def test_the_order_is_close_to_chance() -> None:
    """Over many epochs each pair stands at each place about equally often (chi-square, 99.9 percent)."""
    from autofuse_engine.data.pairs import _permuted

    count, epochs = 12, 3000
    seen = Counter((place, _permuted(place, count, f"0/0/{e}")) for e in range(epochs) for place in range(count))
    expected = epochs / count
    chi_square = sum(
        (seen[place, value] - expected) ** 2 / expected for place in range(count) for value in range(count)
    )
    assert chi_square < 174  # 99.9 percent quantile for (12 - 1)^2 = 121 degrees of freedom


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 64, 65, 1000])
def test_the_permutation_is_one_for_every_count(count: int) -> None:
    from autofuse_engine.data.pairs import _permuted

    assert sorted(_permuted(place, count, "key") for place in range(count)) == list(range(count))


def test_a_step_gives_the_same_pair_in_any_order_of_asking(dataset: PreparedDataset) -> None:
    steps = list(range(200))
    random.Random(1).shuffle(steps)
    sampler = PairSampler(dataset, "labelled+unlabelled", seed=9)
    shuffled = {step: sampler.pair(step) for step in steps}
    again = PairSampler(dataset, "labelled+unlabelled", seed=9)
    assert [again.pair(step) for step in range(200)] == [shuffled[step] for step in range(200)]


def test_the_order_is_the_same_on_every_machine_and_version(dataset: PreparedDataset) -> None:
    sampler = PairSampler(dataset, seed=0)
    assert [sampler.pair(step) for step in range(6)] == FROZEN_ORDER


FROZEN_ORDER = [(3, 2), (3, 4), (4, 2), (1, 2), (3, 0), (0, 1)]
"""What the first version gave: a run that was started with it has to resume with the same pairs."""


def test_labelled_pairs_have_labels_on_both_sides(dataset: PreparedDataset) -> None:
    assert sorted(epoch(PairSampler(dataset, "labelled"))) == sorted(permutations(range(3), 2))


def test_labelled_and_unlabelled_take_turns(dataset: PreparedDataset) -> None:
    sampler = PairSampler(dataset, "labelled+unlabelled")
    unlabelled = [pair for pair in permutations(range(7), 2) if max(pair) >= 3]
    assert sampler.pairs_per_epoch == 2 * len(unlabelled)
    pairs = epoch(sampler)
    assert {max(pair) < 3 for pair in pairs[0::2]} == {True}
    assert sorted(pairs[1::2]) == sorted(unlabelled)
    assert set(Counter(pairs[0:12:2]).values()) == {1}
    assert len(sampler.validation_pairs(4)) == 4, "validation cases have no labels here, so any pair serves"


def test_within_groups_both_directions_and_no_stranger(dataset: PreparedDataset) -> None:
    expected = [*permutations((0, 1), 2), *permutations((2, 3, 4), 2)]
    assert sorted(epoch(PairSampler(dataset, "within-group"))) == sorted(expected)
    assert set(PairSampler(dataset, "within-group").validation_pairs(9)) == {(7, 8), (8, 7)}


def test_listed_pairs_keep_their_direction(dataset: PreparedDataset, tmp_path: Path) -> None:
    file = tmp_path / "paire müller.csv"
    file.write_text("\ufefffixed,moving\ncase-4,case-1\n case-0 ,case-6\ncase-8,case-7\n", encoding="utf-8")
    sampler = PairSampler(dataset, "listed", pairs_file=file)
    assert sorted(epoch(sampler)) == [(0, 6), (4, 1)]
    assert sampler.validation_pairs(5) == ((8, 7),)


def test_the_datasets_own_list_is_used_without_a_file(tmp_path: Path) -> None:
    listed = {"train": (("case-2", "case-0"),), "validation": (("case-4", "case-3"), ("case-3", "case-5"))}
    sampler = PairSampler(make_prepared(tmp_path, train=3, validation=3, pairs=listed), "listed")
    assert [sampler.pair(step) for step in range(3)] == [(2, 0)] * 3
    assert sampler.validation_pairs(1) == ((4, 3),)


def test_validation_pairs_are_different_and_independent_of_the_seed(dataset: PreparedDataset) -> None:
    pairs = PairSampler(dataset, seed=1).validation_pairs(4)
    assert len(set(pairs)) == 4
    assert {index for pair in pairs for index in pair} <= {7, 8, 9}
    assert all(fixed != moving for fixed, moving in pairs)
    assert pairs == PairSampler(dataset, seed=2).validation_pairs(4)
    assert len(PairSampler(dataset).validation_pairs(100)) == 6


@pytest.mark.parametrize("kind", ["labelled", "labelled+unlabelled"])
def test_a_split_without_such_pairs_is_refused(dataset: PreparedDataset, kind: str) -> None:
    with pytest.raises(InputError) as caught:
        PairSampler(dataset, kind, split="validation")  # type: ignore[arg-type]
    assert caught.value.code == "pairs-too-few"
    assert "3 cases, 0 with labels" in caught.value.text


def test_where_every_case_has_labels_the_turns_are_all_labelled(tmp_path: Path) -> None:
    dataset = make_prepared(tmp_path, train=3)
    assert sorted(epoch(PairSampler(dataset, "labelled+unlabelled"))) == sorted(permutations(range(3), 2))


@pytest.mark.parametrize(
    "text", ["", "fixed,moving\n", "a,b\nx,y\n", "fixed,moving\ncase-1,case-1\n", "fixed,moving\ncase-1,\n"]
)
def test_a_list_of_pairs_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(FileError) as caught:
        read_pairs(file)
    assert caught.value.code == "table-invalid"


def test_a_list_that_is_not_text_or_not_there_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    with pytest.raises(FileError, match="no file"):
        read_pairs(file)
    file.write_bytes(b"\xff\xfe\x00fixed")
    with pytest.raises(FileError, match="as UTF-8 text"):
        read_pairs(file)


def test_an_unknown_name_in_the_list_is_refused(dataset: PreparedDataset, tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("fixed,moving\ncase-1,case-99\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        PairSampler(dataset, "listed", pairs_file=file)
    assert caught.value.code == "pairs-unknown-case"
    assert "case-99" in caught.value.text


def test_programmers_are_told_the_rule(dataset: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind is one of"):
        PairSampler(dataset, "everything")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="goes with kind 'listed'"):
        PairSampler(dataset, pairs_file=tmp_path / "x.csv")
    with pytest.raises(ValueError, match="at least 0"):
        PairSampler(dataset).pair(-1)
