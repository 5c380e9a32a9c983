"""Local volume change of a map, and how much of it folds."""

from __future__ import annotations

import torch
from torch import Tensor


def jacobian_determinant(displacement_vox: Tensor) -> Tensor:
    """Local volume change of the map ``x -> x + displacement(x)``; values <= 0 fold.

    Args:
        displacement_vox: ``(B, 3, D, H, W)``, voxels. Channel ``c`` moves along tensor axis ``c + 2``.

    Returns:
        ``(B, D-1, H-1, W-1)``, no unit; forward differences at the lower corner of each cell.

    Raises:
        ValueError: if the field does not have one channel per spatial axis.
    """
    if displacement_vox.ndim != 5 or displacement_vox.shape[1] != 3:
        raise ValueError(f"a field is (B, 3, D, H, W), received {tuple(displacement_vox.shape)}")
    corner = displacement_vox[:, :, :-1, :-1, :-1]
    along_0 = displacement_vox[:, :, 1:, :-1, :-1] - corner
    along_1 = displacement_vox[:, :, :-1, 1:, :-1] - corner
    along_2 = displacement_vox[:, :, :-1, :-1, 1:] - corner
    return determinant_3x3(along_0, along_1, along_2)


def determinant_3x3(along_0: Tensor, along_1: Tensor, along_2: Tensor) -> Tensor:
    """Determinant of ``identity + [along_0, along_1, along_2]`` (columns), each ``(B, 3, ...)``."""
    a, d, g = along_0[:, 0] + 1, along_0[:, 1], along_0[:, 2]
    b, e, h = along_1[:, 0], along_1[:, 1] + 1, along_1[:, 2]
    c, f, i = along_2[:, 0], along_2[:, 1], along_2[:, 2] + 1
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def folding(determinant: Tensor) -> tuple[float, int]:
    """Percent and number of cells whose determinant is not positive."""
    count = int(torch.count_nonzero(determinant <= 0))
    return 100.0 * count / max(1, determinant.numel()), count
