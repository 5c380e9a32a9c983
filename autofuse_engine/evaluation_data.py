"""Which pairs an evaluation takes, and how each is read: from a raw dataset, a prepared one, or a list of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from autofuse_engine.data.cases import CaseSource, Dataset
from autofuse_engine.data.dataset import open_dataset
from autofuse_engine.data.manifest import MANIFEST
from autofuse_engine.data.pairs import PairCases, PairSampler
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.data.volume import Volume
from autofuse_engine.dataset_configs import Split
from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_configs import EvaluationConfig, PairChoice
from autofuse_engine.evaluation_methods import EvaluationPair
from autofuse_engine.evaluation_pair_list import read_pair_list
from autofuse_engine.events import Warning

DEFAULT_PAIRS = 20
"""How many pairs are taken of a dataset that lists none, unless the user says otherwise."""
_SPLITS_IN_TURN: tuple[Split, ...] = ("validation", "test", "train")
_EVERY = 1 << 62
DataKind = Literal["raw", "prepared", "pairs"]


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationData:
    """The pairs of an evaluation; nothing is read yet.

    Attributes:
        kind: ``raw`` dataset, ``prepared`` one (whose images are aligned already), or a list of ``pairs``.
        path: where it is.
        fingerprints: by case name something that changes with the case's files.
        readers: by names of the fixed and the moving case what reads them, with the identity as initial alignment.
        label_names: by label value, as far as the dataset names them.
        warnings: what the user should know of the choice.
    """

    kind: DataKind
    path: Path
    fingerprints: Mapping[str, str]
    readers: Mapping[tuple[str, str], Callable[[], EvaluationPair]]
    label_names: Mapping[int, str] = field(default_factory=dict)
    warnings: tuple[Warning, ...] = ()


def open_data(config: EvaluationConfig) -> EvaluationData:
    """Find the pairs that a configuration asks for.

    Raises:
        FileError: ``dataset-not-found`` and others of :func:`open_dataset`, :meth:`PreparedDataset.open` and
            :func:`read_pair_list`.
        InputError: ``pairs-too-few``, ``pairs-unknown-case``, ``options-invalid``.
    """
    path = Path(config.dataset)
    if path.is_file() and path.suffix.lower() == ".csv":
        return _from_list(path, config)
    if (path / MANIFEST).is_file():
        return _from_prepared(PreparedDataset.open(path), config)
    return _from_raw(open_dataset(path), path, config)


def _from_list(path: Path, config: EvaluationConfig) -> EvaluationData:
    if config.split is not None or config.kind is not None or config.all_pairs:
        raise InputError(
            "options-invalid",
            f"{path.name} lists the pairs itself, so that a split, a kind of pairs and all pairs cannot be chosen.",
            "Leave these options out; --pairs N takes the first N of the list.",
        )
    listed = read_pair_list(path)[: config.pairs]
    prints = {
        name: str(file.stat().st_size) if file.is_file() else "folder"
        for pair in listed
        for name, file in ((pair.fixed, pair.fixed_image), (pair.moving, pair.moving_image))
    }
    readers = {(pair.fixed, pair.moving): pair.read for pair in listed}
    return EvaluationData(kind="pairs", path=path, fingerprints=prints, readers=readers)


def _from_prepared(dataset: PreparedDataset, config: EvaluationConfig) -> EvaluationData:
    phases = any(case.frame is not None for case in dataset.cases)
    pairs, warnings = _choose(dataset, phases, config)
    grid = np.array(dataset.manifest.grid_ras_from_ijk)
    low, high = dataset.preprocessing.intensity_window or (0.0, 1.0)

    def read(fixed: str, moving: str) -> EvaluationPair:
        images, labels = [], []
        for name in (fixed, moving):
            index = dataset.index_of(name)
            found = dataset.labelmap(index)
            values = low + dataset.image(index) * np.float32(high - low)  # a model applies its window again
            images.append(Volume(array=values, ras_from_ijk=grid, name=name))
            labels.append(None if found is None else Volume(array=np.array(found), ras_from_ijk=grid, name=name))
        return _pair(images, labels)

    return EvaluationData(
        kind="prepared",
        path=dataset.folder,
        fingerprints={case.name: case.image.sha256 for case in dataset.cases},
        readers={pair: partial(read, *pair) for pair in pairs},
        label_names={label.value: label.name for label in dataset.labels},
        warnings=warnings,
    )


def _from_raw(dataset: Dataset, path: Path, config: EvaluationConfig) -> EvaluationData:
    sources = {case.name: case for case in dataset.cases}
    phases = any(case.role is not None for case in dataset.cases)
    pairs, warnings = _choose(_RawCases(dataset), phases, config)
    problems = [problem for problem in dataset.problems if problem.severity != "info"]

    def read(fixed: str, moving: str) -> EvaluationPair:
        chosen = [sources[name] for name in (fixed, moving)]
        return _pair([case.read_image() for case in chosen], [case.read_labelmap() for case in chosen])

    return EvaluationData(
        kind="raw",
        path=path,
        fingerprints={name: _sizes(case) for name, case in sources.items()},
        readers={pair: partial(read, *pair) for pair in pairs},
        label_names=dataset.label_names,
        warnings=(*(Warning(code=problem.code, text=problem.text) for problem in problems), *warnings),
    )


def _pair(images: Sequence[Volume], labels: Sequence[Volume | None]) -> EvaluationPair:
    fixed, moving = images
    return EvaluationPair(
        fixed=fixed, moving=moving, initial_ras=np.eye(4), fixed_labels=labels[0], moving_labels=labels[1]
    )


def _sizes(case: CaseSource) -> str:
    return "/".join(str(path.stat().st_size) for path in (case.image, case.label) if path is not None)


def _choose(
    dataset: PairCases, phases: bool, config: EvaluationConfig
) -> tuple[list[tuple[str, str]], tuple[Warning, ...]]:
    """Names of the pairs; the order is that of the pairs on which a training with this dataset is validated."""
    split = config.split or _first_split(dataset)
    kind = config.kind or _first_kind(dataset, split, phases)
    count = _EVERY if config.all_pairs or (kind == "listed" and config.pairs is None) else config.pairs
    sampler = PairSampler(dataset, kind, split)
    pairs = sampler.validation_pairs(DEFAULT_PAIRS if count is None else count, split)
    warnings: tuple[Warning, ...] = ()
    if split == "train" and any(case.split != "train" for case in dataset.cases):
        text = "The pairs are of the training split: a model that learned from them does better on them than on others."
        warnings = (Warning(code="evaluates-training", text=text),)
    return [(dataset.cases[fixed].name, dataset.cases[moving].name) for fixed, moving in pairs], warnings


def _first_split(dataset: PairCases) -> Split:
    for split in _SPLITS_IN_TURN:
        if sum(case.split == split for case in dataset.cases) > 1:
            return split
    return _SPLITS_IN_TURN[0]


def _first_kind(dataset: PairCases, split: Split, phases: bool) -> PairChoice:
    if dataset.listed_pairs.get(split):
        return "listed"
    if phases:
        return "within-group"
    labelled = sum(case.split == split and case.has_labels for case in dataset.cases)
    return "labelled" if labelled > 1 else "any"


@dataclass(frozen=True, kw_only=True)
class _RawCase:
    name: str
    split: Split
    group: str
    has_labels: bool


class _RawCases:
    """A raw dataset as the sampler of pairs sees it."""

    def __init__(self, dataset: Dataset) -> None:
        self.folder = dataset.root
        self.listed_pairs = dataset.pairs
        self.cases = tuple(
            _RawCase(name=case.name, split=case.split, group=case.group, has_labels=case.label is not None)
            for case in dataset.cases
        )
        self._index = {case.name: number for number, case in enumerate(self.cases)}

    def index_of(self, name: str) -> int:
        return self._index[name]
