"""Checks a dataset for training: every case is read, and every problem is told at once, each with its cure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autofuse_engine.case_pool import CasePool, usable_cores
from autofuse_engine.data.case_facts import CaseFacts, look_at_case
from autofuse_engine.data.cases import CaseSource, Dataset, Problem
from autofuse_engine.data.dataset import open_dataset
from autofuse_engine.data.dataset_problems import problems_of
from autofuse_engine.errors import AutoFuseError
from autofuse_engine.events import Progress, Report, silent

_BYTES_WORTH_A_PROCESS = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class LabelFacts:
    """One label value over all labelmaps: in how many cases it occurs, and its mean volume there."""

    value: int
    name: str
    cases: int
    mean_ml: float


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """What :func:`check_dataset` found.

    Attributes:
        path: the folder.
        layout: ``learn2reg``, ``decathlon``, ``folder`` or ``acdc``.
        about: name, description, licence, reference, as far as given.
        cases: facts, in the dataset's order.
        labels: by value.
        problems: errors first, then warnings, then facts; alike ones of several cases are one problem.
        splits: number of cases by split.
    """

    path: str
    layout: str
    about: Mapping[str, str]
    cases: tuple[CaseFacts, ...]
    labels: tuple[LabelFacts, ...]
    problems: tuple[Problem, ...]
    splits: Mapping[str, int]

    @property
    def has_errors(self) -> bool:
        """Whether anything keeps the dataset from being used."""
        return any(problem.severity == "error" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        counts = Counter(problem.severity for problem in self.problems)
        return {
            **asdict(self),
            "labelled_cases": sum(case.label_voxels is not None for case in self.cases),
            "counts": {severity: counts.get(severity, 0) for severity in ("error", "warning", "info")},
        }


def check_dataset(
    path: str | Path,
    report: Report = silent,
    *,
    jobs: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> DatasetReport:
    """Read every case of a dataset and report all that is wrong with it.

    Args:
        path: the folder, or its ``dataset.json``; see :func:`autofuse_engine.data.dataset.open_dataset`.
        report: receives progress.
        jobs: processes at once; None means as many as there are cores, and few for a small dataset.
        cancelled: asked several times a second.

    Raises:
        FileError: only where the folder is no dataset at all, as :func:`open_dataset` says.
        CancelledError: if ``cancelled()`` became true.
    """
    dataset = open_dataset(path)
    with CasePool(jobs or worthwhile_jobs(dataset), cancelled) as pool:
        facts = look_at_cases(dataset, pool, report)
    return DatasetReport(
        path=str(dataset.root),
        layout=dataset.layout,
        about=dict(dataset.about),
        cases=tuple(facts),
        labels=_label_facts(dataset, facts),
        problems=problems_of(dataset, facts),
        splits=dict(Counter(case.split for case in facts)),
    )


def look_at_cases(dataset: Dataset, pool: CasePool, report: Report = silent) -> list[CaseFacts]:
    """Facts of every case, in the dataset's order; see :func:`check_dataset`."""
    found: dict[int, CaseFacts] = {}

    def done(index: int, outcome: CaseFacts | AutoFuseError) -> None:
        source = dataset.cases[index]
        if isinstance(outcome, AutoFuseError):
            problem = Problem.from_error(outcome, source.name)
            outcome = CaseFacts(name=source.name, split=source.split, group=source.group, problems=(problem,))
        found[index] = outcome
        report(Progress(stage="check", fraction=len(found) / len(dataset.cases), text=source.name))

    pool.map(_look, dataset.cases, done)
    return [found[index] for index in range(len(dataset.cases))]


def worthwhile_jobs(dataset: Dataset) -> int:
    """One process for a small dataset, as many as there are cores for a large one."""
    size = 0
    for case in dataset.cases:
        size += sum(path.stat().st_size for path in (case.image, case.label) if path is not None and path.is_file())
    return max(1, min(usable_cores(), size // _BYTES_WORTH_A_PROCESS))


def _look(source: CaseSource, cancelled: Callable[[], bool]) -> CaseFacts:
    return look_at_case(source)


def _label_facts(dataset: Dataset, facts: list[CaseFacts]) -> tuple[LabelFacts, ...]:
    volumes: dict[int, list[float]] = {}
    for case in facts:
        for value, count in (case.label_voxels or {}).items():
            volumes.setdefault(value, []).append(count * (case.voxel_mm3 or 0.0) / 1000)
    return tuple(
        LabelFacts(
            value=value,
            name=dataset.label_names.get(value, ""),
            cases=len(volumes[value]),
            mean_ml=sum(volumes[value]) / len(volumes[value]),
        )
        for value in sorted(volumes)
    )
