"""Find where each voxel of the training cases lies in one reference case, so that a network can learn it.

Each case is registered with the reference once, by the refinement and guided by its labels where it has some: N
registrations tell of all N x N pairs, since two points that lie at one place of the reference belong together. A
network that learns from them begins where an unsupervised one arrives late (docs/decisions/0146).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.case_pool import CasePool, usable_cores
from autofuse_engine.configs import RefinementConfig, Similarity
from autofuse_engine.data.correspondences import FOLDER, FoundCase, make_folder, write_displacement, write_index
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.data.step_records import keep, key_of, recall
from autofuse_engine.errors import AutoFuseError, CancelledError, FileError, InputError
from autofuse_engine.events import Progress, Report, silent
from autofuse_engine.metrics import dice_per_label, mean_of
from autofuse_engine.model_card import sha256_of
from autofuse_engine.refinement import RefinementPair, refine
from autofuse_engine.run_lock import RunLock
from autofuse_engine.spatial.integrate import integrate, squarings_for
from autofuse_engine.validation import carried

STAGE = "correspondences"
_STEP = 1
"""Raised when the search gives other results than before, so that outcomes of older versions do not count."""
_LOCK = ".lock"
_AROUND_VOX = 2
_SEARCH = RefinementConfig(steps=40, finest_steps=10)


@dataclass(frozen=True, kw_only=True)
class CorrespondenceTask:
    """What a process needs to find one case in the reference."""

    folder: Path
    name: str
    reference: str
    similarity: Similarity
    record: Path
    key: str


def find_correspondences(
    folder: str | Path,
    reference: str = "auto",
    *,
    similarity: Similarity = "lncc",
    report: Report = silent,
    jobs: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, FoundCase]:
    """Find every training case of a prepared dataset in the reference, or go on with it.

    Args:
        folder: what ``autofuse dataset prepare`` made; the results are stored below it.
        reference: name of a case; ``auto`` takes that to which the preparation aligned all others.
        similarity: of the refinement.
        report: receives progress.
        jobs: processes at once; None means as many as there are cores.
        cancelled: asked several times a second.

    Returns:
        By name of the case.

    Raises:
        InputError: ``reference-unknown``, ``dataset-cases-failed``, ``processes-lost``.
        FileError: ``prepared-locked``, ``output-not-writable``, ``disk-full``, or as opening the dataset raises it.
        CancelledError: if ``cancelled()`` became true; the next run goes on from there.
    """
    dataset = PreparedDataset.open(folder)
    names = [case.name for case in dataset.cases]
    reference = dataset.manifest.reference if reference == "auto" else reference
    if reference not in names:
        raise InputError(
            "reference-unknown",
            f"The prepared dataset has no case {reference!r} that could be the reference.",
            f"Choose one of {', '.join(names[:5])} ...",
        )
    tasks = [
        _task(dataset, index, reference, similarity)
        for index, case in enumerate(dataset.cases)
        if case.split == "train"
    ]
    found: dict[str, FoundCase] = {}
    failed: dict[str, AutoFuseError] = {}
    with RunLock(dataset.folder / _LOCK, _someone_writes), CasePool(jobs or usable_cores(), cancelled) as pool:
        make_folder(dataset.folder)
        for task in tasks:
            if (known := _known(task)) is not None:
                found[task.name] = known
        todo = [task for task in tasks if task.name not in found]

        def done(index: int, outcome: FoundCase | AutoFuseError) -> None:
            name = todo[index].name
            if isinstance(outcome, FileError) and outcome.code in ("disk-full", "output-not-writable"):
                raise outcome
            if isinstance(outcome, AutoFuseError):
                failed[name] = outcome
            else:
                found[name] = outcome
            report(Progress(stage=STAGE, fraction=(len(found) + len(failed)) / len(tasks), text=name))

        pool.map(find_case, todo, done)
        if failed:
            name, error = min(failed.items())
            raise InputError(
                "dataset-cases-failed",
                f"{len(failed)} of {len(tasks)} cases failed ({', '.join(sorted(failed)[:8])}). {name}: {error.text}",
                f"{error.hint} Cure or remove them and run again; what is done stays.",
            )
        ordered = {task.name: found[task.name] for task in tasks}
        write_index(dataset, reference, ordered)
    return ordered


def find_case(task: CorrespondenceTask, cancelled: Callable[[], bool]) -> FoundCase:
    """Register one case (fixed) with the reference (moving), store the displacement, and keep a record of it.

    Raises:
        CancelledError: if ``cancelled()`` became true.
        FileError: as reading and writing raise them.
    """
    dataset = PreparedDataset.open(task.folder)
    case, reference = dataset.index_of(task.name), dataset.index_of(task.reference)
    labels = _labels(dataset, case), _labels(dataset, reference)
    displacement = torch.zeros(1, 3, *dataset.shape)
    if case != reference:
        pair = _pair(_image(dataset, case), _image(dataset, reference), labels)
        velocity = refine(pair, replace(_SEARCH, similarity=task.similarity), stop=cancelled).velocity_vox
        displacement = integrate(velocity, squarings_for(velocity))
    if cancelled():
        raise CancelledError
    outcome = FoundCase(
        displacement=write_displacement(dataset.folder, dataset.cases[case], displacement[0].numpy()),
        key=task.key,
        dice=None if labels[0] is None or labels[1] is None else _dice(labels[0], labels[1], displacement),
    )
    keep(task.record, task.key, asdict(outcome))
    return outcome


def _pair(fixed: Tensor, moving: Tensor, labels: tuple[NDArray | None, NDArray | None]) -> RefinementPair:
    """Both images lie on the common grid. What lies around the fixed foreground does not count."""
    weight = torch.nn.functional.max_pool3d((fixed > 0).float(), 2 * _AROUND_VOX + 1, 1, _AROUND_VOX)
    maps = [None if one is None else torch.from_numpy(one.astype(np.int64))[None, None] for one in labels]
    return RefinementPair(
        fixed=fixed,
        moving=moving,
        moving_from_fixed_vox=np.eye(4),
        moving_voxels_per_fixed=(1.0, 1.0, 1.0),
        fixed_weight=weight,
        labels=None if maps[0] is None or maps[1] is None else (maps[0], maps[1]),
    )


def _dice(fixed: NDArray, moving: NDArray, displacement: Tensor) -> tuple[float, float]:
    """Mean over the labels that both have, before and after."""
    shared = (set(np.unique(fixed).tolist()) & set(np.unique(moving).tolist())) - {0}
    before, after = (
        mean_of({label: value for label, value in dice_per_label(fixed, one).items() if label in shared})
        for one in (moving, carried(moving, displacement))
    )
    return float("nan") if before is None else before, float("nan") if after is None else after


def _image(dataset: PreparedDataset, index: int) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(dataset.image(index)))[None, None]


def _labels(dataset: PreparedDataset, index: int) -> NDArray | None:
    labels = dataset.labelmap(index)
    return None if labels is None else np.array(labels)


def _task(dataset: PreparedDataset, index: int, reference: str, similarity: Similarity) -> CorrespondenceTask:
    case, other = dataset.cases[index], dataset.cases[dataset.index_of(reference)]
    arrays = [array for one in (case, other) for array in (one.image, one.labelmap)]
    sums = [None if array is None else array.sha256 for array in arrays]
    return CorrespondenceTask(
        folder=dataset.folder,
        name=case.name,
        reference=reference,
        similarity=similarity,
        record=dataset.folder / FOLDER / f"{Path(case.image.file).stem}.json",
        key=key_of("correspond", _STEP, sums, _SEARCH.to_dict(), similarity),
    )


def _known(task: CorrespondenceTask) -> FoundCase | None:
    """What an earlier run found, where its file is still there, byte for byte."""
    with suppress(KeyError, TypeError, ValueError, OSError):
        outcome = recall(task.record, task.key)
        known = None if outcome is None else FoundCase.from_dict(outcome)
        if known is not None and sha256_of(task.folder / known.displacement.file) == known.displacement.sha256:
            return known
    return None


def _someone_writes(folder: Path, who: str) -> FileError:
    return FileError(
        "prepared-locked",
        f"Another program writes to {folder} ({who}).",
        "Wait until it has ended.",
    )
