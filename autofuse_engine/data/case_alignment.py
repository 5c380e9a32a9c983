"""Aligns one case of a dataset to its reference, and finds out where its foreground then lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autofuse_engine.data.affine import align
from autofuse_engine.data.cases import CaseSource
from autofuse_engine.data.common_grid import Box, CaseBoxes, axes_of, boxes_of
from autofuse_engine.data.label_groups import LabelGroups
from autofuse_engine.data.step_records import keep
from autofuse_engine.dataset_configs import DatasetAlignment


@dataclass(frozen=True, kw_only=True)
class AlignmentTask:
    """What a process needs to align one case; the outcome is kept in ``record`` under ``key``."""

    source: CaseSource
    reference: CaseSource
    alignment: DatasetAlignment
    orientation: str
    groups: LabelGroups
    seed: int
    record: Path
    key: str


@dataclass(frozen=True, kw_only=True)
class AlignedCase:
    """``case_from_reference_ras`` (4x4, RAS, mm) takes points of the reference to points of the case."""

    case_from_reference_ras: tuple[tuple[float, ...], ...]
    boxes: CaseBoxes

    @classmethod
    def from_dict(cls, content: Any) -> AlignedCase:
        """Read back what ``asdict`` and JSON made of it."""
        shown, labelled = content["boxes"]["shown"], content["boxes"]["labelled"]
        matrix = tuple(tuple(row) for row in content["case_from_reference_ras"])
        boxes = CaseBoxes(
            shown=_box(shown),
            labelled=None if labelled is None else _box(labelled),
            filled=content["boxes"]["filled"],
        )
        return cls(case_from_reference_ras=matrix, boxes=boxes)

    @property
    def matrix(self) -> np.ndarray:
        """The same as an array."""
        return np.array(self.case_from_reference_ras)


def align_case(task: AlignmentTask, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Align, keep the outcome, and return it as a dictionary for :meth:`AlignedCase.from_dict`.

    Raises:
        InputError, FileError: as reading and :func:`align` raise them.
        CancelledError: if ``cancelled()`` became true.
    """
    image, labels = task.source.read_image(), task.source.read_labelmap()
    if labels is not None:
        labels = labels.with_array(task.groups.group(labels.array))
    reference = image if task.source == task.reference else task.reference.read_image()
    matrix = np.eye(4)
    if task.source != task.reference and task.alignment != "none":
        result = align(reference, image, task.alignment, seed=task.seed, cancelled=cancelled)
        matrix = result.moving_from_fixed_ras
    boxes = boxes_of(image, labels, axes_of(reference, task.orientation), matrix)
    aligned = AlignedCase(case_from_reference_ras=tuple(tuple(row) for row in matrix.tolist()), boxes=boxes)
    outcome = asdict(aligned)
    keep(task.record, task.key, outcome)
    return outcome


def _box(content: Any) -> Box:
    return Box(low_mm=tuple(content["low_mm"]), high_mm=tuple(content["high_mm"]))
