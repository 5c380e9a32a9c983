"""Masks for a registration: a labelmap volume, or one segment of a segmentation, on the image's own grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.errors import InputError
from AutoFuseLib.ArrayFiles import writeArraySteps
from AutoFuseLib.Geometry import Grid
from AutoFuseLib.SegmentLayers import rankSlabs
from AutoFuseLib.Steps import Steps
from AutoFuseLib.Volumes import labelSlabs, specOf


def exportMaskSteps(node: Any, segmentId: str | None, reference: Grid, path: Path) -> Steps[dict[str, Any]]:
    """Write a mask (uint8, 1 inside) on the grid of the image, nearest voxel.

    Args:
        node: vtkMRMLLabelMapVolumeNode (every label above or below zero is inside), or vtkMRMLSegmentationNode.
        segmentId: the segment; None with a labelmap.
        reference: the grid of the exported image.
        path: the ``.npy`` file; its folder exists.

    Returns:
        As :func:`AutoFuseLib.Volumes.exportVolumeSteps`.

    Raises:
        InputError: ``mask-empty`` where nothing of it lies inside of the image; ``segment-not-convertible``.
        FileError: ``disk-full`` or ``output-not-writable``.
    """
    if segmentId is None:
        name = node.GetName()
        source: Iterator[NDArray | None] = labelSlabs(node, reference)
    else:
        name = f"{node.GetSegmentation().GetSegment(segmentId).GetName()} of {node.GetName()}"
        source = rankSlabs(node, [segmentId], reference)
    count = 0

    def inside() -> Iterator[NDArray | None]:
        nonlocal count
        for slab in source:
            mask = None if slab is None else (slab != 0).astype(np.uint8)
            count += 0 if mask is None else int(mask.sum(dtype=np.int64))
            yield mask

    yield from writeArraySteps(path, reference.shape, np.uint8, inside())
    if not count:
        path.unlink(missing_ok=True)
        raise InputError(
            "mask-empty",
            f"The mask {name} is empty inside of the image.",
            "Mark the region to register, or leave the mask out.",
        )
    return specOf(path, reference, name)
