"""Resamples one aligned case onto the common grid and stores it: the image as uint8, its labels as uint8 or uint16.

The image goes through the same steps as one that is registered: normalised, smoothed where the grid is coarser, looked
up trilinearly, zero outside. Labels are grouped first, then carried by a vote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofuse_engine.data.atomic import replacing
from autofuse_engine.data.cases import CaseSource
from autofuse_engine.data.image_measures import measure_image
from autofuse_engine.data.label_groups import LabelGroups
from autofuse_engine.data.manifest import StoredArray
from autofuse_engine.data.prepared import WHITE
from autofuse_engine.data.preprocessing import Grid, anti_aliasing_sigmas_vox, axes_towards, normalised
from autofuse_engine.data.resample import resample_image, resample_labels
from autofuse_engine.data.step_records import keep
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import CancelledError
from autofuse_engine.model_card import Preprocessing, sha256_of
from autofuse_engine.spatial.smooth import smooth_image


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayTask:
    """What a process needs to store one case below ``folder``; the outcome is kept in ``record`` under ``key``."""

    source: CaseSource
    case_from_grid_ras: NDArray[np.float64]
    grid: Grid
    preprocessing: Preprocessing
    groups: LabelGroups
    folder: Path
    file_name: str
    record: Path
    key: str


def store_case(task: ArrayTask, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Resample and write a case; returns ``{"image": ..., "labelmap": ..., "facts": ...}``.

    The first two are :class:`StoredArray` dictionaries, the last one tells what the image looks like.

    Raises:
        InputError, FileError: as reading and writing raise them.
        CancelledError: if ``cancelled()`` became true.
    """
    read = task.source.read_image()
    image = prepared_image(read, task.case_from_grid_ras, task.grid, task.preprocessing)
    if cancelled():
        raise CancelledError
    outcome: dict[str, Any] = {"image": _store(task, "images", image), "labelmap": None}
    outcome["facts"] = measure_image(read, task.preprocessing).to_dict()
    labels = task.source.read_labelmap()
    if labels is not None:
        outcome["labelmap"] = _store(
            task, "labels", prepared_labels(labels, task.case_from_grid_ras, task.grid, task.groups)
        )
    keep(task.record, task.key, outcome)
    return outcome


def prepared_image(
    image: Volume, case_from_grid_ras: NDArray[np.float64], grid: Grid, preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """``(D, H, W)`` of the grid; 0 to 255 stand for 0 to 1.

    Args:
        image: as read.
        case_from_grid_ras: 4x4, RAS, mm; takes points of the grid to points of the image.
        grid: of the prepared dataset.
        preprocessing: percentiles or window.
    """
    image = image.reordered(axes_towards(image.ras_from_ijk, preprocessing.orientation))
    values = normalised(image.array, preprocessing.intensity_percentiles, preprocessing.intensity_window)
    sigmas = anti_aliasing_sigmas_vox(grid.spacing_mm, image.spacing_mm)
    smoothed = smooth_image(torch.from_numpy(values)[None, None], sigmas)[0, 0].numpy()
    found = resample_image(image.with_array(smoothed), _transform(case_from_grid_ras), _place(grid), background=0.0)
    return np.rint(np.clip(found.array, 0, 1) * WHITE).astype(np.uint8)


def prepared_labels(
    labels: Volume, case_from_grid_ras: NDArray[np.float64], grid: Grid, groups: LabelGroups
) -> NDArray[np.integer]:
    """``(D, H, W)`` of the grid, values of the groups; arguments as :func:`prepared_image`."""
    grouped = labels.with_array(groups.group(labels.array))
    return resample_labels(grouped, _transform(case_from_grid_ras), _place(grid)).array


def _transform(matrix_ras: NDArray[np.float64]) -> SpatialTransform:
    return SpatialTransform(steps=(MatrixStep(matrix_ras=matrix_ras),))


def _place(grid: Grid) -> Volume:
    return Volume(array=np.zeros(grid.shape, np.uint8), ras_from_ijk=grid.ras_from_ijk)


def _store(task: ArrayTask, kind: str, array: NDArray) -> dict[str, Any]:
    path = task.folder / kind / f"{task.file_name}.npy"
    with replacing(path, array.nbytes) as temporary:
        np.save(temporary, array, allow_pickle=False)
        stored = StoredArray(
            file=f"{kind}/{path.name}", size_bytes=temporary.stat().st_size, sha256=sha256_of(temporary)
        )
    return asdict(stored)
