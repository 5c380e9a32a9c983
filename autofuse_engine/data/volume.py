"""A 3D image with its place in the patient: the one currency between files, Slicer and the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


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

    def with_array(self, array: NDArray, name: str | None = None) -> Volume:
        """The same place with other values; ``array`` has the same shape."""
        if array.shape != self.array.shape:
            raise ValueError(f"the new array has the shape {self.array.shape}, received {array.shape}")
        return replace(self, array=array, name=self.name if name is None else name)

    def same_grid(self, other: Volume, tolerance_mm: float = 1e-3) -> bool:
        """True where both have one shape and corresponding voxels lie within the tolerance."""
        if self.shape != other.shape:
            return False
        extent = np.array([*reversed(self.shape), 1.0])
        difference = np.abs(self.ras_from_ijk - other.ras_from_ijk) @ extent
        return bool(difference[:3].max() <= tolerance_mm)
