"""Whether a search fits into the memory of its device, before it begins."""

from __future__ import annotations

import numpy as np
import torch

from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.memory import free_memory_bytes
from autofuse_engine.prediction import ReadyModel

_BYTES_PER_VOXEL = {"refinement": 900, "network": 700, "autofuse-trans": 1200}
_BYTES_PER_VOXEL_SEGMENTING, _BYTES_PER_VOXEL_AND_CLASS = 300, 12
_BYTES_PER_VOXEL_WITH_LABELS = 300


def require_memory(
    device: torch.device, model: ReadyModel | None, model_grid: Grid, grid: Grid, *, has_labels: bool
) -> None:
    """Raise where a search would not fit.

    Args:
        device: where it works.
        model: that is asked, or None.
        model_grid: where it sees the images.
        grid: of the refinement.
        has_labels: whether labels guide that.

    Raises:
        MemoryError: with what is needed and what is free.
    """
    kinds = ["refinement"] if model is None else ["refinement", "network", model.card.network.kind]
    per_voxel = max(_BYTES_PER_VOXEL.get(kind, 0) for kind in kinds)
    if model is not None and (classes := model.card.network.classes):
        per_voxel += _BYTES_PER_VOXEL_SEGMENTING + _BYTES_PER_VOXEL_AND_CLASS * classes
    refining = _BYTES_PER_VOXEL["refinement"] + _BYTES_PER_VOXEL_WITH_LABELS * has_labels
    need = max(float(np.prod(model_grid.shape)) * per_voxel, float(np.prod(grid.shape)) * refining)
    free = free_memory_bytes(device)
    if free is not None and need > free:
        raise MemoryError(f"about {need / 2**30:.1f} GiB needed, {free / 2**30:.1f} GiB free")
