"""The one grid of a prepared dataset: which case it follows, and a box that holds what all cases show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.case_facts import CaseFacts
from autofuse_engine.data.preprocessing import Grid, axes_towards, foreground
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.dataset_configs import SIDE_MULTIPLE, PreparationConfig
from autofuse_engine.errors import InputError

_POINTS = 200_000
_STRAY_PERCENT = 0.5  # of a case's foreground voxels may lie outside of its box on each side
_STRAY_CASES_PERCENT = 2.0  # of the cases may reach beyond the common box on each side
_FACES_OF_A_CROP = 4
_MOST_VOXELS = 512**3
_SIDES = {letter: axis for axis, letters in enumerate(("RL", "AP", "SI")) for letter in letters}


@dataclass(frozen=True, kw_only=True)
class Box:
    """Lowest and highest position of a structure along the grid's axes i, j, k, mm from the reference's first voxel."""

    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class CaseBoxes:
    """What a case shows, and what its labels mark, where it has any.

    ``filled`` says that the foreground reaches the faces of the image, as in a crop: its box is then that of the
    field of view, which may end anywhere.
    """

    shown: Box
    labelled: Box | None = None
    filled: bool = False


def most_usual_case(facts: Sequence[CaseFacts]) -> str:
    """Name of the training case whose foreground is closest to the median size, axis by axis."""
    cases = [case for case in facts if case.split == "train" and case.extent_mm is not None and not case.has_error]
    extents = np.log(np.array([case.extent_mm for case in cases], dtype=np.float64))
    distances = np.linalg.norm(extents - np.median(extents, axis=0), axis=1).round(9)
    return min(zip(distances, cases, strict=True), key=lambda pair: (pair[0], pair[1].name))[1].name


def usual_spacing_mm(facts: Sequence[CaseFacts], orientation: str) -> tuple[float, float, float]:
    """Median spacing of the training cases along the axes of the prepared grid; rounded to 0.0001 mm."""
    rows = []
    for case in facts:
        if case.split == "train" and case.spacing_mm is not None and case.orientation is not None:
            by_side = {_SIDES[letter]: side for letter, side in zip(case.orientation, case.spacing_mm, strict=True)}
            rows.append([by_side[_SIDES[letter]] for letter in orientation])
    x, y, z = (round(float(side), 4) for side in np.median(rows, axis=0))
    return x, y, z


def axes_of(reference: Volume, orientation: str) -> NDArray[np.float64]:
    """4x4, RAS from millimetres along i, j, k of the prepared grid; its origin is the reference's first voxel.

    The grid runs along the reference's own axes, in the order and direction closest to ``orientation``.
    """
    oriented = reference.reordered(axes_towards(reference.ras_from_ijk, orientation))
    matrix = oriented.ras_from_ijk.copy()
    matrix[:3, :3] = oriented.directions_ras
    return matrix


def boxes_of(
    image: Volume,
    labels: Volume | None,
    ras_from_axes: NDArray[np.float64],
    case_from_reference_ras: NDArray[np.float64],
) -> CaseBoxes:
    """Where the foreground of an aligned case lies; ``labels`` holds only those that are kept."""
    axes_from_ijk = np.linalg.inv(ras_from_axes) @ np.linalg.inv(case_from_reference_ras) @ image.ras_from_ijk
    mask = foreground(image.array)
    low, high = np.percentile(map_points(axes_from_ijk, _sampled(mask)), (_STRAY_PERCENT, 100 - _STRAY_PERCENT), axis=0)
    marked = None
    if labels is not None and labels.array.any():
        corners = map_points(axes_from_ijk, _outermost(labels.array != 0))
        marked = Box(low_mm=_three(corners.min(axis=0)), high_mm=_three(corners.max(axis=0)))
    shown = Box(low_mm=_three(low), high_mm=_three(high))
    return CaseBoxes(shown=shown, labelled=marked, filled=_faces_reached(mask) >= _FACES_OF_A_CROP)


def common_grid(
    boxes: Sequence[CaseBoxes],
    ras_from_axes: NDArray[np.float64],
    reference_spacing_mm: NDArray[np.float64],
    spacing_mm: tuple[float, float, float],
    config: PreparationConfig,
) -> Grid:
    """The grid around all cases, or of the wished size about the middle of that box.

    The box leaves out what few cases show, and of crops what less than half of them show, but never a label. Where
    the spacing is that of the reference, voxels coincide with the reference's.

    Args:
        boxes: of every case.
        ras_from_axes: from :func:`axes_of`.
        reference_spacing_mm: ``(3,)`` along the grid's axes.
        spacing_mm: of the grid, along i, j, k.
        config: gives size and margin.

    Raises:
        InputError: ``grid-too-large``.
    """
    sides = [
        _common_sides([box.shown for box in boxes if box.filled == filled], 50.0 if filled else _STRAY_CASES_PERCENT)
        for filled in (False, True)
        if any(box.filled == filled for box in boxes)
    ]
    low, high = np.min([low for low, _ in sides], axis=0), np.max([high for _, high in sides], axis=0)
    for box in boxes:
        if box.labelled is not None:
            low, high = np.minimum(low, box.labelled.low_mm), np.maximum(high, box.labelled.high_mm)
    spacing = np.array(spacing_mm)
    size = config.size
    if size is None:
        voxels = (high - low) / spacing + 1 + 2 * config.margin_vox
        x, y, z = (SIDE_MULTIPLE * max(1, math.ceil((count - 1e-3) / SIDE_MULTIPLE)) for count in voxels)
        size = (x, y, z)
    if math.prod(size) > _MOST_VOXELS:
        raise InputError(
            "grid-too-large",
            f"The common grid would have {' x '.join(map(str, size))} voxels of "
            f"{' x '.join(f'{side:g}' for side in spacing_mm)} mm.",
            "Choose a coarser --spacing or a smaller --size; without alignment, check that the images lie together.",
        )
    first = (low + high) / 2 - (np.array(size) - 1) / 2 * spacing
    same = np.abs(spacing / reference_spacing_mm - 1) < 1e-3
    first = np.where(same, np.round(first / reference_spacing_mm) * reference_spacing_mm, first)
    matrix = ras_from_axes.copy()
    matrix[:3, 3] = map_points(ras_from_axes, first)
    matrix[:3, :3] = ras_from_axes[:3, :3] * spacing
    return Grid(shape=(size[2], size[1], size[0]), ras_from_ijk=matrix)


def holds(grid: Grid, ras_from_axes: NDArray[np.float64], box: Box) -> bool:
    """Whether a box lies within the grid, half a voxel beyond its outermost voxel centres."""
    low, high = (map_points(np.linalg.inv(ras_from_axes), map_points(grid.ras_from_ijk, corner)) for corner in (
        np.full(3, -0.5), np.array(grid.shape[::-1]) - 0.5
    ))  # fmt: skip
    return bool((np.array(box.low_mm) >= low).all() and (np.array(box.high_mm) <= high).all())


def _common_sides(boxes: Sequence[Box], stray_percent: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of a box beyond which so many percent of the boxes reach, on each side."""
    low = np.percentile([box.low_mm for box in boxes], stray_percent, axis=0)
    high = np.percentile([box.high_mm for box in boxes], 100 - stray_percent, axis=0)
    return low, high


def _faces_reached(mask: NDArray[np.bool_]) -> int:
    """On how many of the six faces of the image more than half of the voxels are foreground."""
    faces = (mask[0], mask[-1], mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1])
    return sum(float(face.mean()) > 0.5 for face in faces)


def _sampled(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices ``(N, 3)`` in i, j, k order of True voxels, on a coarser lattice where there are many."""
    step = max(1, math.ceil((mask.size / _POINTS) ** (1 / 3)))
    points = np.argwhere(mask[::step, ::step, ::step])[:, ::-1] * step
    return points if len(points) else np.argwhere(mask)[:, ::-1]


def _outermost(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices ``(N, 3)`` in i, j, k order of the first and last True voxel of each row along i: they span the rest."""
    k, j = np.nonzero(mask.any(axis=2))
    rows = mask[k, j]
    first = rows.argmax(axis=1)
    last = mask.shape[2] - 1 - rows[:, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([i, j, k], axis=1) for i in (first, last)])


def _three(values: NDArray) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 6) for value in values)
    return x, y, z
