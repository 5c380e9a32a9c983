"""The segmentations that a semi-supervised model makes on the way, on the grids of the images that it segmented."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autofuse_engine.data.resample import resample_labels
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume
from autofuse_engine.search_records import Found


def segmentations(found: Found, fixed: Volume, moving: Volume) -> tuple[Volume | None, Volume | None]:
    """Labelmaps of the fixed and the moving image, uint8, each on its image's own grid; None without such a model.

    The model sees both images on its grid, the moving one under an alignment. Outside of that grid everything is
    background.

    Args:
        found: holds the classes on the model's grid, and that alignment.
        fixed: gives the grid.
        moving: likewise.
    """

    def on_image(classes: Tensor | None, image: Volume, grid_from_image_ras: NDArray) -> Volume | None:
        if classes is None:
            return None
        labels = Volume(array=classes.cpu().numpy(), ras_from_ijk=found.model_grid.ras_from_ijk, name="segmentation")
        transform = SpatialTransform(steps=(MatrixStep(matrix_ras=grid_from_image_ras),))
        carried = resample_labels(labels, transform, image)
        return carried.with_array(carried.array, f"{image.name} segmentation")

    return (
        on_image(found.fixed_classes, fixed, np.eye(4)),
        on_image(found.moving_classes, moving, np.linalg.inv(found.segmented_under_ras)),
    )
