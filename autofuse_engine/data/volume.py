"""A 3D image with its place in the patient: the one currency between files, Slicer and the engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import permutations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")


def map_points(matrix: NDArray, points: NDArray) -> NDArray[np.float64]:
    """Apply a 4x4 affine matrix to points ``(..., 3)``; the coordinate order is the matrix's, not the array's."""
    return np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


@dataclass(frozen=True, kw_only=True)
class AxisOrder:
    """Permutation and flips of voxel axes: new axis ``n`` is the old axis ``order[n]``, reversed if ``flips[n]``.

    Axes are counted i, j, k = 0, 1, 2.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @property
    def inverse(self) -> AxisOrder:
        """The order that undoes this one: array values come back bit for bit."""
        back = [self.order.index(axis) for axis in range(3)]
        return AxisOrder(order=_three(back), flips=_three(self.flips[axis] for axis in back))

    def reorder(self, array: NDArray) -> NDArray:
        """Permute and flip ``(D, H, W)`` or ``(D, H, W, C)``; a view, no value changes."""
        axes = [2 - self.order[2 - axis] for axis in range(3)]
        moved = array.transpose(*axes, *range(3, array.ndim))
        return moved[tuple(slice(None, None, -1 if self.flips[2 - axis] else 1) for axis in range(3))]

    def old_from_new_ijk(self, new_shape: tuple[int, ...]) -> NDArray[np.float64]:
        """4x4 map from new to old voxel indices; ``new_shape`` is ``(D, H, W)`` after :meth:`reorder`."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1.0
        for new_axis, old_axis in enumerate(self.order):
            flipped = self.flips[new_axis]
            matrix[old_axis, new_axis] = -1.0 if flipped else 1.0
            matrix[old_axis, 3] = new_shape[2 - new_axis] - 1 if flipped else 0.0
        return matrix


def canonical_axes(ras_from_ijk: NDArray) -> AxisOrder:
    """The order after which i, j, k run as closely as possible to right, anterior, superior.

    Of the six permutations the one with the largest sum of direction cosines wins; on a tie (45 degrees) the first.
    """
    directions = ras_from_ijk[:3, :3] / np.linalg.norm(ras_from_ijk[:3, :3], axis=0)
    order = max(permutations(range(3)), key=lambda p: sum(abs(directions[ras, ijk]) for ras, ijk in enumerate(p)))
    flips = _three(bool(directions[ras, ijk] < 0) for ras, ijk in enumerate(order))
    return AxisOrder(order=_three(order), flips=flips)


def _three(items: Iterable[Item]) -> tuple[Item, Item, Item]:
    first, second, third = items
    return first, second, third


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """Scalar array ``(D, H, W)`` (= k, j, i) and the map from its voxels to the patient.

    Attributes:
        array: ``(D, H, W)``; labelmaps are integer arrays.
        ras_from_ijk: 4x4, float64, mm; takes ``(i, j, k, 1)``, i fastest, to right-anterior-superior.
        name: what messages and outputs call the volume.
    """

    array: NDArray
    ras_from_ijk: NDArray[np.float64]
    name: str = "volume"

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a volume has the shape (D, H, W), received {self.array.shape}")
        object.__setattr__(self, "ras_from_ijk", np.array(self.ras_from_ijk, dtype=np.float64))
        if self.ras_from_ijk.shape != (4, 4):
            raise ValueError(f"ras_from_ijk is 4x4, received {self.ras_from_ijk.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(D, H, W)``."""
        depth, height, width = self.array.shape
        return depth, height, width

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """``(3,)`` in i, j, k order: length of each voxel axis."""
        return np.linalg.norm(self.ras_from_ijk[:3, :3], axis=0)

    @property
    def directions_ras(self) -> NDArray[np.float64]:
        """``(3, 3)``; column n is the unit vector of voxel axis i, j, k in RAS."""
        return self.ras_from_ijk[:3, :3] / self.spacing_mm

    @property
    def center_ras(self) -> NDArray[np.float64]:
        """``(3,)``, mm: the middle of the field of view."""
        return map_points(self.ras_from_ijk, (np.array(self.shape[::-1]) - 1) / 2)

    def with_array(self, array: NDArray, name: str | None = None) -> Volume:
        """The same place with other values; ``array`` has the same shape."""
        if array.shape != self.array.shape:
            raise ValueError(f"the new array has the shape {self.array.shape}, received {array.shape}")
        return replace(self, array=array, name=self.name if name is None else name)

    def reordered(self, axes: AxisOrder) -> Volume:
        """Permute and flip the voxel axes; every voxel keeps its value and its place in the patient.

        ``volume.reordered(canonical_axes(volume.ras_from_ijk))`` runs right, anterior, superior;
        ``.reordered(axes.inverse)`` brings the stored order back.
        """
        array = np.ascontiguousarray(axes.reorder(self.array))
        return replace(self, array=array, ras_from_ijk=self.ras_from_ijk @ axes.old_from_new_ijk(array.shape))

    def same_grid(self, other: Volume, tolerance_mm: float = 1e-3) -> bool:
        """True where both have one shape and corresponding voxels lie within the tolerance."""
        if self.shape != other.shape:
            return False
        extent = np.array([*reversed(self.shape), 1.0])
        difference = np.abs(self.ras_from_ijk - other.ras_from_ijk) @ extent
        return bool(difference[:3].max() <= tolerance_mm)
