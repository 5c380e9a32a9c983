"""Validation cases are drawn by patient, stay the same when others join, and never split a listed pair."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofuse_engine.data.cases import CaseSource, Dataset
from autofuse_engine.data.validation_split import with_validation_cases


def dataset(count: int, groups: str = "", split: str = "train", **more: object) -> Dataset:
    cases = tuple(
        CaseSource(name=f"c{n}", image=Path(f"c{n}.nii"), group=groups[n] if groups else f"c{n}", split=split)  # type: ignore[arg-type]
        for n in range(count)
    )
    return Dataset(root=Path(), layout="folder", cases=cases, **more)  # type: ignore[arg-type]


def drawn(found: Dataset) -> set[str]:
    return {case.name for case in found.cases if case.split == "validation"}


def test_a_tenth_is_drawn_and_the_seed_decides() -> None:
    first = drawn(with_validation_cases(dataset(50), 10, seed=0))
    assert len(first) == 5
    assert first == drawn(with_validation_cases(dataset(50), 10, seed=0))
    assert first != drawn(with_validation_cases(dataset(50), 10, seed=1))


def test_patients_stay_whole() -> None:
    groups = "aabbccddeeff"
    found = with_validation_cases(dataset(12, groups), 30, seed=2)
    chosen = drawn(found)
    assert len(chosen) == 4
    patients = {groups[int(name[1:])] for name in chosen}
    assert len(patients) == 2


def test_listed_pairs_stay_whole_and_move_along() -> None:
    pairs = {"train": tuple((f"c{n}", f"c{n + 1}") for n in range(0, 20, 2))}
    found = with_validation_cases(dataset(20, pairs=pairs), 20, seed=0)
    chosen = drawn(found)
    assert len(chosen) == 4
    assert {name for pair in found.pairs["validation"] for name in pair} == chosen
    assert len(found.pairs["train"]) == 8


def test_a_case_that_joins_moves_few_others() -> None:
    before, after = (drawn(with_validation_cases(dataset(count), 10, seed=0)) for count in (40, 41))
    assert len(before & after) >= len(before) - 1


@pytest.mark.parametrize("given", [dataset(3), dataset(30, split="validation"), dataset(1)])
def test_nothing_is_drawn_where_little_is_there_or_validation_is_given(given: Dataset) -> None:
    assert with_validation_cases(given, 10, seed=0) == given


def test_copies_of_one_image_stay_together() -> None:
    contents = {f"c{n}": "same" if n in (3, 8, 11) else f"own {n}" for n in range(20)}
    for seed in range(8):
        chosen = drawn(with_validation_cases(dataset(20), 30, seed, contents))
        assert len(chosen & {"c3", "c8", "c11"}) in (0, 3)


def test_zero_percent_draws_nobody() -> None:
    assert not drawn(with_validation_cases(dataset(30), 0, seed=0))
