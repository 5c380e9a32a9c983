"""Prepares a dataset for training: one grid, one intensity range, grouped labels, memory-mapped arrays.

Three steps for each case: look, align, store. Each keeps its outcome, so a run that was stopped or killed goes on where
it was, and a changed option or image repeats only what depends on it. The result does not depend on the number of
processes or on interruptions, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autofuse_engine.case_pool import CasePool, usable_cores
from autofuse_engine.data.case_alignment import AlignedCase, AlignmentTask, align_case
from autofuse_engine.data.case_arrays import ArrayTask, store_case
from autofuse_engine.data.case_facts import CaseFacts, look_at_case
from autofuse_engine.data.cases import CaseSource, Dataset
from autofuse_engine.data.common_grid import axes_of, common_grid, holds, most_usual_case, usual_spacing_mm
from autofuse_engine.data.dataset import open_dataset
from autofuse_engine.data.dataset_problems import problems_of
from autofuse_engine.data.label_groups import LabelGroups, make_groups
from autofuse_engine.data.manifest import Manifest, PreparedCase, StoredArray, write_manifest
from autofuse_engine.data.preparation_folder import PreparationFolder
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.data.preprocessing import axes_towards
from autofuse_engine.data.step_records import keep, key_of, recall, source_key
from autofuse_engine.data.validation_split import with_validation_cases
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.errors import AutoFuseError, FileError, InputError
from autofuse_engine.events import Progress, Report, Warning, silent
from autofuse_engine.model_card import Preprocessing
from autofuse_engine.run_lock import RunLock

_STEPS = 1
"""Raised when a step gives other results than before, so that outcomes of older versions do not count."""
_LOOKED, _ALIGNED = 0.1, 0.6
_UNUSUAL_SCALE = 2.0
_LOCK = ".lock"


def prepare_dataset(
    path: str | Path,
    output: str | Path,
    config: PreparationConfig | None = None,
    *,
    report: Report = silent,
    jobs: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> PreparedDataset:
    """Prepare a dataset, or go on with it.

    Args:
        path: the dataset; see :func:`autofuse_engine.data.dataset.open_dataset`.
        output: folder for the result, made where absent; nothing else may lie there.
        config: how.
        report: receives progress and warnings.
        jobs: processes at once; None means as many as there are cores.
        cancelled: asked several times a second.

    Raises:
        InputError: ``dataset-has-errors``, ``dataset-cases-failed``, ``reference-unknown``, ``grid-too-large``,
            ``processes-lost``.
        FileError: ``prepared-locked``, ``output-not-empty``, ``output-not-writable``, ``disk-full``, or as
            :func:`open_dataset` says.
        CancelledError: if ``cancelled()`` became true; the next run goes on from there.
    """
    config = config or PreparationConfig()
    dataset = open_dataset(path)
    folder = PreparationFolder(Path(output), [case.name for case in dataset.cases])
    folder.make(dataset.root)
    with RunLock(folder.path / _LOCK, _preparation_holds), CasePool(jobs or usable_cores(), cancelled) as pool:
        folder.remove_halves()
        run = _Run(dataset, folder, config, report, pool)
        facts = run.look()
        run.plan(facts)
        run.align()
        run.choose_grid()
        run.finish(run.store())
    return PreparedDataset.open(output)


def _preparation_holds(folder: Path, who: str) -> FileError:
    return FileError(
        "prepared-locked",
        f"Another preparation writes to {folder} ({who}).",
        "Wait until it has ended, or choose another folder with -o.",
    )


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One of the three steps: how to do it for a case, and what to make of its outcome."""

    stage: str
    start: float
    end: float
    work: Callable[..., Any]


