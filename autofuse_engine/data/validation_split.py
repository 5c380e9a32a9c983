"""Draws validation cases for a dataset that names none: whole patients, and never one half of a listed pair."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from autofuse_engine.data.cases import CaseSource, Dataset

_FEWEST_TRAINING_CASES = 2
_FEWEST_VALIDATION_CASES = 2


def with_validation_cases(
    dataset: Dataset, percent: float, seed: int, contents: Mapping[str, str | None] | None = None
) -> Dataset:
    """The dataset with about ``percent`` of its training cases, two at least, moved to validation.

    Nothing changes where the dataset has validation cases of its own, or too few to spare. Who is drawn depends on
    patients' names and the seed alone, so a case that is added later moves few others. ``contents`` (checksums by
    case name) keeps copies of one image together.
    """
    training = [case for case in dataset.cases if case.split == "train"]
    if percent == 0 or any(case.split == "validation" for case in dataset.cases):
        return dataset
    clusters = _clusters(training, dataset.pairs, contents or {})
    wanted = max(_FEWEST_VALIDATION_CASES, round(len(training) * percent / 100))
    drawn: set[str] = set()
    for cluster in sorted(clusters, key=lambda names: _draw(min(names), seed)):
        if len(drawn) >= wanted:
            break
        if len(training) - len(drawn) - len(cluster) >= _FEWEST_TRAINING_CASES:
            drawn |= cluster
    if len(drawn) < _FEWEST_VALIDATION_CASES:
        return dataset
    cases = tuple(replace(case, split="validation") if case.name in drawn else case for case in dataset.cases)
    pairs = {split: listed for split, listed in dataset.pairs.items() if split not in ("train", "validation")}
    listed = dataset.pairs.get("train", ())
    pairs["train"] = tuple(pair for pair in listed if not drawn & set(pair))
    pairs["validation"] = tuple(pair for pair in listed if drawn >= set(pair))
    return replace(dataset, cases=cases, pairs={split: some for split, some in pairs.items() if some})


def _clusters(
    cases: list[CaseSource], pairs: Mapping[str, tuple[tuple[str, str], ...]], contents: Mapping[str, str | None]
) -> list[set[str]]:
    """Cases that belong together: those of one patient, copies, and those that a listed pair joins."""
    cluster_of: dict[str, set[str]] = {}
    for case in cases:
        cluster_of[case.name] = {case.name}
    first: dict[tuple[str, str], str] = {}
    marks = [(case.name, ("patient", case.group or case.name)) for case in cases]
    marks += [(case.name, ("content", contents.get(case.name) or case.name)) for case in cases]
    links = [(name, first.setdefault(mark, name)) for name, mark in marks]
    for one, other in (*links, *pairs.get("train", ())):
        if one in cluster_of and other in cluster_of and cluster_of[one] is not cluster_of[other]:
            joined = cluster_of[one] | cluster_of[other]
            for name in joined:
                cluster_of[name] = joined
    return list({id(cluster): cluster for cluster in cluster_of.values()}.values())


def _draw(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