class _Run:
    """One run of a preparation; its methods are called in the order in which they stand."""

    def __init__(
        self,
        dataset: Dataset,
        folder: PreparationFolder,
        config: PreparationConfig,
        report: Report,
        pool: CasePool,
    ) -> None:
        self._dataset, self._folder, self._config = dataset, folder, config
        self._report, self._pool = report, pool
        self._source_keys = {case.name: source_key(case) for case in dataset.cases}

    def look(self) -> list[CaseFacts]:
        """Facts of every case, validation cases drawn; a dataset with errors goes no further."""
        tasks = {case.name: case for case in self._dataset.cases}
        keys = {name: key_of("look", _STEPS, self._source_keys[name]) for name in tasks}
        step = _Step(stage="check", start=0.0, end=_LOOKED, work=_look)
        kept = {name: (self._folder.record(name, "look"), key) for name, key in keys.items()}
        outcomes = self._each(step, {name: (tasks[name], *kept[name]) for name in tasks}, kept)
        facts = self._facts(outcomes)
        errors = [problem for problem in problems_of(self._dataset, facts) if problem.severity == "error"]
        if errors:
            more = f" There are {len(errors) - 1} more kinds of errors." if len(errors) > 1 else ""
            raise InputError(
                "dataset-has-errors",
                f"The dataset {self._dataset.root} has errors: {errors[0].text}{more}",
                f"{errors[0].hint} 'autofuse dataset check' lists everything.",
            )
        config = self._config
        self._dataset = with_validation_cases(
            self._dataset, config.validation_percent, config.seed, {case.name: case.image_sha256 for case in facts}
        )
        return self._facts(outcomes)

    def plan(self, facts: list[CaseFacts]) -> None:
        """Choose reference, spacing and label groups."""
        by_name = {case.name: case for case in self._dataset.cases}
        name = most_usual_case(facts) if self._config.reference == "auto" else self._config.reference
        if name not in by_name:
            raise InputError(
                "reference-unknown",
                f"The dataset has no case {name!r} that could be the reference.",
                f"Choose 'auto' or one of {', '.join(list(by_name)[:5])} ...",
            )
        self._reference = by_name[name]
        x, y, z = self._config.spacing_mm or usual_spacing_mm(facts, self._config.orientation)
        self._preprocessing = Preprocessing(
            spacing_mm=(x, y, z),
            orientation=self._config.orientation,
            intensity_percentiles=self._config.intensity_percentiles,
            intensity_window=self._config.intensity_window,
        )
        found = {value for case in facts for value in case.label_voxels or {}}
        self._groups = make_groups(found, self._dataset.label_names, self._config.label_rules)
        if self._config.label_rules is not None:
            ruled = {rule.old for rule in self._config.label_rules}
            if forgotten := sorted(found - ruled):
                shown = ", ".join(map(str, forgotten[:12])) + (" ..." if len(forgotten) > 12 else "")
                self._report(
                    Warning(
                        code="labels-dropped",
                        text=f"The table of labels does not name {shown}: they become background.",
                    )
                )

    def align(self) -> None:
        """Bring every case to the reference."""
        config = self._config
        reference_key = self._source_keys[self._reference.name]
        kept, tasks = {}, {}
        for case in self._dataset.cases:
            key = key_of(
                "align", _STEPS, self._source_keys[case.name], reference_key, config.alignment, config.orientation,
                config.seed, _plain(self._groups),
            )  # fmt: skip
            kept[case.name] = record, key = self._folder.record(case.name, "align"), key
            tasks[case.name] = AlignmentTask(
                source=case,
                reference=self._reference,
                alignment=config.alignment,
                orientation=config.orientation,
                groups=self._groups,
                seed=config.seed,
                record=record,
                key=key,
            )
        step = _Step(stage="initial alignment", start=_LOOKED, end=_ALIGNED, work=align_case)
        outcomes = self._each(step, tasks, kept)
        self._aligned = {name: AlignedCase.from_dict(outcome) for name, outcome in outcomes.items()}
        for name, aligned in self._aligned.items():
            scale = abs(float(np.linalg.det(aligned.matrix[:3, :3]))) ** (1 / 3)
            if not 1 / _UNUSUAL_SCALE < scale < _UNUSUAL_SCALE:
                self._report(
                    Warning(code="alignment-unusual", text=f"{name} was scaled by {1 / scale:.2f} to fit: look at it.")
                )

    def choose_grid(self) -> None:
        """The common grid, and whether it cuts labels off."""
        reference = self._reference.read_image()
        axes = axes_of(reference, self._config.orientation)
        spacing = reference.reordered(axes_towards(reference.ras_from_ijk, self._config.orientation)).spacing_mm
        boxes = [aligned.boxes for aligned in self._aligned.values()]
        self._grid = common_grid(boxes, axes, spacing, self._preprocessing.spacing_mm, self._config)
        cut = [
            name
            for name, aligned in self._aligned.items()
            if aligned.boxes.labelled is not None and not holds(self._grid, axes, aligned.boxes.labelled)
        ]
        if cut:
            self._report(
                Warning(code="labels-cut", text=f"The size cuts labels off in {len(cut)} cases, for instance {cut[0]}.")
            )

    def store(self) -> tuple[PreparedCase, ...]:
        """Write the arrays of every case that is not there yet."""
        kept, tasks = {}, {}
        for case in self._dataset.cases:
            matrix = self._aligned[case.name].matrix
            key = key_of(
                "store", _STEPS, self._source_keys[case.name], matrix.tolist(), list(self._grid.shape),
                self._grid.ras_from_ijk.tolist(), self._preprocessing.to_dict(), _plain(self._groups),
                self._folder.names[case.name],
            )  # fmt: skip
            kept[case.name] = record, key = self._folder.record(case.name, "store"), key
            tasks[case.name] = ArrayTask(
                source=case,
                case_from_grid_ras=matrix,
                grid=self._grid,
                preprocessing=self._preprocessing,
                groups=self._groups,
                folder=self._folder.path,
                file_name=self._folder.names[case.name],
                record=record,
                key=key,
            )
        bytes_per_voxel = 1 + self._groups.data_type.itemsize * bool(self._groups.names)
        self._folder.require_room(len(tasks) * math.prod(self._grid.shape) * bytes_per_voxel)
        step = _Step(stage="outputs", start=_ALIGNED, end=1.0, work=store_case)
        outcomes = self._each(step, tasks, kept, self._arrays_are_there)
        return tuple(self._prepared_case(case, outcomes[case.name]) for case in self._dataset.cases)

    def finish(self, cases: tuple[PreparedCase, ...]) -> None:
        """Write the manifest, then remove arrays and records of cases that the dataset no longer has."""
        manifest = Manifest(
            shape=self._grid.shape,
            grid_ras_from_ijk=tuple(tuple(row) for row in self._grid.ras_from_ijk.tolist()),
            preprocessing=self._preprocessing,
            config=self._config,
            cases=cases,
            labels=self._groups.label_names(),
            pairs=self._dataset.pairs,
            reference=self._reference.name,
            dataset={**self._dataset.about, "layout": self._dataset.layout},
        )
        write_manifest(self._folder.path, manifest)
        arrays = [array for case in cases for array in (case.image, case.labelmap) if array is not None]
        self._folder.remove_others(array.file for array in arrays)

    def _facts(self, outcomes: Mapping[str, Any]) -> list[CaseFacts]:
        return [
            replace(CaseFacts.from_dict(outcomes[case.name]), split=case.split, group=case.group)
            for case in self._dataset.cases
        ]

    def _each(
        self,
        step: _Step,
        tasks: Mapping[str, Any],
        kept: Mapping[str, tuple[Path, str]],
        is_good: Callable[[Any], bool] = lambda outcome: True,
    ) -> dict[str, Any]:
        """The outcome of a step for every case, from its record where that is valid."""
        outcomes: dict[str, Any] = {}
        for name, (record, key) in kept.items():
            outcome = recall(record, key)
            if outcome is not None and is_good(outcome):
                outcomes[name] = outcome
        names = [name for name in tasks if name not in outcomes]
        failed: dict[str, AutoFuseError] = {}
        if names:
            self._folder.invalidate()

        def done(index: int, outcome: Any) -> None:
            name = names[index]
            if isinstance(outcome, FileError) and outcome.code in ("disk-full", "output-not-writable"):
                raise outcome
            if isinstance(outcome, AutoFuseError):
                failed[name] = outcome
            else:
                outcomes[name] = outcome
            share = (len(outcomes) + len(failed)) / len(tasks)
            fraction = step.start + (step.end - step.start) * share
            self._report(Progress(stage=step.stage, fraction=fraction, text=name))

        self._pool.map(step.work, [tasks[name] for name in names], done)
        if failed:
            name, error = min(failed.items())
            raise InputError(
                "dataset-cases-failed",
                f"{len(failed)} of {len(tasks)} cases failed ({', '.join(sorted(failed)[:8])}). {name}: {error.text}",
                f"{error.hint} Cure or remove them and run again; what is done stays.",
            )
        return {name: outcomes[name] for name in tasks}

    def _arrays_are_there(self, outcome: Any) -> bool:
        return all(self._folder.holds(outcome[kind]) for kind in ("image", "labelmap"))

    def _prepared_case(self, case: CaseSource, outcome: Any) -> PreparedCase:
        labelmap = outcome["labelmap"]
        return PreparedCase(
            name=case.name,
            split=case.split,
            image=StoredArray(**outcome["image"]),
            labelmap=None if labelmap is None else StoredArray(**labelmap),
            group=case.group,
            frame=case.role,
            case_from_grid_ras=self._aligned[case.name].case_from_reference_ras,
            source={"image": case.image.name, "frame": case.frame, "facts": outcome.get("facts")},
        )


def _look(task: tuple[CaseSource, Path, str], cancelled: Callable[[], bool]) -> dict[str, Any]:
    source, record, key = task
    outcome = look_at_case(source).to_dict()
    keep(record, key, outcome)
    return outcome


def _plain(groups: LabelGroups) -> list[list[int]]:
    return sorted([old, new] for old, new in groups.new_of_old.items())
